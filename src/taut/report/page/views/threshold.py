"""The page of a clip threshold: where to clip, what it costs, where to write it."""

from collections.abc import Sequence

from taut.decisions.threshold.result import ClipThreshold, Point, SequenceClip, TokenClip
from taut.report.digits import count, decimals_for, level_text, percent, plus_minus, short, up
from taut.report.page.blocks import Card, Figure, Section, Status, Table, Text, View
from taut.report.page.views.parts import NONE
from taut.report.terminal.threshold import bias_text, headline, said

_WIDTHS = ("sampling", "clipping", "together")


def threshold_view(found: ClipThreshold) -> View:
    """Return the page of a clip threshold."""
    return View(
        verdict=headline(found),
        kind="taut tau: a forecast; choosing needs no guarantee",
        cards=_cards(found),
        lead=said(found),
        plain=[
            "Training with a KL penalty pays a price for each nat by which the policy drifts from "
            "its reference. A few rollouts drift so far that they decide the average; trainers "
            "clip them. Clipping tight hides some of the cost, clipping wide leaves the average "
            "uncertain: this page says where the two together are least (§7.2).",
        ],
        sections=_sections(found),
    )


def _digits(found: ClipThreshold) -> int:
    return decimals_for(found.chosen.total, steps=100)


def _cards(found: ClipThreshold) -> list[Card]:
    digits = _digits(found)
    clip = f"−{short(found.tau_negative)} to +{short(found.tau)}"
    left = plus_minus(found.chosen.total, digits)
    theirs = plus_minus(found.paper.point.paper_total, digits)
    return [
        Card("Clip at", f"{clip} nats", found.tau_source, "certified"),
        Card("Left uncertain", left, "Sampling and clipping error together, reward units."),
        Card("The paper's rule", f"±{short(found.paper.tau)}", f"Its own bound there: {theirs}."),
    ]


def _sections(found: ClipThreshold) -> list[Section]:
    settings, draws = found.settings, found.draws
    options = [
        (item.framework, item.version, item.line or NONE, item.statement) for item in found.options
    ]
    words = [
        f"β {short(settings.beta)} reward units a nat",
        level_text(1 - settings.delta),
        f"forecast for {count(draws.certifying, 'certifying prompt')}",
        f"seed {settings.seed}",
        f"taut {found.version}",
    ]
    return [
        Section("curve", "Sampling and clipping error over τ", [Figure("threshold")]),
        Section("rules", "Ways to choose", [_rules(found)], "Forecast half-widths, reward units."),
        Section("sequence", "Common constants, on the whole sequence", _sequence(found)),
        Section("tokens", "The same constants, on each token", _tokens(found)),
        Section("negative", "The negative side is free", _negative(found), "§4.2"),
        Section(
            "write",
            "Where to write it",
            [Table(("trainer", "read at", "line", "what it clips"), options)] if options else [],
        ),
        Section("settings", "Settings", [Text(f"{' · '.join(words)}.")]),
    ]


def _point(point: Point | TokenClip, digits: int) -> tuple[str, ...]:
    halves = (point.sampling, point.clipping, point.total)
    return tuple(NONE if value is None else plus_minus(value, digits) for value in halves)


def _rules(found: ClipThreshold) -> Table:
    digits, paper = _digits(found), found.paper.point
    theirs = (paper.paper_sampling, paper.paper_clipping, paper.paper_total)
    rows = [
        (name, f"+{short(point.tau)}, −{short(point.tau_negative)}", *_point(point, digits))
        for name, point in (
            ("measured, sides apart", found.chosen),
            ("measured, one constant", found.symmetric),
            ("paper's rule", paper),
        )
    ]
    own = tuple(plus_minus(value, digits) for value in theirs)
    rows.append(("paper's rule, its own bound", f"±{short(paper.tau)}", *own))
    return Table(("", "τ, nats", *_WIDTHS), rows, {1, 2, 3, 4}, "Ways to choose", {0})


def _sequence(found: ClipThreshold) -> list[Table]:
    digits = _digits(found)
    rows = [_constant(item, digits) for item in found.sequence]
    titles = ("clip at", "above", "below", "bias", *_WIDTHS)
    return [Table(titles, rows, range(7), "Constants on the sequence")] if rows else []


def _constant(item: SequenceClip, digits: int) -> tuple[str, ...]:
    shares = (percent(item.share_above), percent(item.share_below))
    bias = bias_text(item.bias, digits)
    return (f"±{short(item.constant)}", *shares, bias, *_point(item.point, digits))


def _tokens(found: ClipThreshold) -> Sequence[Table | Text]:
    if not found.tokens:
        return [Text("No token log-probs were read: what a clamp per token does cannot be told.")]
    digits = _digits(found)
    rows = [
        (
            f"±{short(item.constant)}",
            percent(item.share),
            bias_text(item.bias, digits),
            NONE if item.negative_bound is None else up(item.negative_bound, digits),
            *_point(item, digits),
        )
        for item in found.tokens
    ]
    titles = ("clamp at", "changed", "bias", "below, at most", *_WIDTHS)
    return [Table(titles, rows, range(7), "Constants on each token")]


def _negative(found: ClipThreshold) -> list[Text]:
    negative = found.negative
    told = [
        Text(
            f"Below −{short(found.tau_negative)} nats clipping hides at most "
            f"{short(negative.bound)} nats on average, whatever the policies are; seen here: "
            f"{short(negative.seen)}."
        )
    ]
    if not found.log_probs_sound:
        told.append(
            Text(
                "Not on this log: the mean of e^−ℓ is above 1 beyond chance, so that these are not "
                "the log-probs of the policy that sampled. Run taut check.",
                "strong",
            )
        )
    return told


__all__ = ["Status", "threshold_view"]
