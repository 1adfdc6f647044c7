"""What a person sees of `taut plan`: what to buy, what it will give, and what the next money buys.

Everything is read from the plain document `taut.plan/1`; nothing is computed here.
"""

import io
from collections.abc import Mapping
from html import escape

from rich.console import Console, RenderableType

from taut.report import wording
from taut.report.digits import count, decimals_for, level_text, near, percent, short, up
from taut.report.terminal.certificate import LABEL, NUMBER, PROSE, Report, _grid, _heading, _spaced
from taut.report.terminal.charts import Chart, Ink, Line, axis_for
from taut.report.wording import look, number

_VALUES = {"reward": "true reward", "clipped": "clipped objective", "objective": "true objective"}
_ROUTES = {
    "gold": "gold labels on the policy's own rollouts",
    "declared": "declared coverage and the reward model's error",
    "learned": "none: it speaks of the learned reward alone",
}


def plan_report(document: Mapping) -> RenderableType:
    """Return the report of a plan.

    Args:
        document: The JSON contract `taut.plan/1`.
    """
    return Report(lambda ink: _plan(document, ink))


def plan_text(document: Mapping, *, width: int = 100) -> str:
    """Return the report of a plan as plain text, without colour.

    Args:
        document: The JSON contract `taut.plan/1`.
        width: Cells in a line.
    """
    page = io.StringIO()
    Console(file=page, width=width, highlight=False, emoji=False, no_color=True).print(
        plan_report(document)
    )
    return page.getvalue().strip("\n")


def plan_html(document: Mapping) -> str:
    """Return a plan as a piece of HTML for notebooks: what to buy, and what more money buys."""
    digits = _digits(document)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for row in _marginal_rows(document, digits)
    )
    basis = "".join(
        f"<li>{escape(str(item.get('kind')))}: {escape(str(item.get('text')))}</li>"
        for item in _basis(document)
    )
    return (
        f"<div><p><b>{escape(_purchase(document))}</b><br>{escape(_promise(document))}</p>"
        f"<table><tr><th>next {escape(_money(document, number(document, 'marginal.step')))}</th>"
        f"<th>buys</th><th>width</th><th></th></tr>{rows}</table>"
        f"<details><summary>What it rests on</summary><ul>{basis}</ul></details></div>"
    )


def draw_plan(document: Mapping, axes) -> None:
    """Draw width over budget and, where K may vary, over K, with the plan marked.

    Args:
        document: The JSON contract `taut.plan/1`.
        axes: As many matplotlib axes as `plot_panels` says: one, or an array of two.
    """
    from taut.report.plot import INK

    if plot_panels(document) == 1:
        axes = (axes,)
    else:
        _draw_rollouts(document, axes[1])
    _draw_budgets(document, axes[0])
    for ax in axes:
        ax.tick_params(colors=INK)


def plot_panels(document: Mapping) -> int:
    """Return how many panels `draw_plan` fills: width over K is no curve if only one K is open."""
    return 2 if len(_points(document, "by_rollouts", "rollouts")) > 1 else 1


def _draw_budgets(document: Mapping, over_budget) -> None:
    from taut.report.plot import ACCENT, QUIET, WARM

    unit = str(look(document, "costs.unit"))
    budgets = _points(document, "by_budget", "budget")
    over_budget.plot(*zip(*budgets, strict=True), color=ACCENT, marker="o", markersize=3)
    low, high = (number(document, f"forecast.{name}") for name in ("lower", "upper"))
    middle = number(document, "forecast.width")
    over_budget.errorbar(
        [number(document, "budget")],
        [middle],
        yerr=[[middle - low], [high - middle]],
        color=WARM,
        marker="D",
        capsize=4,
        label=f"this plan, {percent(number(document, 'forecast.bar_level') or 0.9)} bar",
    )
    if (asked := number(document, "asked.width")) is not None:
        over_budget.axhline(asked, color=QUIET, linestyle=":", label=f"asked: {asked:g}")
    over_budget.set(xlabel=f"budget, {unit}", ylim=(0, None))
    over_budget.set_ylabel("forecast width, reward units")
    over_budget.legend()


