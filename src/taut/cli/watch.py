"""`taut watch`: when to stop sampling, on a log that grows."""

import sys
import time

import click

from taut.auditing.words import BY_COLUMNS
from taut.cli.arguments import (
    NumberPair,
    beta_option,
    declare_option,
    held_out_option,
    html_option,
    json_option,
)
from taut.cli.labelled import labeller_of, labels_options
from taut.cli.reading import name_pairs
from taut.cli.root import EXIT_GATE, EXIT_UNDECIDED, cli, complain
from taut.cli.show import picture, show, write_text
from taut.draws.modes import PROMPT_MODES, SAMPLE
from taut.errors import UsageError


@cli.command(
    epilog="Example: taut watch rollouts/ --reward-range 0 1 --gold --width 0.05 "
    "--rollouts-per-prompt 8 --state watch.json"
)
@click.argument("log", nargs=-1, required=True, metavar="LOG...")
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="NAME=PATH",
    help="Read the native column NAME from the dotted PATH, as in reward=scores.judge.",
)
@click.option("--width", type=float, help="Stop when the interval is no wider, reward units.")
@click.option(
    "--require-lower",
    type=float,
    metavar="X",
    help="Stop when the lower end is at least X, reward units. With --width both are needed.",
)
@click.option(
    "--most-prompts",
    "most",
    type=click.IntRange(1),
    metavar="N",
    help="No more blocks than this are drawn: exit 3 once no continuation can reach the goal.",
)
@click.option(
    "--rollouts-per-prompt",
    "per_prompt",
    type=click.IntRange(1),
    metavar="K",
    help="A prompt is complete with K rollouts. Without: when another one follows in its file.",
)
@click.option(
    "--reward-range",
    nargs=2,
    type=float,
    required=True,
    metavar="LOW HIGH",
    help="Range of the reward, reward units, fixed before the first prompt.",
)
@click.option(
    "--gold-range",
    nargs=2,
    type=float,
    metavar="LOW HIGH",
    help="Range of gold, in its own units, where it has a scale of its own.",
)
@click.option(
    "--gold-scale",
    type=NumberPair("P,Q"),
    metavar="P,Q",
    help="gold * P + Q is in reward units, P > 0: needed for --target clipped where gold has its "
    "own range.",
)
@click.option(
    "--gold",
    is_flag=True,
    help="Use the gold labels: about the true reward.",
)
@click.option(
    "--learned",
    is_flag=True,
    help="In place of --gold: about the learned reward only; nothing is said about the true one.",
)
@click.option(
    "--control",
    type=float,
    default=0.0,
    metavar="WEIGHT",
    help="With --gold: weight of the learned reward as a control variate, fixed beforehand.",
)
@click.option(
    "--unlabelled",
    type=click.IntRange(0),
    default=0,
    metavar="G",
    help="With --control: unlabelled prompts that go with each labelled one.",
)
@click.option(
    "--target",
    type=click.Choice(["reward", "clipped"]),
    help="E r* (also without this option), or E[r* - beta l^tau] with tau fixed beforehand; "
    "--require-lower needs it said.",
)
@beta_option
@click.option("--tau", type=float, metavar="NATS", help="Clip threshold, fixed beforehand.")
@click.option(
    "--tau-negative",
    type=float,
    metavar="NATS",
    help="Threshold for negative log-ratios, where it differs from --tau.",
)
@click.option(
    "--delta",
    type=float,
    default=0.05,
    show_default=True,
    help="Probability that any interval that is ever shown misses.",
)
@click.option(
    "--side",
    type=click.Choice(["both", "lower"]),
    default="both",
    show_default=True,
    help="Spend all of delta on the lower end, where only that is needed.",
)
@click.option(
    "--by",
    type=click.Choice(BY_COLUMNS),
    help="Watch each one; all hold together; the first that reaches the goal decides.",
)
@click.option(
    "--average",
    is_flag=True,
    help="The policy changes: an interval for the running average over the log.",
)
@click.option(
    "--one-policy", is_flag=True, help="One policy made all rows, whatever step and policy say."
)
@declare_option
@held_out_option
@click.option(
    "--prompts",
    type=click.Choice(PROMPT_MODES),
    default=SAMPLE,
    show_default=True,
    help="Each distinct prompt counts once (sample), or `group` marks draws of prompts with "
    "replacement; a list is audited when it is all there.",
)
@click.option(
    "--whole-batches",
    is_flag=True,
    help="Files grow by whole batches that are waited for: no outcome decides which prompt is "
    "ahead.",
)
@click.option(
    "--state",
    metavar="PATH",
    help="Keep what was read and counted here, and go on from it after a restart.",
)
@click.option("--once", is_flag=True, help="One look, then exit: for cron, with --state.")
@click.option("--final", is_flag=True, help="The log is finished: one look, nothing waits.")
@click.option(
    "--interval",
    "pause",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option(
    "--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Stop looking after this long."
)
@click.option(
    "--idle",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Stop looking when no row has come for this long.",
)
@click.option("--quiet", is_flag=True, help="No line after each look.")
@labels_options
@json_option
@html_option
@click.option("--plot", metavar="PATH", help="Draw the path of the interval (.svg, .png).")
def watch(
    log,
    mapping,
    learned,
    state,
    once,
    final,
    pause,
    timeout,
    idle,
    quiet,
    labels,
    label_map,
    json_path,
    html_path,
    plot,
    declare,
    held_out,
    **settings,
):
    """Watch a LOG that grows, and say when enough prompts were drawn.

    The interval may be looked at at any time. Exit status: 0 the goal is reached (or none was
    set), 3 it cannot be reached any more, 4 stopped looking before either was certain.
    """
    from taut.decisions.stopping.options import WatchOptions
    from taut.draws.declared import declared_words
    from taut.engines.follow import Follower, only_watcher

    if plot is not None:
        picture(plot)
    if settings["gold"] == learned:
        raise UsageError(
            "say which reward is meant: --gold (gold labels: the true reward) or --learned (the "
            "learned reward only, which says nothing about the true one)."
        )
    if settings["require_lower"] is not None and settings["target"] is None:
        raise UsageError(
            "--require-lower needs an explicit --target (reward, clipped): a gate says what it is "
            "about."
        )
    label = None
    if labels:
        if not (final and settings["gold"]):
            raise UsageError(
                "--labels needs --gold and --final: a sheet is drawn from a log that is finished."
            )
        label = labeller_of(log, labels, label_map, mapping, settings["prompts"])
    settings["target"] = settings["target"] or "reward"
    options = WatchOptions(declare=declared_words(declare, held_out=held_out), **settings)
    written = [path for path in (json_path, html_path, plot) if path not in (None, "-")]
    with only_watcher(state):
        follower = Follower(
            log,
            options,
            mapping=name_pairs(mapping),
            state=state,
            ignore=written,
            label=label,
        )
        looked = _writer(json_path, html_path)
        _follow(follower, _Clock(pause, timeout, idle, once or final), final, quiet, looked)
    found = follower.result
    show(found, json_path, html_path)
    if plot is not None:
        _plot(found, plot)
    if options.width is None and options.require_lower is None:
        return 0
    refusal = _refusal(found)
    if refusal is not None:
        return complain(f"the goal is reached, but {refusal}.", EXIT_GATE)
    return {"reached": 0, "impossible": EXIT_GATE}.get(found.decision, EXIT_UNDECIDED)


def _refusal(found) -> str | None:
    """Say why a reached goal does not pass: only an estimate, or something is in doubt."""
    from taut.draws.assumptions import gate_refusal
    from taut.types import Status

    why = None
    for item in found.series:
        if item.decision != "reached":
            continue
        if item.interval.status not in (Status.CERTIFIED, Status.CONDITIONAL):
            doubt = gate_refusal(item.assumptions)
            why = f"only {item.interval.status}: {doubt}"
            continue
        doubt = gate_refusal(item.assumptions)
        if doubt is None:
            return None
        why = f"a gate does not pass on this: {doubt}"
    return why


class _Clock:
    """When to look again, and when to stop looking."""

    def __init__(self, pause: float, timeout: float | None, idle: float | None, once: bool) -> None:
        self._pause, self._timeout, self._idle, self._once = pause, timeout, idle, once
        self._start = self._moved = time.monotonic()
        self._rows = -1

    def goes_on(self, rows: int) -> bool:
        """Wait for the next look; False when there is none."""
        now = time.monotonic()
        if rows != self._rows:
            self._rows, self._moved = rows, now
        left = [self._pause]
        if self._timeout is not None:
            left.append(self._start + self._timeout - now)
        if self._idle is not None:
            left.append(self._moved + self._idle - now)
        if self._once or min(left) <= 0:
            return False
        time.sleep(min(left))
        return True


def _writer(json_path: str | None, html_path: str | None):
    """Return what writes the files that were asked for, after each look."""
    from taut.report.door import report_page

    def write(found) -> None:
        if json_path not in (None, "-"):
            write_text(json_path, found.to_json())
        if html_path is not None:
            write_text(html_path, report_page(found))

    return write


def _follow(follower, clock: _Clock, final: bool, quiet: bool, looked) -> None:
    """Look until a decision is taken or the clock says stop."""
    from taut.report.terminal.monitor import watch_line

    live = sys.stderr.isatty()
    shown = ""
    while True:
        follower.look(final=final)
        found = follower.result
        line = watch_line(found)
        if not quiet and (live or line != shown):
            click.echo(f"\r\x1b[K{line}" if live else line, err=True, nl=not live)
            shown = line
        looked(found)
        if found.decision != "continue" or not clock.goes_on(found.log.rollouts):
            break
    if live and not quiet:
        click.echo("\r\x1b[K", err=True, nl=False)


def _plot(found, path: str) -> None:
    reached = [item for item in found.series if item.decision == "reached"]
    item = (reached or found.series or (None,))[0 if reached else -1]
    if item is None or len(item.path) < 2:
        # Cron would take the status of a wrong request for a broken watch.
        click.echo(f"taut: --plot {path}: nothing to draw, as no prompt is complete.", err=True)
        return
    found.save(path, "path" if item.value is None else f"path {item.value}")
