"""`taut audit`: a certificate for a log."""

import math

import click

from taut.cli.arguments import audit_options, html_option, json_option, log_options, range_options
from taut.cli.labelled import labels_options, read_labelled
from taut.cli.reading import name_pairs, read_log
from taut.cli.root import EXIT_GATE, cli, complain
from taut.cli.show import show
from taut.cli.slicing import CHOSEN, certify, slicing_options, wanted
from taut.errors import UsageError


@cli.command(
    epilog="Example: taut audit rollouts/*.parquet --beta 0.05 --reward-range -4 4 --tau auto"
)
@log_options
@audit_options
@range_options
@labels_options
@slicing_options
@click.option(
    "--require-lower",
    type=float,
    metavar="X",
    help="Exit 3 unless a certified or conditional lower end is at least X, reward units.",
)
@json_option
@html_option
def audit(
    log,
    mapping,
    lenient,
    token_clip,
    quiet,
    labels,
    label_map,
    require_lower,
    json_path,
    html_path,
    reward_data,
    reward_map,
    behaviour,
    margin,
    **settings,
):
    """Certify what a rollout LOG (Parquet or JSONL files, globs, folders) says.

    The certificate is an interval for the true objective, split into sampling, reward shift and
    KL clipping, with its error budget, status and assumptions.
    """
    from taut.engines.prompt_table import sides

    chosen = {name: settings.pop(name) for name in CHOSEN}
    form = wanted(chosen)
    if require_lower is not None and settings["target"] == "auto":
        raise UsageError(
            "--require-lower needs an explicit --target (reward, clipped, objective): a gate must "
            "not move with what a log happens to hold."
        )
    if require_lower is not None and math.isnan(require_lower):
        raise UsageError("--require-lower is nan, which no end can be below; expected a number.")
    if require_lower is not None and chosen["gap"]:
        raise UsageError("--require-lower is of certificates; --gap has none: leave one out.")
    settings["tau"] = None if settings["tau"] == "none" else settings["tau"]
    chosen["by_table"], kept = sides(chosen["by_table"], chosen["by"])
    rollouts = read_labelled(
        log,
        mapping,
        lenient,
        token_clip,
        quiet,
        labels,
        label_map,
        features=bool(reward_data),
        keep=kept,
        parts=form == "parts",
    )
    if reward_data:
        settings["reward_data"] = _reward_data(reward_data, reward_map or mapping, behaviour, quiet)
        if behaviour and rollouts.behaviour_logprob is not None:
            raise UsageError(
                "--behaviour describes the reward data; the audited log has a `behaviour_logprob` "
                "of its own, of one policy. Map it away, or log that of the mixture in both."
            )
    elif reward_map or behaviour:
        raise UsageError("--reward-map and --behaviour describe --reward-data; give that too.")
    if margin is not None and (form != "one" or not reward_data):
        raise UsageError("--margin needs --reward-data, and one policy at a time (no --by).")
    found = certify(form, rollouts, chosen, settings)
    if margin is not None:
        found = found.model_copy(
            update={"transport": _transport(rollouts, settings, margin).document}
        )
    show(found, json_path, html_path, rollouts)
    if require_lower is not None:
        return _gate([found], require_lower) if form == "one" else _gate_all(found, require_lower)
    return 0


def _gate_all(found, least: float) -> int:
    """Pass only where every slice passes; one that cannot be told does not."""
    for group in found.groups:
        if group.certificate is None:
            told = group.cannot_tell or "it is a slice by response"
            return complain(
                f"--require-lower {least:g} failed: slice {group.value}: {told}.", EXIT_GATE
            )
    return _gate(found.values(), least)


def _reward_data(log, mapping, behaviour, quiet):
    """Read reward data; of several behaviour policies, one pass for each one's log-probs."""
    if not behaviour:
        return read_log(log, mapping, None, None, quiet, features=True, format="auto")
    from dataclasses import replace

    from taut.bounds.coverage import mixture_logprob

    shares = {path: _share(path, share) for path, share in name_pairs(behaviour).items()}
    needed = [pair for pair in mapping if pair.startswith(("prompt_id=", "prompt=", "reward="))]
    columns = [
        read_log(
            log, (*needed, f"behaviour_logprob={path}"), None, None, quiet, format="auto"
        ).behaviour_logprob
        for path in shares
    ]
    for path, column in zip(shares, columns, strict=True):
        if column is None:
            raise UsageError(f"--behaviour {path}: the reward data have no such column.")
    mixed = mixture_logprob(columns, list(shares.values()))
    rows = read_log(log, mapping, None, None, quiet, features=True, format="auto")
    return replace(rows, behaviour_logprob=mixed)


def _transport(rollouts, settings, margin: float):
    from taut.decisions.transport.transport import audit_transport

    scale = settings["gold_range"] or settings["reward_range"]
    if scale is None:
        raise UsageError("--margin needs --reward-range or --gold-range, the range of gold.")
    return audit_transport(
        rollouts,
        settings["reward_data"],
        gold_range=scale,
        margin=margin,
        delta=settings["delta"],
        seed=settings["seed"],
        declare=settings["declare"],
        held_out=settings["held_out"],
    )


def _share(path: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--behaviour {path}={text}: expected PATH=SHARE, a number.") from None


def _gate(certificates, least: float) -> int:
    """Pass only on ends that carry a guarantee, with nothing in doubt (theory §5)."""
    from taut.draws.assumptions import gate_refusal
    from taut.types import Status

    for certificate in certificates:
        failed = f"--require-lower {least:g} failed: the lower end is {certificate.lower:.6g}"
        if certificate.status not in (Status.CERTIFIED, Status.CONDITIONAL):
            return complain(f"{failed} and is {certificate.status}, not certified.", EXIT_GATE)
        if certificate.lower < least:
            return complain(f"{failed}.", EXIT_GATE)
        refusal = gate_refusal(certificate.assumptions)
        if refusal is not None:
            return complain(f"{failed}, but a gate does not pass on this: {refusal}.", EXIT_GATE)
    return 0
