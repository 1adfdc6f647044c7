"""What a person sees of `taut plan`: what to buy, what it will give, and what the next money buys.

Nothing is computed here.
"""

from rich.console import RenderableType

from taut.decisions.budget.components import Components
from taut.decisions.budget.result import Plan, Priced
from taut.report.digits import count, decimals_for, level_text, near, percent, short, up
from taut.report.terminal.charts import Chart, Ink, Line, axis_for
from taut.report.terminal.layout import (
    LABEL,
    NUMBER,
    PROSE,
    Report,
    grid,
    heading,
    spaced,
    titled,
)

_VALUES = {"reward": "true reward", "clipped": "clipped objective", "objective": "true objective"}
_SHOWN = (1, 2, 3, 4, 6, 8, 12)  # K


def plan_report(found: Plan) -> RenderableType:
    """Return the report of a plan."""
    return Report(lambda ink: _plan(found, ink))


def _plan(found: Plan, ink: Ink) -> list[RenderableType]:
    sections = (_verdict, _marginal, _picture, _alternatives, _spread, _foundations)
    return spaced([section(found, ink) for section in sections])


def _digits(found: Plan) -> int:
    return decimals_for(found.forecast.width, steps=50)


def money(found: Plan, amount: float) -> str:
    """Return money as text, with its unit."""
    return f"{_plain(amount)} {found.costs.unit}"


def _plain(amount: float) -> str:
    """Return money as text: whole where it is large."""
    return f"{amount:,.0f}" if amount >= 1000 else f"{amount:.4g}"


def purchase(plan: Priced) -> str:
    """Return what to buy."""
    rollouts = f"{plan.rollouts:,} rollout{'' if plan.rollouts == 1 else 's'} of each"
    parts = [f"{count(plan.prompts, 'prompt')} with {rollouts}"]
    if plan.labels:
        each = plan.labels // plan.labelled
        everywhere = plan.labelled == plan.prompts
        where = "all prompts" if everywhere else f"{plan.labelled:,} of the prompts"
        rows = "one a prompt" if each == 1 else f"{each} a prompt"
        parts.append(f"{count(plan.labels, 'gold label')} ({rows}, on {where})")
    if plan.route == "declared":
        parts.append(f"{count(plan.pairs, 'preference pair')} in all")
    return " and ".join(parts)


def promise(found: Plan) -> str:
    """Return the forecast, with its error bar and what it will be worth."""
    digits, forecast = _digits(found), found.forecast
    what, level = _VALUES[found.target], level_text(found.level)
    if found.chosen.route == "learned":
        what = what.replace("true", "learned").replace("clipped", "learned clipped")
        what = f"{what}, at {level}"
    else:
        what = f"{what}, at {level}; the audit of a log as clean would call it {forecast.status}"
    width, low, high = (
        near(value, digits) for value in (forecast.width, forecast.lower, forecast.upper)
    )
    return (
        f"Forecast: an interval {width} wide ({percent(forecast.bar_level)} of the time {low} to "
        f"{high}) for the {what}."
    )


def _verdict(found: Plan, ink: Ink) -> list[RenderableType]:
    cost, budget = found.chosen.cost, found.budget
    lines = [ink.text(f"Buy {purchase(found.chosen)}.", "bold"), ink.text(promise(found))]
    paid = f"It costs {money(found, cost)}"
    paid += "." if cost >= budget * (1 - 1e-6) else f" of {_plain(budget)}."
    lines.append(ink.text(paid, "dim"))
    if found.chosen.route == "learned":
        text = "It says nothing about the true reward: that takes gold labels."
        lines.append(ink.text(text, "bold"))
    elif says_nothing(found):
        lines.append(ink.text("It will hardly say more than is known without any data.", "bold"))
    return lines + [ink.text(text) for text in asked_lines(found)]


def says_nothing(found: Plan) -> bool:
    """Whether the forecast interval is about as wide as the range itself."""
    low, high = found.settings.reward_range
    return found.forecast.width >= 0.95 * (high - low)


def asked_lines(found: Plan) -> list[str]:
    """Say what a width that was asked for costs; nothing where none was."""
    asked = found.asked
    if asked is None:
        return []
    if asked.plan is None:
        floor = asked.never_below
        least = "" if floor is None else f": the forecast does not fall below {up(floor, 4)}"
        return [f"No budget buys a width of {short(asked.width)}{least}."]
    return [
        f"A width of {short(asked.width)} costs {money(found, asked.plan.cost)} at the least: "
        f"{purchase(asked.plan)}."
    ]


def marginal_rows(found: Plan) -> list[tuple[str, str, str, str]]:
    """Return what the next money buys, as texts: resource, amount, change of width, note."""
    rows, digits = [], min(_digits(found) + 2, 6)
    for row in found.marginal.resources:
        bought = "all anew" if row.amount is None else f"+{_amount(row.amount)}"
        change = near(row.change, digits, signed=True)
        if row.amount == 0.0 and row.note:
            bought, change = "–", "–"
        rows.append((row.resource, bought, change, row.note))
    return rows


def _amount(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.2g}"


