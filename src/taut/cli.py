"""The command line: wiring only. Every command parses, calls one function, prints its result."""

import json
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import click

from taut.arguments import audit_options, html_option, json_option, log_options, range_options
from taut.errors import TautError, UsageError
from taut.version import __version__

EXIT_DATA, EXIT_USAGE, EXIT_GATE, EXIT_INTERRUPTED = 1, 2, 3, 130


def main() -> None:
    """Run the command line and turn errors into one line and an exit status (design §4)."""
    try:
        status = cli(standalone_mode=False)
    except click.exceptions.Abort:
        status = EXIT_INTERRUPTED
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        status = EXIT_USAGE
    except UsageError as error:
        status = _complain(str(error), EXIT_USAGE)
    except TautError as error:
        status = _complain(str(error), EXIT_DATA)
    except BrokenPipeError:
        # The reader of our output has left; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (OSError, MemoryError) as error:
        status = _complain(_system_error(error), EXIT_DATA)
    sys.exit(status if isinstance(status, int) else 0)


def _complain(message: str, status: int) -> int:
    click.echo(f"taut: {message}", err=True)
    return status


def _system_error(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "out of memory; convert the log first (taut convert) or audit a part of it."
    name = f"{error.filename}: " if getattr(error, "filename", None) else ""
    return f"{name}{error.strerror or error}"


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done; 1 the log or the data is wrong; 2 usage; 3 a --require gate "
    "failed; 130 interrupted.",
)
@click.version_option(__version__, prog_name="taut")
def cli():
    """How much of the reward you measured is real?

    taut turns RLHF rollout logs into finite-sample certificates for the true objective
    E[r* - beta log(pi/pi_ref)]: rewards in reward units, log-ratios in nats.
    """


@cli.command(
    epilog="Example: taut audit rollouts/*.parquet --beta 0.05 --reward-range -4 4 --tau auto"
)
@log_options
@audit_options
@range_options
@click.option(
    "--by",
    type=click.Choice(["step", "policy", "run"]),
    help="Audit each one; all intervals hold together.",
)
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
    by,
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
    from taut.certificate import audit as audit_one
    from taut.certificate import audit_by
    from taut.document import certificate_document, groups_document

    settings["tau"] = None if settings["tau"] == "none" else settings["tau"]
    rollouts = _read(log, mapping, lenient, token_clip, quiet, features=bool(reward_data))
    if reward_data:
        settings["reward_data"] = _reward_data(reward_data, reward_map or mapping, behaviour, quiet)
        if behaviour and rollouts.behaviour_logprob is not None:
            raise UsageError(
                "--behaviour describes the reward data; the audited log has a `behaviour_logprob` "
                "of its own, of one policy. Map it away, or log that of the mixture in both."
            )
    elif reward_map or behaviour:
        raise UsageError("--reward-map and --behaviour describe --reward-data; give that too.")
    if margin is not None and (by is not None or not reward_data):
        raise UsageError("--margin needs --reward-data, and one policy at a time (no --by).")
    if by is None:
        certificates = [audit_one(rollouts, **settings)]
        document = certificate_document(certificates[0])
    else:
        groups = audit_by(rollouts, by, **settings)
        certificates = list(groups.values())
        document = groups_document(by, groups)
    if margin is not None:
        document["transport"] = _transport(rollouts, settings, margin)
    _show(document, json_path, html_path)
    if require_lower is not None:
        return _gate(certificates, require_lower)
    return 0


