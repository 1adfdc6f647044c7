"""What a person sees of `taut tau`: the threshold first, then the curve and what constants do.

Everything is read from the plain document `taut.threshold/1`; nothing is computed here.
"""

import io
from collections.abc import Mapping, Sequence
from html import escape

from rich.console import Console, RenderableType

from taut.report import wording
from taut.report.digits import count, decimals_for, level_text, near, percent, plus_minus, short, up
from taut.report.plot import ACCENT, INK, QUIET, WARM
from taut.report.terminal.certificate import (
    LABEL,
    NUMBER,
    PROSE,
    Report,
    _flow,
    _grid,
    _heading,
    _spaced,
)
from taut.report.terminal.charts import Axis, Chart, Ink, Line
from taut.report.wording import look, number

_MEASURED, _PAPER = "green", "yellow"
_HEIGHT = 9


def threshold_report(document: Mapping) -> RenderableType:
    """Return the report of a clip threshold.

    Args:
        document: The JSON contract `taut.threshold/1`.
    """
    return Report(lambda ink: _page(document, ink))


def threshold_text(document: Mapping, *, width: int = 100) -> str:
    """Return the report of a clip threshold as plain text, without colour.

    Args:
        document: The JSON contract `taut.threshold/1`.
        width: Cells in a line.
    """
    page = io.StringIO()
    Console(file=page, width=width, highlight=False, emoji=False, no_color=True).print(
        threshold_report(document)
    )
    return page.getvalue().strip("\n")


def threshold_html(document: Mapping) -> str:
    """Return a clip threshold as an HTML fragment, for `_repr_html_`."""
    return f"<pre>{escape(threshold_text(document))}</pre>"


def draw_curve(document: Mapping, axes) -> None:
    """Draw sampling and clipping error over tau on matplotlib axes.

    Args:
        document: The JSON contract `taut.threshold/1`.
        axes: Axes of a picture.
    """
    curve = _rows(document, "curve")
    taus = [point["tau"] for point in curve]
    for key, colour, name in (
        ("paper_total", QUIET, "paper's form"),
        ("total", ACCENT, "measured form"),
    ):
        axes.plot(taus, [point[key] for point in curve], color=colour, label=name)
    axes.plot(
        taus, [point["clipping"] for point in curve], color=ACCENT, ls=":", label="its clipping"
    )
    marks = (
        ("chosen", "total", ACCENT, "chosen τ"),
        ("paper.point", "paper_total", WARM, "paper's τ*"),
    )
    for path, key, colour, name in marks:
        point = look(document, path)
        shown = f"{name} = {short(point['tau'])}"
        axes.plot([point["tau"]], [point[key]], "o", color=colour, label=shown)
    right = max(taus)
    named = -right
    for item in _rows(document, "sequence"):
        if item["constant"] < right:
            axes.axvline(item["constant"], color=INK, lw=0.6, ls=(0, (2, 4)), zorder=0)
        # Upright names need little room: one every few per cent of the axis can be read.
        if named + 0.02 * right < item["constant"] < right:
            named = item["constant"]
            axes.annotate(
                f"±{short(item['constant'])}",
                (item["constant"], 1.0),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=8,
                rotation=90,
            )
    axes.set_xlim(0, right)
    axes.set_ylim(0, None)
    axes.set_xlabel("clip threshold τ, nats")
    axes.set_ylabel("forecast half-width, reward units")
    axes.legend(loc="best")


def _page(document: Mapping, ink: Ink) -> list[RenderableType]:
    sections = (_verdict, _curve, _rules, _sequence, _tokens, _negative, _options, _foundations)
    return _spaced([section(document, ink) for section in sections])


def _rows(document: Mapping, path: str) -> list[Mapping]:
    return [row for row in look(document, path) or [] if isinstance(row, Mapping)]


def _digits(document: Mapping) -> int:
    return decimals_for(number(document, "chosen.total"), steps=100)


# --- verdict --------------------------------------------------------------------------------------