def _marginal(found: Plan, ink: Ink) -> list[RenderableType]:
    rows = marginal_rows(found)
    columns = (("spent on", LABEL), ("buys", NUMBER), ("width", NUMBER), ("", LABEL))
    styles = [("bold" if at == 0 else "",) * 3 + ("dim",) for at in range(len(rows))]
    cells = [
        [ink.text(cell, style) for cell, style in zip(row, row_styles, strict=True)]
        for row, row_styles in zip(rows, styles, strict=True)
    ]
    shown = 4 if ink.wide else 3
    table = titled(ink, columns[:shown], [row[:shown] for row in cells])
    best = rows[0]
    step = money(found, found.marginal.step)
    lines: list[RenderableType] = [heading(ink, f"The next {step}", "reward units")]
    if best[1] != "–":
        lines.append(ink.text(f"are best spent on {best[0]}: {best[2]}."))
    lines.append(table)
    if shown == 3:
        # No room beside the numbers: the reasons stand below.
        lines += [ink.text(f"{row[0]}: {row[3]}", "dim") for row in rows if row[3]]
    return lines


def _picture(found: Plan, ink: Ink) -> list[RenderableType]:
    points, forecast = [(row.budget, row.width) for row in found.by_budget], found.forecast
    if len(points) < 2:
        return []
    bar = [(found.budget, forecast.lower), (found.budget, forecast.upper)]
    lines = [Line(points, "cyan"), Line(bar, "yellow")]
    if found.asked is not None:
        asked = found.asked.width
        lines.append(Line([(points[0][0], asked), (points[-1][0], asked)], "dim"))
    chart = Chart(
        ink,
        axis_for([budget for budget, _ in points]),
        axis_for([*(height for _, height in points), forecast.upper, 0.0]),
        lines,
        across_name=f"budget, {found.costs.unit}",
        up_name="forecast width, reward units; the upright line is this plan and its error bar",
    )
    return [heading(ink, "Best plan at each budget"), chart]


def _alternatives(found: Plan, ink: Ink) -> list[RenderableType]:
    if len(found.by_rollouts) < 2:
        return _paper_lines(found, ink)
    digits, best, marks = _digits(found), found.chosen.rollouts, marks_of(found)
    rows = []
    for row in found.by_rollouts:
        if row.rollouts not in (*_SHOWN, best):
            continue
        cells = (
            f"{row.rollouts}",
            f"{row.prompts:,}",
            f"{row.labels:,}",
            near(row.width, digits),
            marks.get(row.rollouts, ""),
        )
        style = "bold" if row.rollouts == best else ""
        rows.append([ink.text(cell, style) for cell in cells])
    columns = [(name, NUMBER) for name in ("K", "prompts", "labels", "width")]
    title = heading(ink, "Best plan at each K", "same budget")
    return [title, titled(ink, [*columns, ("", PROSE)], rows), *_paper_lines(found, ink)]


def marks_of(found: Plan) -> dict[int | None, str]:
    """Return what is worth saying of some K."""
    marks: dict[int | None, str] = {found.chosen.rollouts: "this plan"}
    paper = found.paper
    rules = ((paper.rollouts_by_variance, "by variances"), (paper.rollouts, "the paper's K*"))
    for k, name in rules:
        marks[k] = f"{marks[k]}, {name}" if k in marks else name
    return marks


def _paper_lines(found: Plan, ink: Ink) -> list[RenderableType]:
    return [ink.text(paper_text(found), "dim")]


def paper_text(found: Plan) -> str:
    """Say what the paper's own rules would buy."""
    paper = found.paper
    second = paper.rollouts_by_variance
    by_variance = "not to be had" if second is None else f"{second}"
    text = f"The paper's rules: K* = {paper.rollouts} by costs"
    text += f", {by_variance} by costs and variances"
    if paper.rollout_share < 1:
        how = "in closed form" if paper.closed_form else "by search"
        text += f"; {percent(paper.rollout_share)} of the money on rollouts ({how})"
    if paper.half_width is not None:
        text += f"; its own bound for that is ±{short(paper.half_width)}"
    return f"{text}."


def _spread(found: Plan, ink: Ink) -> list[RenderableType]:
    title = heading(ink, "Variances", "reward range taken as 1")
    return [title, *map(ink.text, spread_lines(found))]


def spread_lines(found: Plan) -> list[str]:
    """Say how the values vary between and within prompts."""
    name = "learned reward" if found.target == "reward" else "learned reward less KL cost"
    entries = ((name, found.components.objective),
               ("gold less what λ forecasts", found.components.residual))  # fmt: skip
    lines = [_spread_text(name, entry) for name, entry in entries if entry is not None]
    if found.forecast.weight is not None:
        weight = short(found.forecast.weight)
        lines.append(f"weight of the learned reward beside gold: λ = {weight}")
    return lines


def _spread_text(name: str, entry: Components) -> str:
    prompt, rollout = entry.prompt, entry.rollout
    if not entry.identified:
        return f"{name}: {short(prompt)} in all, not to be split"
    share = percent(prompt / (prompt + rollout)) if prompt + rollout > 0 else "none"
    return f"{name}: {short(prompt)} between prompts, {short(rollout)} within ({share} between)" + (
        ", cut at 0" if entry.cut else ""
    )


def _foundations(found: Plan, ink: Ink) -> list[RenderableType]:
    table = grid(LABEL, PROSE)
    for item in found.rests_on:
        table.add_row(ink.text(item.kind, "dim"), ink.text(item.text))
    lines: list[RenderableType] = [heading(ink, "What it rests on"), table]
    return [*lines, ink.text(""), ink.text("Then"), ink.text(found.audit, "bold")]