def _draw_rollouts(document: Mapping, over_rollouts) -> None:
    from taut.report.plot import ACCENT, QUIET, WARM

    chosen = look(document, "plan")
    rollouts = _points(document, "by_rollouts", "rollouts")
    over_rollouts.plot(*zip(*rollouts, strict=True), color=ACCENT, marker="o", markersize=3)
    over_rollouts.plot([chosen["rollouts"]], [chosen["width"]], "D", color=WARM, label="this plan")
    paper = number(document, "paper.rollouts")
    if paper is not None and paper <= rollouts[-1][0]:
        over_rollouts.axvline(paper, color=QUIET, linestyle=":", label=f"paper's K* = {paper:g}")
    over_rollouts.set(xlabel="rollouts per prompt, K", ylim=(0, None))
    over_rollouts.xaxis.get_major_locator().set_params(integer=True)
    over_rollouts.legend()


def _points(document: Mapping, name: str, across: str) -> list[tuple[float, float]]:
    rows = [row for row in look(document, name) or [] if isinstance(row, Mapping)]
    return [(row[across], row["width"]) for row in rows]


def _plan(document: Mapping, ink: Ink) -> list[RenderableType]:
    sections = (_verdict, _marginal, _picture, _alternatives, _spread, _foundations)
    return _spaced([section(document, ink) for section in sections])


def _digits(document: Mapping) -> int:
    return decimals_for(number(document, "forecast.width"), steps=50)


def _money(document: Mapping, amount: float | None) -> str:
    return "–" if amount is None else f"{_plain(amount)} {look(document, 'costs.unit')}"


def _plain(amount: float) -> str:
    """Return money as text: whole where it is large."""
    return f"{amount:,.0f}" if amount >= 1000 else f"{amount:.4g}"


def _purchase(document: Mapping) -> str:
    """Return what to buy, in one sentence."""
    return f"Buy {_bought(look(document, 'plan'))}."


def _bought(plan: object) -> str:
    if not isinstance(plan, Mapping):
        return "nothing"
    rollouts = f"{plan['rollouts']:,} rollout{'' if plan['rollouts'] == 1 else 's'} of each"
    parts = [f"{count(plan['prompts'], 'prompt')} with {rollouts}"]
    if plan["labels"]:
        each = plan["labels"] // plan["labelled"]
        where = (
            "all prompts"
            if plan["labelled"] == plan["prompts"]
            else f"{plan['labelled']:,} of the prompts"
        )
        rows = "one a prompt" if each == 1 else f"{each} a prompt"
        parts.append(f"{count(plan['labels'], 'gold label')} ({rows}, on {where})")
    if plan["route"] == "declared":
        parts.append(f"{count(plan['pairs'], 'preference pair')} in all")
    return " and ".join(parts)


def _promise(document: Mapping) -> str:
    """Return the forecast, with its error bar and what it will be worth."""
    digits = _digits(document)
    width, low, high = (
        number(document, f"forecast.{name}") for name in ("width", "lower", "upper")
    )
    level = level_text(number(document, "level") or 0.95)
    bar = percent(number(document, "forecast.bar_level") or 0.9)
    status = look(document, "forecast.status")
    what = _VALUES[wording.target_of(document)]
    if look(document, "plan.route") == "learned":
        what = what.replace("true", "learned").replace("clipped", "learned clipped")
        what = f"{what}, at {level}"
    else:
        what = f"{what}, at {level}; the audit of a log as clean would call it {status}"
    return (
        f"Forecast: an interval {near(width, digits)} wide ({bar} of the time {near(low, digits)} "
        f"to {near(high, digits)}) for the {what}."
    )


