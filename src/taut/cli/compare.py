"""`taut compare`: is one policy better than another, and was the reward hacked?"""

import math
from pathlib import Path

import click

from taut.cli.arguments import audit_options, html_option, json_option, log_options, range_options
from taut.cli.labelled import labels_options, read_labelled
from taut.cli.root import EXIT_GATE, cli, complain
from taut.cli.show import show
from taut.errors import UsageError

# Settings of an audit that speak of one policy alone.
_FOREIGN = ("reward_data", "reward_map", "behaviour", "missing", "launched", "coverage")
_FOREIGN += ("reward_mse", "side", "route")


@cli.command(
    epilog="Example: taut compare new.parquet old.parquet --target reward --reward-range 0 1 "
    "--declare held-out"
)
@log_options
@audit_options
@range_options
@labels_options
@click.option(
    "--by", metavar="COLUMN", help="The column that tells the two apart, where LOG holds both."
)
@click.option("--of", "of_value", metavar="VALUE", help="With --by: the first policy, a.")
@click.option("--against", metavar="VALUE", help="With --by: the second one, b.")
@click.option(
    "--require-no-worse-than",
    type=float,
    metavar="M",
    help="Exit 3 unless a is certified to be at most M worse than b; M fixed beforehand.",
)
@json_option
@html_option
def compare(
    log,
    mapping,
    lenient,
    token_clip,
    quiet,
    labels,
    label_map,
    by,
    of_value,
    against,
    require_no_worse_than,
    json_path,
    html_path,
    margin,
    **settings,
):
    """Compare two policies, A and B: two LOGs, or one with --by, --of and --against.

    Paired on the prompts that both answered; the true reward where gold is, the learned one beside
    it. --margin M asks whether A is at most M worse.
    """
    from taut.decisions.comparison.compare import compare as compare_two

    _refuse_foreign(settings)
    limit = _limit(margin, require_no_worse_than, settings["target"])
    settings["tau"] = None if settings["tau"] == "none" else settings["tau"]
    rest = (mapping, lenient, token_clip, quiet, labels, label_map)
    if by is None:
        if of_value is not None or against is not None:
            raise UsageError("--of and --against are values of --by; give that too.")
        if len(log) != 2:
            raise UsageError(
                f"expected two logs, A and B, found {len(log)}; name two files, folders or quoted "
                "globs, or one log with --by COLUMN --of A --against B."
            )
        parts = [read_labelled((path,), *rest, plain=True) for path in log]
        found = compare_two(*parts, names=_names(log), margin=limit, **settings)
    else:
        from taut.draws.slices import needed

        if of_value is None or against is None:
            raise UsageError("--by COLUMN needs --of A and --against B, two of its values.")
        rollouts = read_labelled(log, *rest, plain=True, keep=needed((by,)))
        found = compare_two(rollouts, by=by, of=of_value, against=against, margin=limit, **settings)
    show(found, json_path, html_path)
    return 0 if require_no_worse_than is None else _gate(found, require_no_worse_than)


def _refuse_foreign(settings) -> None:
    for name in _FOREIGN:
        value = settings.pop(name)
        if value not in (None, (), "auto", "both"):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} speaks of one policy: use taut audit for each of the two.")


def _limit(margin: float | None, required: float | None, target: str) -> float | None:
    for option, value in (("--margin", margin), ("--require-no-worse-than", required)):
        if value is not None and not 0 <= value < math.inf:
            raise UsageError(f"{option} is {value}; expected a number of at least 0.")
    if required is not None and margin not in (None, required):
        raise UsageError("--margin and --require-no-worse-than differ; give one of them.")
    if required is not None and target == "auto":
        raise UsageError(
            "--require-no-worse-than needs an explicit --target (reward, clipped, objective): a "
            "gate must not move with what a log happens to hold."
        )
    return margin if required is None else required


def _names(paths) -> tuple[str, str]:
    """Return short names that tell two paths apart."""
    one, other = (Path(path) for path in paths)
    if one.name != other.name:
        return one.name, other.name
    return (str(one), str(other)) if str(one) != str(other) else (f"{one} (a)", f"{other} (b)")


def _gate(found, most: float) -> int:
    """Pass only on a lower end that carries a guarantee, with nothing in doubt (theory §5)."""
    from taut.draws.assumptions import gate_refusal
    from taut.types import Status

    item, failed = found.difference, f"--require-no-worse-than {most:g} failed"
    if item.status not in (Status.CERTIFIED, Status.CONDITIONAL) or item.lower is None:
        return complain(f"{failed}: the difference is {item.status}, not certified.", EXIT_GATE)
    if item.lower < -most:
        return complain(f"{failed}: the lower end is {item.lower:.6g}.", EXIT_GATE)
    refusal = gate_refusal(found.assumptions)
    if refusal is not None:
        return complain(f"{failed}: a gate does not pass on this: {refusal}.", EXIT_GATE)
    return 0
