"""What a person sees of a monitor and of `taut watch`: the decision, the interval, its path."""

from collections.abc import Iterable

from rich.console import RenderableType

from taut.decisions.stopping.result import Ends, Monitored, MonitorResult, Series, WatchResult
from taut.draws.assumptions import DECLARABLE, Assumption, Standing
from taut.report.digits import count, decimals_for, interval, level_text, near, short
from taut.report.terminal.charts import STATUS_STYLES, Chart, Ink, Line, axis_for
from taut.report.terminal.foundations import assumption_table, health_lines
from taut.report.terminal.layout import LABEL, NUMBER, Report, flow, heading, spaced, titled
from taut.types import Status

DECISIONS = {
    "reached": "Reached",
    "impossible": "Cannot be reached",
    "continue": "Not decided yet",
}
_STYLES = {"reached": "green", "impossible": "red", "continue": "yellow"}
_TARGETS = {"reward": "reward", "clipped": "clipped objective"}


def monitor_report(found: MonitorResult) -> RenderableType:
    """Return the report of one monitor."""
    return Report(lambda ink: _monitor(found, ink))


def watch_report(found: WatchResult) -> RenderableType:
    """Return the report of `taut watch`."""
    return Report(lambda ink: _watch(found, ink))


def watch_line(found: WatchResult) -> str:
    """Return one line that says where a watch stands."""
    if not found.log.files and not found.log.rollouts:
        return "no file of the log so far"
    if not found.series:
        return "no complete prompt so far"
    item = max(found.series, key=lambda series: series.decision == "reached")
    if len(found.series) > 1 and item.decision != "reached":
        item = found.series[-1]
    name = "" if item.value is None else f"{found.settings.by} {item.value}: "
    if item.n == 0:
        return f"{name}no block so far; {count(found.log.rollouts, 'rollout')} read"
    ends, digits = item.interval, _digits(item.interval)
    text = f"{name}{count(item.n, 'block')}, {span_text(ends)}"
    text += f", width {near(ends.width, digits)}"
    if item.decision != "continue":
        return f"{text}: {DECISIONS[item.decision].lower()}"
    return f"{text}; about {guess(item.forecast)} in all" if item.forecast else text


def _digits(ends: Ends) -> int:
    return decimals_for(ends.width, steps=20)


def span_text(ends: Ends) -> str:
    """Return an interval as text."""
    return interval(ends.lower, ends.upper, _digits(ends))


def guess(blocks: int) -> str:
    """Return a forecast in two digits, rounded up: more would say that it is known so well."""
    unit = 10 ** max(len(str(blocks)) - 2, 0)
    return f"{-(-blocks // unit) * unit:,}"


def _monitor(found: MonitorResult, ink: Ink) -> list[RenderableType]:
    worth = ink.status(found.interval.status, "for the mean of such blocks")
    open_ones = ",".join(_open(found.assumptions))
    said = f'say declare="{open_ones}"' if open_ones else ""
    return spaced(
        [
            [*_verdict(found, "mean", ink), worth],
            _path(found, ink),
            _foundations(found.assumptions, said, ink),
        ]
    )


def _watch(found: WatchResult, ink: Ink) -> list[RenderableType]:
    series = found.series
    sections = []
    if len(series) == 1 and series[0].value is None:
        sections.append(_verdict(series[0], subject(found), ink))
    else:
        sections.append(_several(found, ink))
    sections.append(_worth(found, ink))
    if series:
        reached = [item for item in series if item.decision == "reached"]
        sections.append(_path((reached or series)[-1], ink))
    rests = _foundations(found.assumptions, vouch(found.assumptions), ink)
    if not found.checked:
        text = "All rows are tested where a decision is taken, and with --final."
        rests.append(ink.text(text, "dim"))
    return spaced([*sections, rests, health_lines(found.health, ink), _log(found, ink)])


def subject(found: WatchResult) -> str:
    """Return what the intervals are about, in words."""
    return f"{'true' if found.of == 'gold' else 'learned'} {_TARGETS[found.target]}"


def claim(item: MonitorResult | Series, about: str) -> str:
    """Say what an interval says."""
    where, level = span_text(item.interval), level_text(item.interval.level)
    if item.settings.means == "varying":
        over = "labelled prompts" if about.startswith("true") else "log"
        return f"the average {about} over the {over} is {where} ({level}, at all times)"
    return f"the {about} is {where} ({level}, at all times)"


def headline(item: MonitorResult | Series, about: str) -> str:
    """Return the decision and the claim in one sentence."""
    goals = item.settings
    text = claim(item, about) if item.n else "no block so far"
    if goals.width is not None or goals.require_lower is not None:
        return f"{DECISIONS[item.decision]}: {text}."
    return f"{text[:1].upper()}{text[1:]}."


def _verdict(item: MonitorResult | Series, about: str, ink: Ink) -> list[RenderableType]:
    lines = [ink.text(headline(item, about), "bold")]
    if item.n:
        lines.append(ink.text(f"After {count(item.n, 'block')}: {item.reason}."))
    if item.forecast:
        text = f"At this rate about {guess(item.forecast)} blocks in all."
        lines.append(ink.text(text, "dim"))
    return lines