@cli.command(
    epilog="Example: taut select run/*.parquet --by step --target reward --reward-range 0 1 "
    "--held-out"
)
@log_options
@audit_options
@range_options
@click.option(
    "--by",
    type=click.Choice(["step", "policy", "run"]),
    default="step",
    show_default=True,
    help="The column that tells candidates apart.",
)
@click.option(
    "--require-best",
    metavar="VALUE",
    help="Exit 3 unless this step, policy or run is the choice, with a guarantee.",
)
@json_option
@html_option
def select(
    log, mapping, lenient, token_clip, quiet, by, require_best, json_path, html_path, **settings
):
    """Choose the best checkpoint in a LOG by certified reward, with the choice itself paid for.

    Certificates of all candidates hold together with the list of those that can still be the best
    and with how far the choice may be below it. Log every candidate that was looked at.
    """
    from taut.decisions.checkpoint import select as select_best

    foreign = [settings.pop(name) for name in ("reward_data", "reward_map", "behaviour", "margin")]
    if any(value not in (None, ()) for value in foreign):
        raise UsageError("--reward-data speaks of one policy: use taut audit for each candidate.")
    settings["tau"] = None if settings["tau"] == "none" else settings["tau"]
    selection = select_best(_read(log, mapping, lenient, token_clip, quiet), by, **settings)
    names = [str(item.name) for item in selection.candidates]
    if require_best is not None and require_best not in names:
        raise UsageError(f"--require-best {require_best}: no such {by}; found {', '.join(names)}.")
    _show(selection.document, json_path, html_path)
    if require_best in (None, str(selection.chosen)):
        return 0
    chosen = selection.chosen
    found = "no candidate has a guarantee" if chosen is None else f"the choice is {chosen}"
    return _complain(f"--require-best {require_best} failed: {found}.", EXIT_GATE)


@cli.command(epilog="Example: taut check rollouts/ --reward-range 0 1")
@log_options
@range_options
@json_option
@html_option
def check(log, mapping, lenient, token_clip, quiet, json_path, html_path, reward_range, **settings):
    """Check the health of a LOG: what would make a certificate wrong. Exit 1 if a check fails."""
    from taut.certificate import check as check_log
    from taut.document import health_document

    rollouts = _read(log, mapping, lenient, token_clip, quiet)
    checks = check_log(rollouts, reward_range=reward_range, **settings)
    document = {
        "schema": "taut.health/1",
        "version": __version__,
        "log": {"rollouts": len(rollouts), "rejected_rows": rollouts.rejected_rows},
        "health": health_document(checks),
    }
    _show(document, json_path, html_path)
    return EXIT_DATA if any(item.status == "fail" for item in checks) else 0


@cli.command(epilog="Example: taut convert run/*.jsonl.gz -o run.parquet --map reward=score")
@log_options
@click.option("-o", "--output", required=True, metavar="FILE", help="Native Parquet to write.")
def convert(log, mapping, lenient, token_clip, quiet, output):
    """Reduce any LOG to native Parquet: token lists become sequence sums, once."""
    from taut.engines.local import convert as convert_log

    with _progress(quiet) as progress:
        rows = convert_log(
            log,
            output,
            mapping=_mapping(mapping),
            lenient=lenient,
            token_clip=token_clip,
            progress=progress,
        )
    click.echo(f"{rows} rollouts -> {output}", err=True)


