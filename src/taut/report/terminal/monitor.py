"""What a person sees of a monitor and of `taut watch`: the decision, the interval, its path.

Everything is read from the plain documents `taut.monitor/2` and `taut.watch/2`.
"""

import io
from collections.abc import Mapping

from rich.console import Console, RenderableType

from taut.draws.assumptions import DECLARABLE
from taut.report.digits import count, decimals_for, interval, level_text, near, short
from taut.report.plot import ACCENT, QUIET, WARM
from taut.report.terminal.certificate import (
    LABEL,
    NUMBER,
    PROSE,
    Report,
    _assumption_cells,
    _flow,
    _grid,
    _heading,
    _health,
    _spaced,
)
from taut.report.terminal.charts import STATUS_STYLES, Chart, Ink, Line, axis_for

_HEADS = {"reached": "Reached", "impossible": "Cannot be reached", "continue": "Not decided yet"}
_STYLES = {"reached": "green", "impossible": "red", "continue": "yellow"}
_TARGETS = {"reward": "reward", "clipped": "clipped objective"}


def monitor_report(document: Mapping) -> RenderableType:
    """Return the report of one monitor.

    Args:
        document: The JSON contract `taut.monitor/2`.
    """
    return Report(
        lambda ink: _spaced(
            [
                [
                    *_verdict(document, "mean", ink),
                    ink.status(document["interval"]["status"], "for the mean of such blocks"),
                ],
                _path(document, ink),
                _foundations(document, ink),
            ]
        )
    )


def monitor_text(document: Mapping, *, width: int = 100) -> str:
    """Return the report of one monitor as plain text, without colour.

    Args:
        document: The JSON contract `taut.monitor/2`.
        width: Cells in a line.
    """
    page = io.StringIO()
    Console(file=page, width=width, highlight=False, emoji=False, no_color=True).print(
        monitor_report(document)
    )
    return page.getvalue().strip("\n")


def watch_report(document: Mapping) -> RenderableType:
    """Return the report of `taut watch`.

    Args:
        document: The JSON contract `taut.watch/2`.
    """
    return Report(lambda ink: _watch(document, ink))


def watch_line(document: Mapping) -> str:
    """Return one line that says where a watch stands."""
    series = document["series"]
    if not document["log"]["files"] and not document["log"]["rollouts"]:
        return "no file of the log so far"
    if not series:
        return "no complete prompt so far"
    item = max(series, key=lambda found: found["decision"] == "reached")
    if len(series) > 1 and item["decision"] != "reached":
        item = series[-1]
    name = "" if item["value"] is None else f"{document['settings']['by']} {item['value']}: "
    if item["n"] == 0:
        return f"{name}no block so far; {count(document['log']['rollouts'], 'rollout')} read"
    ends = item["interval"]
    digits = decimals_for(ends["upper"] - ends["lower"], steps=20)
    text = f"{name}{count(item['n'], 'block')}, {interval(ends['lower'], ends['upper'], digits)}"
    text += f", width {near(ends['upper'] - ends['lower'], digits)}"
    if item["decision"] != "continue":
        return f"{text}: {_HEADS[item['decision']].lower()}"
    return f"{text}; about {_guess(item['forecast'])} in all" if item["forecast"] else text


def _guess(blocks: int) -> str:
    """Return a forecast in two digits, rounded up: more would say that it is known so well."""
    unit = 10 ** max(len(str(blocks)) - 2, 0)
    return f"{-(-blocks // unit) * unit:,}"


def _watch(document: Mapping, ink: Ink) -> list[RenderableType]:
    series = document["series"]
    sections = []
    if len(series) == 1 and series[0]["value"] is None:
        sections.append(_verdict(series[0], _subject(document), ink))
    else:
        sections.append(_several(document, ink))
    sections.append(_worth(document, ink))
    if series:
        reached = [item for item in series if item["decision"] == "reached"]
        sections.append(_path((reached or series)[-1], ink))
    sections += [_foundations(document, ink), _health(document, ink), _log(document, ink)]
    return _spaced(sections)


