"""Logs with --labels: read, joined, and told what they are worth."""

import click

from taut.cli.reading import name_pairs, read_log, say_notes
from taut.errors import UsageError

_UNEQUAL = (
    "these labels were drawn by strata or where the judge errs, by unequal chances: taut audit "
    "takes them, this command takes a sheet that gives all rows one chance."
)


def labels_options(function):
    """Add --labels and --label-map to a command."""
    for option in (
        click.option(
            "--label-map",
            multiple=True,
            metavar="NAME=COLUMN",
            help="Column of the label files, as in label=score or annotator=who; what their words "
            "mean says --map-value gold:C=1,I=0.",
        ),
        click.option(
            "--labels",
            multiple=True,
            metavar="FILE",
            help="Gold labels of LOG in a file of their own (CSV, JSONL, Parquet), joined by "
            "rollout_id; a sheet of `taut label draw` says who was chosen.",
        ),
    ):
        function = option(function)
    return function


def read_labelled(
    log, mapping, lenient, token_clip, quiet, labels, label_map, *, plain=False, **reading
):
    """Read the LOG arguments of a command with the labels of --labels.

    Args:
        log, mapping, lenient, token_clip, quiet, reading: As for `read_log`.
        labels, label_map: What the options say.
        plain: The command takes labels as a plain random sample.

    Raises:
        UsageError: `plain`, and the rows had unequal chances of a label.
    """
    if label_map and not labels:
        raise UsageError("--label-map speaks of --labels; give that too.")
    first = (log, mapping, lenient, token_clip, quiet)
    found = _joined(first, labels, label_map, reading) if labels else _own(first, reading)
    if plain and found.sheet is not None and not found.sheet.uniform:
        raise UsageError(_UNEQUAL)
    return found


def labeller_of(log, labels, label_map, mapping, prompts):
    """Return what gives the pieces of a finished LOG its labels, one chance for all rows.

    Raises:
        UsageError: The rows had unequal chances of a label.
    """
    from taut.cli.sheets import joined_labels
    from taut.labels.onto import labeller

    joined, rollouts = joined_labels(log, labels, label_map, "mean", mapping, prompts, True)
    design = joined.design
    if design is not None and (design.strata or any(part.active for part in design.parts)):
        raise UsageError(_UNEQUAL)
    return labeller(joined, rollouts.rollout_names)


def _joined(first, labels, label_map, reading):
    from taut.cli.sheets import gold_values, word_keys_of
    from taut.labels.answers import read_answers
    from taut.labels.merge import one_design
    from taut.labels.onto import with_labels

    answers = read_answers(labels, names=name_pairs(label_map), values=gold_values())
    design = one_design(answers)
    rollouts = read_log(*first, **_named(design, reading))
    words = None if answers.rollout_id is not None else word_keys_of(first[0], first[1])
    prompts = click.get_current_context().params.get("prompts", "sample")
    found = with_labels(rollouts, answers, prompts=prompts, words=words)
    say_notes(found.notes, quiet=first[-1])
    return found


def _own(first, reading):
    """A log without --labels; one that `taut label merge` wrote has its sheet."""
    from taut.draws.sheets import uniform_on_record

    rollouts = read_log(*first, **reading)
    if uniform_on_record(rollouts.facts.random_labels) or rollouts.facts.random_labels is None:
        return rollouts
    from taut.labels.onto import recorded_sheet, with_own_sheet

    found = recorded_sheet(rollouts)
    if found is None:
        return rollouts
    return with_own_sheet(read_log(*first, **_named(found[0], reading)), *found)


def _named(design, reading) -> dict:
    from taut.logs.schema import NATIVE

    by = None if design is None else design.by
    keep = () if by is None or by in NATIVE else (by,)
    return {**reading, "keep": (*reading.get("keep", ()), *keep), "rollout_ids": True}