def _verdict(document: Mapping, ink: Ink) -> list[RenderableType]:
    lines: list[RenderableType] = [ink.text(_sentence(document), "bold")]
    lines += [
        ink.text(text) for text in (_comparison(document), _usual(document), _use(document)) if text
    ]
    if look(document, "settings.reward_range_source") != "declared":
        lines.append(
            ink.text(
                "The reward range was read off the log: declare --reward-range, since β is paid "
                "per unit of it."
            )
        )
    return lines + _flow(_log_line(document), ink)


def _sentence(document: Mapping) -> str:
    tau, negative = (short(number(document, key) or 0.0) for key in ("tau", "tau_negative"))
    at = f"at {tau} nats above and {negative} below"
    if number(document, "settings.beta") == 0:
        return f"β is 0, so nothing depends on where to clip; the default is {tau} nats."
    if look(document, "too_few"):
        return f"Too few prompts to choose from: the default is to clip {at}."
    if number(document, "settings.log_ratio_max") is not None:
        return f"Clip {at}: the declared maximum; no tail is left to bound."
    return f"Clip {at}: the narrowest certificate, by forecast."


def _comparison(document: Mapping) -> str:
    digits = _digits(document)
    here = number(document, "chosen.total")
    if here is None or look(document, "too_few") or number(document, "settings.beta") == 0:
        return ""
    text = f"There sampling and clipping leave {plus_minus(here, digits)} reward units"
    theirs = number(document, "paper.point.paper_total")
    if theirs is not None:
        where = short(number(document, "paper.tau") or 0.0)
        text += f"; by the paper's bound at its own τ* = {where}, {plus_minus(theirs, digits)}"
    return f"{text}."


def _usual(document: Mapping) -> str:
    """Say what the commonest constant would do."""
    item = next((row for row in _rows(document, "sequence") if row["constant"] == 10.0), None)
    if item is None or number(document, "settings.beta") == 0:
        return ""
    digits = _digits(document)
    clipped = percent(min(item["share_above"] + item["share_below"], 1.0))
    left = plus_minus(item["point"]["total"], digits)
    return (
        f"At ±10 on the sequence {clipped} of the rollouts would be clipped, "
        f"{_bias(item['bias'], digits)} of KL cost left out, and {left} left unknown."
    )


def _use(document: Mapping) -> str:
    """Say how to certify without choosing on the draws that certify."""
    # Both: an audit that is given tau alone clips the negative side there too.
    values = [number(document, name) or 0.0 for name in ("tau", "tau_negative")]
    given = f"--tau {values[0]:.6g} --tau-negative {values[1]:.6g}"
    forecast = "A forecast: choosing needs no guarantee."
    if look(document, "draws.apart"):
        return (
            f"{forecast} Certify this log with taut audit --tau auto (the same τ; the prompts that "
            f"chose stay out), another one with {given}."
        )
    if look(document, "too_few") or number(document, "settings.log_ratio_max") is not None:
        return f"{forecast} taut audit certifies."
    return f"{forecast} Certify the log to come with taut audit {given}, not this one."


def _log_line(document: Mapping) -> str:
    log = look(document, "log")
    parts = [wording.log_text({key: log[key] for key in log if key != "steps"})]
    choosing, in_log = (number(document, f"draws.{key}") for key in ("choosing", "in_log"))
    if choosing is not None and choosing != in_log:
        parts.append(f"{count(choosing, 'prompt')} speak here, {int(in_log - choosing):,} certify")
    if look(document, "merged_steps"):
        steps = int(number(document, "log.steps") or 0)
        parts.append(f"prompts recur over {steps} steps: merged, one draw each")
    return " · ".join(parts)


# --- the curve ------------------------------------------------------------------------------------


