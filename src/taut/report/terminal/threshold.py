"""What a person sees of `taut tau`: the threshold first, then the curve and what constants do.

Nothing is computed here.
"""

from collections.abc import Callable, Sequence

from rich.console import RenderableType
from rich.text import Text

from taut.auditing.calibration import TOO_FEW
from taut.decisions.threshold.result import ClipThreshold, Point, SequenceClip, TokenClip
from taut.report import statements
from taut.report.digits import count, decimals_for, level_text, near, percent, plus_minus, short, up
from taut.report.terminal.charts import Axis, Chart, Ink, Line
from taut.report.terminal.layout import (
    LABEL,
    NUMBER,
    PROSE,
    Report,
    flow,
    grid,
    heading,
    spaced,
    titled,
)

_MEASURED, _PAPER = "green", "yellow"
_HEIGHT = 9
_WIDTHS = ("sampling", "clipping", "together")

_MIXED = "With several steps, policies or runs no prompts are set aside to choose by"


def threshold_report(found: ClipThreshold) -> RenderableType:
    """Return the report of a clip threshold."""
    return Report(lambda ink: _page(found, ink))


def _page(found: ClipThreshold, ink: Ink) -> list[RenderableType]:
    sections = (_verdict, _curve, _rules, _sequence, _tokens, _negative, _options, _foundations)
    return spaced([section(found, ink) for section in sections])


def _digits(found: ClipThreshold) -> int:
    return decimals_for(found.chosen.total, steps=100)


# --- verdict --------------------------------------------------------------------------------------


def _verdict(found: ClipThreshold, ink: Ink) -> list[RenderableType]:
    lines: list[RenderableType] = [ink.text(headline(found), "bold")]
    lines += [ink.text(text) for text in said(found)]
    if found.settings.reward_range_source != "declared":
        text = (
            "The reward range was read off the log: declare --reward-range, since β is paid per "
            "unit of it."
        )
        lines.append(ink.text(text))
    return lines + flow(_log_line(found), ink)


def said(found: ClipThreshold) -> list[str]:
    """Say how it compares with the paper's rule and a usual constant, and how to use it."""
    return [text for text in (_comparison(found), _usual(found), _use(found)) if text]


def headline(found: ClipThreshold) -> str:
    """Say in a sentence where to clip."""
    tau, negative = short(found.tau), short(found.tau_negative)
    at = f"at {tau} nats above and {negative} below"
    if found.settings.beta == 0:
        return f"β is 0, so nothing depends on where to clip; the default is {tau} nats."
    if found.too_few:
        few = found.tau_source == TOO_FEW
        why = "Too few prompts to choose from" if few else _MIXED
        return f"{why}: the default is to clip {at}."
    if found.settings.log_ratio_max is not None:
        return f"Clip {at}: the declared maximum; no tail is left to bound."
    return f"Clip {at}: the narrowest certificate, by forecast."


def _comparison(found: ClipThreshold) -> str:
    if found.too_few or found.settings.beta == 0:
        return ""
    digits = _digits(found)
    ours = plus_minus(found.chosen.total, digits)
    theirs = plus_minus(found.paper.point.paper_total, digits)
    return (
        f"There sampling and clipping leave {ours} reward units; by the paper's bound at its own "
        f"τ* = {short(found.paper.tau)}, {theirs}."
    )


def _usual(found: ClipThreshold) -> str:
    """Say what the commonest constant would do."""
    item = next((row for row in found.sequence if row.constant == 10.0), None)
    if item is None or found.settings.beta == 0:
        return ""
    digits = _digits(found)
    clipped = percent(min(item.share_above + item.share_below, 1.0))
    return (
        f"At ±10 on the sequence {clipped} of the rollouts would be clipped, "
        f"{bias_text(item.bias, digits)} of KL cost left out, and "
        f"{plus_minus(item.point.total, digits)} left unknown."
    )


def _use(found: ClipThreshold) -> str:
    """Say how to certify without choosing on the draws that certify."""
    # Both: an audit that is given tau alone clips the negative side there too.
    given = f"--tau {found.tau:.6g} --tau-negative {found.tau_negative:.6g}"
    forecast = "A forecast: choosing needs no guarantee."
    if found.draws.apart:
        return (
            f"{forecast} Certify this log with taut audit --tau auto (the same τ; the prompts that "
            f"chose stay out), another one with {given}."
        )
    if found.too_few or found.settings.log_ratio_max is not None:
        return f"{forecast} taut audit certifies."
    return f"{forecast} Certify the log to come with taut audit {given}, not this one."