@cli.command(
    epilog="Example: taut simulate over_optimised -o log.parquet --prompts 1000 --gold 300"
)
@click.argument("world", metavar="WORLD")
@click.option("-o", "--output", required=True, metavar="FILE", help="Parquet or JSONL to write.")
@click.option("--prompts", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--rollouts-per-prompt", type=click.IntRange(1), help="K; the world's own if absent.")
@click.option(
    "--gold", type=click.IntRange(0), default=0, show_default=True, help="Prompts to label."
)
@click.option("--seed", type=int, default=0, show_default=True)
def simulate(world, output, prompts, rollouts_per_prompt, gold, seed):
    """Write a log of a finite WORLD and, beside it, its exact truth.

    The truth (J*, E r*, every term) goes to OUTPUT.truth.json.
    """
    from taut.worlds import simulate as simulate_log

    simulate_log(
        world,
        output,
        prompts=prompts,
        rollouts_per_prompt=rollouts_per_prompt,
        gold=gold,
        seed=seed,
    )
    click.echo(f"{output} and {output}.truth.json", err=True)


@cli.command()
@json_option
@html_option
def demo(json_path, html_path):
    """Audit the bundled example: an over-optimised policy whose truth is known."""
    from taut.certificate import audit as audit_one
    from taut.document import certificate_document
    from taut.engines.local import read_rollouts

    folder = Path(__file__).parent / "examples"
    truth = json.loads((folder / "over_optimised.parquet.truth.json").read_text())
    rollouts = read_rollouts(folder / "over_optimised.parquet")
    declared = {name: truth["settings"][name] for name in ("beta", "reward_range", "log_ratio_max")}
    certificate = audit_one(rollouts, **declared)
    _show(certificate_document(certificate), json_path, html_path)
    if json_path != "-":
        known = truth["truth"]["objective"]
        inside = "inside" if certificate.lower <= known <= certificate.upper else "OUTSIDE"
        click.echo(
            f"  This log was drawn from a world whose true objective is known: {known:.4f}, "
            f"{inside} [{certificate.lower:.4f}, {certificate.upper:.4f}]."
        )


def _mapping(pairs: tuple[str, ...]) -> dict[str, str]:
    mapping = {}
    for pair in pairs:
        name, sign, path = pair.partition("=")
        if not (sign and name and path):
            raise UsageError(f"{pair!r}: expected NAME=PATH, as in --map reward=scores.judge.")
        if name in mapping:
            raise UsageError(f"'{name}' is named twice; each name takes one value.")
        mapping[name] = path
    return mapping


def _read(log, mapping, lenient, token_clip, quiet, features=False):
    from taut.engines.local import read_rollouts

    with _progress(quiet) as progress:
        return read_rollouts(
            list(log),
            mapping=_mapping(mapping),
            lenient=lenient,
            token_clip=token_clip,
            features=features,
            progress=progress,
        )


def _reward_data(log, mapping, behaviour, quiet):
    """Read reward data; of several behaviour policies, one pass for each one's log-probs."""
    if not behaviour:
        return _read(log, mapping, None, None, quiet, features=True)
    from dataclasses import replace

    from taut.coverage import mixture_logprob

    shares = {path: _share(path, share) for path, share in _mapping(behaviour).items()}
    needed = [pair for pair in mapping if pair.startswith(("prompt_id=", "prompt=", "reward="))]
    columns = [
        _read(log, (*needed, f"behaviour_logprob={path}"), None, None, quiet).behaviour_logprob
        for path in shares
    ]
    mixed = mixture_logprob(columns, list(shares.values()))
    rows = _read(log, mapping, None, None, quiet, features=True)
    return replace(rows, behaviour_logprob=mixed)


def _transport(rollouts, settings, margin: float) -> dict:
    from taut.document import transport_document
    from taut.transport import audit_transport

    scale = settings["gold_range"] or settings["reward_range"]
    if scale is None:
        raise UsageError("--margin needs --reward-range or --gold-range, the range of gold.")
    found = audit_transport(
        rollouts,
        settings["reward_data"],
        gold_range=scale,
        margin=margin,
        delta=settings["delta"],
        seed=settings["seed"],
    )
    return transport_document(found)


def _share(path: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--behaviour {path}={text}: expected PATH=SHARE, a number.") from None


def _show(document: dict, json_path: str | None, html_path: str | None) -> None:
    from taut.report import selection, terminal

    page = {
        "taut.certificate/1": terminal.certificate_report,
        "taut.certificates/1": terminal.groups_report,
        "taut.selection/1": selection.selection_report,
        "taut.health/1": lambda found: terminal.health_report(found["health"], found["log"]),
    }[document["schema"]](document)
    if html_path is not None:
        _write_atomically(Path(html_path), terminal.report_page(page, "taut"))
    if json_path == "-":
        click.echo(_json(document), nl=False)
        return
    if json_path is not None:
        _write_atomically(Path(json_path), _json(document))
    terminal.print_report(page)


def _json(document: dict) -> str:
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _write_atomically(path: Path, text: str) -> None:
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: the folder does not exist; make it first.") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _gate(certificates, least: float) -> int:
    """Pass only on ends that carry a guarantee: an estimate is no ground for a release."""
    from taut.types import Status

    for certificate in certificates:
        guaranteed = certificate.status in (Status.CERTIFIED, Status.CONDITIONAL)
        if not guaranteed or certificate.lower < least:
            reason = "" if guaranteed else f" and is {certificate.status}, not certified"
            return _complain(
                f"--require-lower {least:g} failed: the lower end is {certificate.lower:.6g}"
                f"{reason}.",
                EXIT_GATE,
            )
    return 0


@contextmanager
def _progress(quiet: bool):
    """Yield a progress callback: a line on stderr once the work has taken more than a second."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    start = shown = time.monotonic()

    def tell(rows: int, read_bytes: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - start > 1 and now - shown > 0.2:
            shown = now
            click.echo(f"\r{rows:,} rollouts, {read_bytes / 1e6:,.0f} MB", err=True, nl=False)

    yield tell
    if shown > start:
        click.echo("\r\x1b[K", err=True, nl=False)