def _curve(document: Mapping, ink: Ink) -> list[RenderableType]:
    curve = _rows(document, "curve")
    if len(curve) < 2:
        return []
    measured, paper = (
        [(point["tau"], point[key]) for point in curve] for key in ("total", "paper_total")
    )
    heights = [y for _, y in (*measured, *paper)]
    top = max(heights) * 1.05 or 1.0
    chosen, theirs = look(document, "chosen"), look(document, "paper.point")
    marks = [(chosen["tau"], chosen["total"]), (theirs["tau"], theirs["paper_total"])]
    lines = [
        Line(paper, _PAPER),
        Line(measured, _MEASURED),
        *(Line(_cross(spot, curve[-1]["tau"], top), "bold") for spot in marks),
    ]
    chart = Chart(
        ink,
        Axis(0.0, curve[-1]["tau"]),
        Axis(0.0, top),
        lines,
        height=_HEIGHT,
        across_name="τ, nats",
    )
    heading = _heading(
        ink, "Sampling and clipping error over τ", "forecast half-width, reward units"
    )
    lower, upper = ("the lower line", "the upper one")
    if measured[len(measured) // 2][1] > paper[len(paper) // 2][1]:
        lower, upper = upper, lower
    key = (
        f"{lower}: measured, least at {short(chosen['tau'])} · {upper}: the paper's form, least "
        f"at {short(theirs['tau'])} · negative side fixed at {short(chosen['tau_negative'])}"
    )
    return [heading, chart, *_flow(key, ink)]


def _cross(spot: tuple[float, float], width: float, height: float) -> list[tuple[float, float]]:
    """Return a short vertical stroke at a point, so that a dot on a line can be seen."""
    x, y = spot
    return [(x, max(y - 0.06 * height, 0.0)), (x, min(y + 0.06 * height, height))]


# --- the tables -----------------------------------------------------------------------------------


def _rules(document: Mapping, ink: Ink) -> list[RenderableType]:
    """Show each way to choose, and what the certificate would pay there."""
    digits = _digits(document)
    table = _grid(LABEL, NUMBER, NUMBER, NUMBER, NUMBER, gap=2)
    titles = ("", "τ", "sampling", "clipping", "together")
    table.add_row(*(ink.text(title, "dim") for title in titles))
    rows = [
        ("measured, sides apart", look(document, "chosen"), ""),
        ("measured, one constant", look(document, "symmetric"), ""),
        ("paper's rule", look(document, "paper.point"), ""),
        ("paper's rule, its own bound", look(document, "paper.point"), "paper_"),
    ]
    for name, point, prefix in rows:
        if not isinstance(point, Mapping):
            continue
        apart = point["tau"] != point["tau_negative"]
        taus = _pair(point["tau"], point["tau_negative"]) if apart else f"±{short(point['tau'])}"
        table.add_row(
            ink.text(name),
            ink.text(taus),
            *(
                ink.text(plus_minus(point[f"{prefix}{key}"], digits))
                for key in ("sampling", "clipping", "total")
            ),
        )
    alpha = number(document, "paper.alpha") or 0.0
    share = f"the {percent(1 - 2 * alpha)} quantile of |ℓ|" if alpha < 0.5 else "0, as α ≥ ½"
    apart = look(document, "paper.apart") or {}
    prompts = count(look(document, "paper.prompts"), "prompt")
    notes = (
        f"the paper's rule, α = {short(alpha)} for {prompts}: "
        f"τ* = {short(number(document, 'paper.tau') or 0.0)}, {share} · "
        f"with its sides apart {_pair(apart.get('tau', 0.0), apart.get('tau_negative', 0.0))}"
    )
    return [
        _heading(ink, "Ways to choose", "forecast half-widths, reward units"),
        table,
        *_flow(notes, ink),
    ]


def _pair(tau: float, negative: float) -> str:
    return f"+{short(tau)}, −{short(negative)}"


def _sequence(document: Mapping, ink: Ink) -> list[RenderableType]:
    rows = _rows(document, "sequence")
    if not rows:
        return []
    digits = _digits(document)
    table = _grid(NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, gap=2)
    titles = ("clip at", "above", "below", "bias", "sampling", "clipping", "together")
    table.add_row(*(ink.text(title, "dim") for title in titles))
    for item in rows:
        table.add_row(
            ink.text(f"±{short(item['constant'])}"),
            ink.text(percent(item["share_above"])),
            ink.text(percent(item["share_below"])),
            ink.text(_bias(item["bias"], digits)),
            *(
                ink.text(plus_minus(item["point"][key], digits))
                for key in ("sampling", "clipping", "total")
            ),
        )
    told = "share of rollouts clipped; bias is β E[ℓ − clip ℓ], what the clipped KL cost leaves out"
    heading = _heading(ink, "Common constants, on the whole sequence", "reward units")
    return [heading, table, *_flow(told, ink)]


def _bias(value: float, digits: int) -> str:
    shown = near(value, digits, signed=True)
    least = near(0, digits)
    if value and shown == least:
        return f"<{up(10.0**-digits, digits)}"
    return shown


def _tokens(document: Mapping, ink: Ink) -> list[RenderableType]:
    rows = _rows(document, "tokens")
    if not rows:
        text = "No token log-probs were read: what a clamp per token does cannot be told."
        return [ink.text(text, "dim")]
    digits = _digits(document)
    table = _grid(NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, gap=2)
    titles = ("clamp at", "changed", "bias", "below, at most", "sampling", "clipping", "together")
    table.add_row(*(ink.text(title, "dim") for title in titles))
    for item in rows:
        table.add_row(
            ink.text(f"±{short(item['constant'])}"),
            ink.text(percent(item["share"])),
            ink.text(_bias(item["bias"], digits)),
            ink.text("–" if item["negative_bound"] is None else up(item["negative_bound"], digits)),
            *(
                ink.text("–" if item[key] is None else plus_minus(item[key], digits))
                for key in ("sampling", "clipping", "total")
            ),
        )
    longest = next((item["longest"] for item in rows if item["longest"] is not None), None)
    told = (
        "lengths are not in the log: the range of a sum of clamped tokens is unknown"
        if longest is None
        else f"each token's range counts: ±c over {count(longest, 'token')}, the longest response "
        "seen, which stands in for the longest allowed"
    )
    heading = _heading(ink, "The same constants, on each token", "reward units")
    return [heading, table, *_flow(told, ink)]


def _negative(document: Mapping, ink: Ink) -> list[RenderableType]:
    seen, bound = (number(document, f"negative.{key}") for key in ("seen", "bound"))
    if seen is None or bound is None:
        return []
    where = short(number(document, "tau_negative") or 0.0)
    lines: list[RenderableType] = [_heading(ink, "The negative side is free", "theory §4.2")]
    text = (
        f"below −{where} nats clipping hides at most {short(bound)} nats on average, whatever the "
        f"policies are · seen here: {short(seen)}"
    )
    lines += _flow(text, ink)
    if not look(document, "log_probs_sound"):
        lines.append(
            ink.text(
                "Not on this log: the mean of e^−ℓ is above 1 beyond chance, so that these are not "
                "the log-probs of the policy that sampled. Run taut check.",
                "yellow",
            )
        )
    return lines


def _options(document: Mapping, ink: Ink) -> list[RenderableType]:
    rows = _rows(document, "options")
    if not rows:
        return []
    table = _grid(LABEL, PROSE, gap=2)
    for item in rows:
        read = "" if item["level"] == "sequence" else f" {item['version']}"
        table.add_row(
            ink.text(item["framework"]), ink.text(f"{_option(item)}{read and f' [{read[1:]}]'}")
        )
    heading = _heading(ink, "Where to write it", "releases and commits read in brackets")
    return [heading, table]


def _option(item: Mapping) -> str:
    statement = str(item["statement"])
    if item.get("line"):
        return f"{item['line']}  ({statement})"
    unknown = item.get("level") == "token"
    return f"{statement} (no value to advise without token log-probs)" if unknown else statement


def _foundations(document: Mapping, ink: Ink) -> list[RenderableType]:
    settings = look(document, "settings")
    delta = number(settings, "delta")
    parts = [f"β {short(number(settings, 'beta') or 0.0)} reward units a nat"]
    scale = look(settings, "reward_range")
    parts.append(f"rewards {short(scale[0])} to {short(scale[1])}")
    parts.append(level_text(1 - delta))
    certifying = number(document, "draws.certifying")
    parts.append(f"forecast for {count(certifying, 'certifying prompt')}")
    price = number(document, "draws.price")
    if price:
        digits = min(_digits(document) + 1, 6)
        parts.append(f"setting the others aside costs {plus_minus(price, digits)}")
    parts.append(f"seed {look(settings, 'seed')}")
    return _flow(" · ".join(parts), ink)


__all__: Sequence[str] = ("draw_curve", "threshold_html", "threshold_report", "threshold_text")