def _verdict(document: Mapping, ink: Ink) -> list[RenderableType]:
    cost, budget = number(document, "plan.cost"), number(document, "budget")
    lines = [ink.text(_purchase(document), "bold"), ink.text(_promise(document))]
    paid = f"It costs {_money(document, cost)}"
    paid += "." if cost >= budget * (1 - 1e-6) else f" of {_plain(budget)}."
    lines.append(ink.text(paid, "dim"))
    if look(document, "plan.route") == "learned":
        lines.append(
            ink.text("It says nothing about the true reward: that takes gold labels.", "bold")
        )
    elif _says_nothing(document):
        lines.append(ink.text("It will hardly say more than is known without any data.", "bold"))
    return lines + [ink.text(text) for text in _asked(document)]


def _says_nothing(document: Mapping) -> bool:
    bounds = look(document, "settings.reward_range")
    width = number(document, "forecast.width")
    return bool(bounds) and width >= 0.95 * (bounds[1] - bounds[0])


def _asked(document: Mapping) -> list[str]:
    width = number(document, "asked.width")
    if width is None:
        return []
    found = look(document, "asked.plan")
    if not isinstance(found, Mapping):
        floor = number(document, "asked.never_below")
        least = "" if floor is None else f": the forecast does not fall below {up(floor, 4)}"
        return [f"No budget buys a width of {short(width)}{least}."]
    return [
        f"A width of {short(width)} costs {_money(document, found['cost'])} at the least: "
        f"{_bought(found)}."
    ]


def _marginal_rows(document: Mapping, digits: int) -> list[tuple[str, str, str, str]]:
    rows = []
    for row in look(document, "marginal.resources") or []:
        amount = row.get("amount")
        bought = "all anew" if amount is None else f"+{_amount(amount)}"
        change = near(row["change"], min(digits + 2, 6), signed=True)
        note = str(row.get("note") or "")
        if amount == 0.0 and note:
            bought, change = "–", "–"
        rows.append((str(row["resource"]), bought, change, note))
    return rows


def _amount(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.2g}"


def _marginal(document: Mapping, ink: Ink) -> list[RenderableType]:
    step = _money(document, number(document, "marginal.step"))
    columns = 4 if ink.wide else 3
    table = _grid(*(LABEL, NUMBER, NUMBER, LABEL)[:columns], gap=2)
    titles = ("spent on", "buys", "width", "")
    table.add_row(*(ink.text(title, "dim") for title in titles[:columns]))
    rows = _marginal_rows(document, _digits(document))
    for at, row in enumerate(rows):
        styles = ("bold" if at == 0 else "",) * 3 + ("dim",)
        cells = zip(row[:columns], styles, strict=False)
        table.add_row(*(ink.text(cell, style) for cell, style in cells))
    best = rows[0] if rows else None
    lines: list[RenderableType] = [_heading(ink, f"The next {step}", "reward units")]
    if best and best[1] != "–":
        lines.append(ink.text(f"are best spent on {best[0]}: {best[2]}."))
    lines.append(table)
    if columns == 3:
        # No room beside the numbers: the reasons stand below.
        lines += [ink.text(f"{row[0]}: {row[3]}", "dim") for row in rows if row[3]]
    return lines


def _picture(document: Mapping, ink: Ink) -> list[RenderableType]:
    points = _points(document, "by_budget", "budget")
    if len(points) < 2:
        return []
    here = (number(document, "budget"), number(document, "forecast.width"))
    heights = [height for _, height in points] + [number(document, "forecast.upper"), 0.0]
    bar = [(here[0], number(document, f"forecast.{name}")) for name in ("lower", "upper")]
    lines = [Line(points, "cyan"), Line(bar, "yellow")]
    if (asked := number(document, "asked.width")) is not None:
        lines.append(Line([(points[0][0], asked), (points[-1][0], asked)], "dim"))
    chart = Chart(
        ink,
        axis_for([budget for budget, _ in points]),
        axis_for([height for height in heights if height is not None]),
        lines,
        across_name=f"budget, {look(document, 'costs.unit')}",
        up_name="forecast width, reward units; the upright line is this plan and its error bar",
    )
    return [_heading(ink, "Best plan at each budget"), chart]


