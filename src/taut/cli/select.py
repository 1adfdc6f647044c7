"""`taut select`: which checkpoint is really best."""

import click

from taut.auditing.words import BY_COLUMNS
from taut.cli.arguments import audit_options, html_option, json_option, log_options, range_options
from taut.cli.labelled import labels_options, read_labelled
from taut.cli.root import EXIT_GATE, cli, complain
from taut.cli.show import show
from taut.errors import UsageError


@cli.command(
    epilog="Example: taut select run/*.parquet --by step --target reward --reward-range 0 1 "
    "--held-out"
)
@log_options
@audit_options
@range_options
@labels_options
@click.option(
    "--by",
    type=click.Choice(BY_COLUMNS),
    default="step",
    show_default=True,
    help="The column that tells candidates apart.",
)
@click.option(
    "--require-best",
    metavar="VALUE",
    help="Exit 3 unless this step, policy or run is the choice, with a guarantee.",
)
@click.option(
    "--leader",
    metavar="VALUE",
    help="The one expected to be best, named before this log was looked at: comparisons with it "
    "get half of what comparisons may spend. Any name is valid; a right one pays.",
)
@json_option
@html_option
def select(
    log,
    mapping,
    lenient,
    token_clip,
    quiet,
    labels,
    label_map,
    by,
    require_best,
    json_path,
    html_path,
    **settings,
):
    """Choose the best checkpoint in a LOG by certified reward, with the choice itself paid for.

    Certificates of all candidates hold together with the list of those that can still be the best
    and with how far the choice may be below it. Log every candidate that was looked at.
    """
    from taut.decisions.selection.select import select as select_best
    from taut.draws.assumptions import gate_refusal

    foreign = [settings.pop(name) for name in ("reward_data", "reward_map", "behaviour", "margin")]
    if any(value not in (None, ()) for value in foreign):
        raise UsageError("--reward-data speaks of one policy: use taut audit for each candidate.")
    if require_best is not None and settings["target"] == "auto":
        raise UsageError(
            "--require-best needs an explicit --target (reward, clipped, objective): a gate must "
            "not move with what a log happens to hold."
        )
    settings["tau"] = None if settings["tau"] == "none" else settings["tau"]
    rollouts = read_labelled(
        log, mapping, lenient, token_clip, quiet, labels, label_map, plain=True
    )
    selection = select_best(rollouts, by, **settings)
    names = [str(item.name) for item in selection.candidates]
    if require_best is not None and require_best not in names:
        raise UsageError(f"--require-best {require_best}: no such {by}; found {', '.join(names)}.")
    show(selection, json_path, html_path)
    refusal = gate_refusal(selection.assumptions)
    if require_best is None or (require_best == str(selection.chosen) and refusal is None):
        return 0
    if require_best == str(selection.chosen):
        return complain(
            f"--require-best {require_best} failed: it is the choice, but a gate does not pass on "
            f"this: {refusal}.",
            EXIT_GATE,
        )
    chosen = selection.chosen
    found = "no candidate has a guarantee" if chosen is None else f"the choice is {chosen}"
    return complain(f"--require-best {require_best} failed: {found}.", EXIT_GATE)