def _log_line(found: ClipThreshold) -> str:
    log, draws = found.log, found.draws
    parts = [
        statements.counts_text(
            log.rollouts,
            log.prompts,
            per_prompt=log.rollouts_per_prompt,
            rejected=log.rejected_rows,
        )
    ]
    if draws.choosing != draws.in_log:
        certify = draws.in_log - draws.choosing
        parts.append(f"{count(draws.choosing, 'prompt')} speak here, {certify:,} certify")
    if found.merged_steps:
        parts.append(f"prompts recur over {log.steps or 0} steps: merged, one draw each")
    return " · ".join(parts)


# --- the curve ------------------------------------------------------------------------------------


def _curve(found: ClipThreshold, ink: Ink) -> list[RenderableType]:
    curve, chosen, theirs = found.curve, found.chosen, found.paper.point
    if len(curve) < 2:
        return []
    measured = [(point.tau, point.total) for point in curve]
    paper = [(point.tau, point.paper_total) for point in curve]
    right, top = curve[-1].tau, max(y for _, y in (*measured, *paper)) * 1.05 or 1.0
    marks = [(chosen.tau, chosen.total), (theirs.tau, theirs.paper_total)]
    lines = [
        Line(paper, _PAPER),
        Line(measured, _MEASURED),
        *(Line(_cross(spot, top), "bold") for spot in marks),
    ]
    axes = (Axis(0.0, right), Axis(0.0, top))
    chart = Chart(ink, *axes, lines, height=_HEIGHT, across_name="τ, nats")
    about = "forecast half-width, reward units"
    lower, upper = ("the lower line", "the upper one")
    if measured[len(measured) // 2][1] > paper[len(paper) // 2][1]:
        lower, upper = upper, lower
    key = (
        f"{lower}: measured, least at {short(chosen.tau)} · {upper}: the paper's form, least "
        f"at {short(theirs.tau)} · negative side fixed at {short(chosen.tau_negative)}"
    )
    title = heading(ink, "Sampling and clipping error over τ", about)
    return [title, chart, *flow(key, ink)]


def _cross(spot: tuple[float, float], height: float) -> list[tuple[float, float]]:
    """Return a short vertical stroke at a point, so that a dot on a line can be seen."""
    x, y = spot
    return [(x, max(y - 0.06 * height, 0.0)), (x, min(y + 0.06 * height, height))]


# --- the tables -----------------------------------------------------------------------------------


def _measured(point: Point | TokenClip) -> tuple[float | None, float | None, float | None]:
    """Return sampling, clipping and both together, in the measured form."""
    return point.sampling, point.clipping, point.total


def _halves(values: Sequence[float | None], digits: int, ink: Ink) -> list[Text]:
    return [ink.text("–" if half is None else plus_minus(half, digits)) for half in values]


def _rules(found: ClipThreshold, ink: Ink) -> list[RenderableType]:
    """Show each way to choose, and what the certificate would pay there."""
    digits, paper = _digits(found), found.paper
    theirs = (paper.point.paper_sampling, paper.point.paper_clipping, paper.point.paper_total)
    ways = (
        ("measured, sides apart", found.chosen, _measured(found.chosen)),
        ("measured, one constant", found.symmetric, _measured(found.symmetric)),
        ("paper's rule", paper.point, _measured(paper.point)),
        ("paper's rule, its own bound", paper.point, theirs),
    )
    rows = [
        [ink.text(name), ink.text(_taus(point)), *_halves(values, digits, ink)]
        for name, point, values in ways
    ]
    columns = [("", LABEL), *((name, NUMBER) for name in ("τ", *_WIDTHS))]
    share = f"the {percent(1 - 2 * paper.alpha)} quantile of |ℓ|"
    notes = (
        f"the paper's rule, α = {short(paper.alpha)} for {count(paper.prompts, 'prompt')}: "
        f"τ* = {short(paper.tau)}, {share if paper.alpha < 0.5 else '0, as α ≥ ½'} · "
        f"with its sides apart {_pair(paper.apart.tau, paper.apart.tau_negative)}"
    )
    return [
        heading(ink, "Ways to choose", "forecast half-widths, reward units"),
        titled(ink, columns, rows, spare=_WIDTHS[:2]),
        *flow(notes, ink),
    ]


def _taus(point: Point) -> str:
    if point.tau != point.tau_negative:
        return _pair(point.tau, point.tau_negative)
    return f"±{short(point.tau)}"


def _pair(tau: float, negative: float) -> str:
    return f"+{short(tau)}, −{short(negative)}"


def _constants(
    rows: Sequence,
    titles: Sequence[str],
    cells: Callable[[SequenceClip | TokenClip], list[str]],
    points: Callable[[SequenceClip | TokenClip], Point | TokenClip],
    digits: int,
    ink: Ink,
) -> RenderableType:
    """Return the table of what constants do: three texts of its own, then half-widths."""
    return titled(
        ink,
        [(name, NUMBER) for name in (*titles, *_WIDTHS)],
        [
            [
                ink.text(f"±{short(item.constant)}"),
                *map(ink.text, cells(item)),
                *_halves(_measured(points(item)), digits, ink),
            ]
            for item in rows
        ],
        spare=(titles[-1], *_WIDTHS[:2]),
    )


def _sequence(found: ClipThreshold, ink: Ink) -> list[RenderableType]:
    if not found.sequence:
        return []
    digits = _digits(found)

    def cells(item: SequenceClip) -> list[str]:
        return [percent(item.share_above), percent(item.share_below), bias_text(item.bias, digits)]

    titles = ("clip at", "above", "below", "bias")
    table = _constants(found.sequence, titles, cells, lambda item: item.point, digits, ink)
    told = "share of rollouts clipped; bias is β E[ℓ − clip ℓ], what the clipped KL cost leaves out"
    title = heading(ink, "Common constants, on the whole sequence", "reward units")
    return [title, table, *flow(told, ink)]


def bias_text(value: float, digits: int) -> str:
    """Return a bias as text; one that is not zero never reads as zero."""
    shown = near(value, digits, signed=True)
    if value and shown == near(0, digits):
        return f"<{up(10.0**-digits, digits)}"
    return shown


def _tokens(found: ClipThreshold, ink: Ink) -> list[RenderableType]:
    if not found.tokens:
        text = "No token log-probs were read: what a clamp per token does cannot be told."
        return [ink.text(text, "dim")]
    digits = _digits(found)

    def cells(item: TokenClip) -> list[str]:
        least = item.negative_bound
        bound = "–" if least is None else up(least, digits)
        return [percent(item.share), bias_text(item.bias, digits), bound]

    titles = ("clamp at", "changed", "bias", "below, at most")
    table = _constants(found.tokens, titles, cells, lambda item: item, digits, ink)
    longest = next((item.longest for item in found.tokens if item.longest is not None), None)
    told = (
        "lengths are not in the log: the range of a sum of clamped tokens is unknown"
        if longest is None
        else f"each token's range counts: ±c over {count(longest, 'token')}, the longest response "
        "seen, which stands in for the longest allowed"
    )
    title = heading(ink, "The same constants, on each token", "reward units")
    return [title, table, *flow(told, ink)]


def _negative(found: ClipThreshold, ink: Ink) -> list[RenderableType]:
    negative = found.negative
    lines: list[RenderableType] = [heading(ink, "The negative side is free", "theory §4.2")]
    text = (
        f"below −{short(found.tau_negative)} nats clipping hides at most {short(negative.bound)} "
        f"nats on average, whatever the policies are · seen here: {short(negative.seen)}"
    )
    lines += flow(text, ink)
    if not found.log_probs_sound:
        text = (
            "Not on this log: the mean of e^−ℓ is above 1 beyond chance, so that these are not "
            "the log-probs of the policy that sampled. Run taut check."
        )
        lines.append(ink.text(text, "yellow"))
    return lines


def _options(found: ClipThreshold, ink: Ink) -> list[RenderableType]:
    table = grid(LABEL, PROSE)
    for item in found.options:
        text = item.statement
        if item.line:
            text = f"{item.line}  ({item.statement})"
        elif item.level == "token":
            text = f"{text} (no value to advise without token log-probs)"
        read = "" if item.level == "sequence" else f" [{item.version}]"
        table.add_row(ink.text(item.framework), ink.text(f"{text}{read}"))
    return [heading(ink, "Where to write it", "releases and commits read in brackets"), table]


def _foundations(found: ClipThreshold, ink: Ink) -> list[RenderableType]:
    settings, draws = found.settings, found.draws
    low, high = settings.reward_range
    parts = [
        f"β {short(settings.beta)} reward units a nat",
        f"rewards {short(low)} to {short(high)}",
        level_text(1 - settings.delta),
        f"forecast for {count(draws.certifying, 'certifying prompt')}",
    ]
    if draws.price:
        digits = min(_digits(found) + 1, 6)
        parts.append(f"setting the others aside costs {plus_minus(draws.price, digits)}")
    return flow(" · ".join([*parts, f"seed {settings.seed}"]), ink)