def _alternatives(document: Mapping, ink: Ink) -> list[RenderableType]:
    rows = [row for row in look(document, "by_rollouts") or [] if isinstance(row, Mapping)]
    if len(rows) < 2:
        return _paper_lines(document, ink)
    digits, best = _digits(document), look(document, "plan.rollouts")
    shown = [row for row in rows if row["rollouts"] in {1, 2, 3, 4, 6, 8, 12, best}]
    table = _grid(NUMBER, NUMBER, NUMBER, NUMBER, LABEL, gap=2)
    titles = ("K", "prompts", "labels", "width", "")
    table.add_row(*(ink.text(title, "dim") for title in titles))
    marks = {best: "this plan"}
    for key, name in (("rollouts_by_variance", "by variances"), ("rollouts", "the paper's K*")):
        k = look(document, f"paper.{key}")
        marks[k] = f"{marks[k]}, {name}" if k in marks else name
    for row in shown:
        cells = (
            f"{row['rollouts']}",
            f"{row['prompts']:,}",
            f"{row['labels']:,}",
            near(row["width"], digits),
            marks.get(row["rollouts"], ""),
        )
        style = "bold" if row["rollouts"] == best else ""
        table.add_row(*(ink.text(cell, style) for cell in cells))
    return [
        _heading(ink, "Best plan at each K", "same budget"),
        table,
        *_paper_lines(document, ink),
    ]


def _paper_lines(document: Mapping, ink: Ink) -> list[RenderableType]:
    paper = look(document, "paper")
    if not isinstance(paper, Mapping):
        return []
    second = paper["rollouts_by_variance"]
    by_variance = "not to be had" if second is None else f"{second}"
    text = f"The paper's rules: K* = {paper['rollouts']} by costs"
    text += f", {by_variance} by costs and variances"
    if paper["rollout_share"] < 1:
        how = "in closed form" if paper["closed_form"] else "by search"
        text += f"; {percent(paper['rollout_share'])} of the money on rollouts ({how})"
    half = number(document, "paper.half_width")
    if half is not None:
        text += f"; its own bound for that is ±{short(half)}"
    return [ink.text(text + ".", "dim")]


def _spread(document: Mapping, ink: Ink) -> list[RenderableType]:
    lines: list[RenderableType] = []
    names = {"objective": "learned reward less KL cost", "residual": "gold less what λ forecasts"}
    if wording.target_of(document) == "reward":
        names["objective"] = "learned reward"
    for key, name in names.items():
        entry = look(document, f"components.{key}")
        if not isinstance(entry, Mapping):
            continue
        prompt, rollout = (number(entry, part) for part in ("prompt", "rollout"))
        if not entry.get("identified"):
            lines.append(ink.text(f"{name}: {short(prompt)} in all, not to be split"))
            continue
        share = percent(prompt / (prompt + rollout)) if prompt + rollout > 0 else "none"
        lines.append(
            ink.text(
                f"{name}: {short(prompt)} between prompts, {short(rollout)} within "
                f"({share} between)" + (", cut at 0" if entry.get("cut") else "")
            )
        )
    weight = number(document, "forecast.weight")
    if weight is not None:
        lines.append(ink.text(f"weight of the learned reward beside gold: λ = {short(weight)}"))
    return [_heading(ink, "Variances", "reward range taken as 1"), *lines] if lines else []


def _basis(document: Mapping) -> list[Mapping]:
    return [item for item in look(document, "rests_on") or [] if isinstance(item, Mapping)]


def _foundations(document: Mapping, ink: Ink) -> list[RenderableType]:
    table = _grid(LABEL, PROSE, gap=2)
    for item in _basis(document):
        table.add_row(ink.text(item.get("kind"), "dim"), ink.text(item.get("text")))
    lines: list[RenderableType] = [_heading(ink, "What it rests on"), table]
    return [*lines, ink.text(""), ink.text("Then"), ink.text(look(document, "audit"), "bold")]