def _subject(document: Mapping) -> str:
    kind = "true" if document["of"] == "gold" else "learned"
    return f"{kind} {_TARGETS[document['target']]}"


def _claim(item: Mapping, subject: str) -> str:
    ends = item["interval"]
    digits = decimals_for(ends["upper"] - ends["lower"], steps=20)
    where = interval(ends["lower"], ends["upper"], digits)
    level = level_text(ends["level"])
    if item["settings"]["means"] == "varying":
        over = "labelled prompts" if subject.startswith("true") else "log"
        return f"the average {subject} over the {over} is {where} ({level}, at all times)"
    return f"the {subject} is {where} ({level}, at all times)"


def _verdict(item: Mapping, subject: str, ink: Ink) -> list[RenderableType]:
    goal = item["settings"]["width"] is not None or item["settings"]["require_lower"] is not None
    claim = _claim(item, subject) if item["n"] else "no block so far"
    head = f"{_HEADS[item['decision']]}: " if goal else ""
    text = ink.text(f"{head}{claim}." if head else f"{claim[:1].upper()}{claim[1:]}.", "bold")
    lines = [text, ink.text(f"After {count(item['n'], 'block')}: {item['reason']}.")]
    if not item["n"]:
        lines = [text]
    if item["forecast"]:
        lines.append(
            ink.text(f"At this rate about {_guess(item['forecast'])} blocks in all.", "dim")
        )
    return lines


def _several(document: Mapping, ink: Ink) -> list[RenderableType]:
    by = document["settings"]["by"]
    lines = [ink.text(f"The {_subject(document)} of each {by}; all hold together.", "bold")]
    table = _grid(NUMBER, NUMBER, NUMBER, NUMBER, LABEL)
    table.add_row(
        *(ink.text(name, "dim") for name in (by, "blocks", "lower to upper", "level", ""))
    )
    for item in document["series"]:
        ends = item["interval"]
        digits = decimals_for(ends["upper"] - ends["lower"], steps=20)
        table.add_row(
            ink.text(item["value"]),
            ink.text(f"{item['n']:,}"),
            ink.text(interval(ends["lower"], ends["upper"], digits)),
            ink.text(level_text(ends["level"])),
            ink.text(_HEADS[item["decision"]].lower(), _STYLES[item["decision"]]),
        )
    return [*lines, table]


def _worth(document: Mapping, ink: Ink) -> list[RenderableType]:
    """Say what the interval is worth, and for which reward."""
    if document["of"] == "gold":
        lines = [ink.status(document["status"], f"for the {_subject(document)}")]
    else:
        lines = [
            ink.status(document["learned_status"], f"for the {_subject(document)} only"),
            ink.status("vacuous", f"for the true {_TARGETS[document['target']]}"),
        ]
        found = document["log"]["labelled_prompts"]
        hint = "Label a random subset of the prompts as they come (column gold) and say --gold."
        if found:
            hint = f"{count(found, 'prompt')} carried gold labels: say --gold to use them."
        lines.append(ink.text(hint, "dim"))
    settings = document["settings"]
    if document["of"] == "gold" and settings["gold_range"] not in (None, settings["reward_range"]):
        units = "units of gold" if document["target"] == "reward" else "reward units"
        lines.append(ink.text(f"All numbers are in {units}.", "dim"))
    return lines + [
        ink.text(f"{entry['text']}: {entry['by']}.".capitalize(), STATUS_STYLES["warn"])
        for entry in document["assumptions"]
        if entry["stands"] in ("in_doubt", "violated")
    ]


def _foundations(document: Mapping, ink: Ink) -> list[RenderableType]:
    """List the assumptions, and what would settle those that nobody spoke for."""
    table = _grid(LABEL, PROSE)
    for entry in document["assumptions"]:
        table.add_row(*_assumption_cells(entry, ink))
    lines = [_heading(ink, "What it rests on"), table]
    open_ = [entry["name"] for entry in document["assumptions"] if entry["stands"] == "assumed"]
    if "settings" in document and "means" in document["settings"]:
        said = [f'declare="{",".join(open_)}"'] if open_ else []
    else:
        words = ",".join(name for name in open_ if name in DECLARABLE)
        said = [f"--declare {words}"] if words else []
        said += ["--whole-batches (or log launch)"] if "order" in open_ else []
    if said:
        lines.append(ink.text(f"Where you can vouch for it, say {' and '.join(said)}."))
    if not document.get("checked", True):
        text = "All rows are tested where a decision is taken, and with --final."
        lines.append(ink.text(text, "dim"))
    return lines