def _several(found: WatchResult, ink: Ink) -> list[RenderableType]:
    by = found.settings.by or ""
    line = ink.text(f"The {subject(found)} of each {by}; all hold together.", "bold")
    names = (by, "blocks", "lower to upper", "level")
    rows = [
        [
            ink.text(item.value),
            ink.text(f"{item.n:,}"),
            ink.text(span_text(item.interval)),
            ink.text(level_text(item.interval.level)),
            ink.text(DECISIONS[item.decision].lower(), _STYLES[item.decision]),
        ]
        for item in found.series
    ]
    columns = [*((name, NUMBER) for name in names), ("", LABEL)]
    return [line, titled(ink, columns, rows, spare=("level", "blocks"))]


def _worth(found: WatchResult, ink: Ink) -> list[RenderableType]:
    """Say what the interval is worth, and for which reward."""
    of_gold, settings = found.of == "gold", found.settings
    if of_gold:
        lines = [ink.status(found.status, f"for the {subject(found)}")]
    else:
        lines = [
            ink.status(found.learned_status, f"for the {subject(found)} only"),
            ink.status(Status.VACUOUS, f"for the true {_TARGETS[found.target]}"),
        ]
        labelled = found.log.labelled_prompts
        hint = "Label a random subset of the prompts as they come (column gold) and say --gold."
        if labelled:
            hint = f"{count(labelled, 'prompt')} carried gold labels: say --gold to use them."
        lines.append(ink.text(hint, "dim"))
    if of_gold and settings.gold_range not in (None, settings.reward_range):
        units = "units of gold" if found.target == "reward" else "reward units"
        lines.append(ink.text(f"All numbers are in {units}.", "dim"))
    return lines + [
        ink.text(f"{item.text}: {item.by}.".capitalize(), STATUS_STYLES["warn"])
        for item in found.assumptions
        if item.doubted
    ]


def _open(assumptions: Iterable[Assumption]) -> list[str]:
    """Return the names of assumptions that nobody spoke for."""
    return [item.name for item in assumptions if item.stands == Standing.ASSUMED]


def vouch(assumptions: Iterable[Assumption]) -> str:
    """Return what to say on the command line for a watch."""
    open_ones = _open(assumptions)
    words = ",".join(name for name in open_ones if name in DECLARABLE)
    said = [f"--declare {words}"] if words else []
    said += ["--whole-batches (or log launch)"] if "order" in open_ones else []
    return f"say {' and '.join(said)}" if said else ""


def _foundations(assumptions: Iterable[Assumption], vouch: str, ink: Ink) -> list[RenderableType]:
    """List the assumptions, and what would settle those that nobody spoke for."""
    lines = [heading(ink, "What it rests on"), *assumption_table(assumptions, ink)]
    return lines + ([ink.text(f"Where you can vouch for it, {vouch}.")] if vouch else [])


def _path(item: Monitored, ink: Ink) -> list[RenderableType]:
    """Draw how the interval closed in."""
    path, goal = item.path, item.settings.require_lower
    if len(path) < 3:
        return []
    last = path[-1]
    # The first intervals are the range itself: what matters is where the path went.
    shown = [point for point in path if point.n * 20 >= last.n]
    reach = [min(point.lower for point in shown), max(point.upper for point in shown)]
    ours = [last.lower, last.upper, *([goal] if goal is not None else [])]
    lines = [
        Line([(point.n, point.mean) for point in path], "dim"),
        Line([(point.n, point.lower) for point in path], "cyan"),
        Line([(point.n, point.upper) for point in path], "cyan"),
    ]
    note = "interval and mean"
    if goal is not None:
        lines.append(Line([(0, goal), (last.n, goal)], "yellow"))
        note = f"{note}; required lower end {short(goal)}"
    axes = (axis_for([0, last.n]), axis_for(ours, reach, stretch=4))
    return [heading(ink, "Path", note), Chart(ink, *axes, lines, across_name="blocks", up_name="")]


def _log(found: WatchResult, ink: Ink) -> list[RenderableType]:
    counts, *rest = log_lines(found)
    return [*flow(counts, ink), *(ink.text(text, "dim") for text in rest)]


def log_lines(found: WatchResult) -> list[str]:
    """Say what was read, and what is still being written."""
    log = found.log
    complete = log.draws if log.prompts is None else log.prompts
    parts = [
        count(log.rollouts, "rollout"),
        f"{count(complete, 'complete prompt')} in the order of {log.order}",
        count(log.files, "file"),
    ]
    if found.of == "gold":
        parts.append(f"{log.labelled_prompts:,} with gold")
    if log.revisits:
        parts.append(f"{count(log.revisits, 'later draw')} of counted prompts left out")
    if log.pending_prompts:
        parts.append(f"{count(log.pending_prompts, 'prompt')} not complete")
    if log.clipped_rewards:
        parts.append(f"{count(log.clipped_rewards, 'reward')} cut to the declared range")
    texts = [f"Being written: {', '.join(log.incomplete)}"] if log.incomplete else []
    texts += [log.waiting_for] if log.waiting_for else []
    return [" · ".join(parts), *(f"{text}." for text in [*texts, *log.notes])]