def _path(item: Mapping, ink: Ink) -> list[RenderableType]:
    """Draw how the interval closed in."""
    path = item["path"]
    if len(path) < 3:
        return []
    goal = item["settings"]["require_lower"]
    last = path[-1]
    # The first intervals are the range itself: what matters is where the path went.
    shown = [point for point in path if point["n"] * 20 >= last["n"]]
    lows, highs = [p["lower"] for p in shown], [p["upper"] for p in shown]
    up = axis_for([last["lower"], last["upper"], *([goal] if goal is not None else [])],
                  [min(lows), max(highs)], stretch=4)  # fmt: skip
    across = axis_for([0, last["n"]])
    lines = [
        Line([(p["n"], p["mean"]) for p in path], "dim"),
        Line([(p["n"], p["lower"]) for p in path], "cyan"),
        Line([(p["n"], p["upper"]) for p in path], "cyan"),
    ]
    if goal is not None:
        lines.append(Line([(0, goal), (last["n"], goal)], "yellow"))
    note = "interval and mean; " + (f"required lower end {short(goal)}" if goal is not None else "")
    chart = Chart(ink, across, up, lines, across_name="blocks", up_name="")
    return [_heading(ink, "Path", note.rstrip("; ")), chart]


def _log(document: Mapping, ink: Ink) -> list[RenderableType]:
    log = document["log"]
    parts = [
        count(log["rollouts"], "rollout"),
        f"{count(log['prompts'], 'complete prompt')} in the order of {log['order']}",
        count(log["files"], "file"),
    ]
    if document["of"] == "gold":
        parts.append(f"{log['labelled_prompts']:,} with gold")
    if log["revisits"]:
        parts.append(f"{count(log['revisits'], 'later draw')} of counted prompts left out")
    if log["pending_prompts"]:
        parts.append(f"{count(log['pending_prompts'], 'prompt')} not complete")
    if log["clipped_rewards"]:
        parts.append(f"{count(log['clipped_rewards'], 'reward')} cut to the declared range")
    lines = _flow(" · ".join(parts), ink)
    texts = [f"Being written: {', '.join(log['incomplete'])}"] if log["incomplete"] else []
    texts += [log["waiting_for"]] if log["waiting_for"] else []
    return lines + [ink.text(f"{text}.", "dim") for text in [*texts, *log["notes"]]]


def draw_path(item: Mapping, subject: str):
    """Return a function that draws the path of an interval on axes, for `save_plot`.

    Args:
        item: A monitor's document.
        subject: What the interval is for.
    """

    def draw(axes) -> None:
        path, settings = item["path"], item["settings"]
        counts = [point["n"] for point in path]
        lower, upper = ([point[name] for point in path] for name in ("lower", "upper"))
        axes.fill_between(counts, lower, upper, step="post", color=ACCENT, alpha=0.25, linewidth=0)
        for ends in (lower, upper):
            axes.step(counts, ends, where="post", color=ACCENT, linewidth=1.2)
        axes.plot(counts, [point["mean"] for point in path], color=QUIET, linewidth=1, label="mean")
        if settings["require_lower"] is not None:
            label = f"required lower end {settings['require_lower']:g}"
            axes.axhline(settings["require_lower"], color=WARM, linewidth=1, label=label)
        if settings["width"] is not None and path:
            middle = (lower[-1] + upper[-1]) / 2
            half = settings["width"] / 2
            axes.axhspan(
                middle - half, middle + half, color=WARM, alpha=0.15, linewidth=0,
                label=f"width {settings['width']:g}",
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xlabel("blocks")
        axes.set_ylabel(f"{subject}, reward units")
        axes.legend(loc="best")

    return draw
