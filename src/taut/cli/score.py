"""`taut score`: log-probs for rollouts that have only text or token ids."""

import sys
import time
from contextlib import contextmanager

import click

from taut.cli.reading import name_pairs
from taut.cli.root import cli


@cli.command(
    epilog="Example: taut score run/*.jsonl --policy step-400/ --ref sft/ -o scored.parquet"
)
@click.argument("log", nargs=-1, required=True, metavar="LOG...")
@click.option("--policy", required=True, metavar="M", help="Model under audit: folder, or adapter.")
@click.option("--ref", metavar="M", help="Reference model.")
@click.option("--behaviour", metavar="M", help="Model that sampled the responses.")
@click.option("-o", "--output", required=True, metavar="FILE", help="Native Parquet to write.")
@click.option("--base", metavar="FOLDER", help="Base of the adapters, where theirs is elsewhere.")
@click.option("--tokenizer", metavar="FOLDER", help="Tokenizer, where it is not the policy's.")
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="NAME=PATH",
    help="Read the native column NAME from the dotted PATH, as in response_ids=output.tokens.",
)
@click.option(
    "--lenient",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write rows that cannot be scored to FILE and go on; they are counted in all output.",
)
@click.option("--keep", multiple=True, metavar="COLUMN", help="Keep a further column of the log.")
@click.option(
    "--end-token",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Count the end token's log-prob: iff not truncated (ids: iff it is there), for all that "
    "are not truncated, or never.",
)
@click.option(
    "--temperature",
    type=float,
    default=1.0,
    show_default=True,
    help="Divide logits by it: log-probs of the policy as it was sampled.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    help="Of the weights; by default float32 on a CPU, bfloat16 on a GPU.",
)
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), help="By default a GPU if there is one."
)
@click.option(
    "--batch-tokens", type=int, metavar="N", help="Tokens of a batch; lower it if memory is short."
)
@click.option(
    "--retokenise",
    is_flag=True,
    help="Score text even where its tokens are surely not those that were sampled: an estimate.",
)
@click.option("--token-lists", is_flag=True, help="Also write each token's log-prob.")
@click.option("--no-words", is_flag=True, help="Leave text and token ids out of the output.")
@click.option("--restart", is_flag=True, help="Throw away the progress of an unfinished run.")
@click.option(
    "--engine",
    default="local",
    show_default=True,
    metavar="local|ray|ray://HOST:PORT",
    help="Who scores: this machine, or the devices of a Ray cluster (docs/ray.md); the same bytes.",
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def score(log, output, mapping, lenient, no_words, quiet, **settings):
    """Add the log-probs of a LOG's responses under each model, all by one engine.

    Rows need response_ids and prompt_ids (exact), or response and prompt (text or chat messages).
    A run that was stopped goes on where it was. Models are folders with safetensors; nothing is
    downloaded and no code of theirs is run.
    """
    import taut

    start = time.monotonic()
    with _progress(quiet) as progress:
        scored = taut.score(
            log,
            output,
            mapping=name_pairs(mapping),
            lenient=lenient,
            words=not no_words,
            progress=progress,
            **settings,
        )
    _tell(scored, time.monotonic() - start)


@contextmanager
def _progress(quiet: bool):
    """Yield a callback that keeps a line on stderr, where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    shown = 0.0
    first: dict[str, tuple[float, int]] = {}

    def tell(what: str, done: int, rows: int) -> None:
        nonlocal shown
        now = time.monotonic()
        begun, before = first.setdefault(what, (now, done))
        if now - shown < 0.2 and done < rows:
            return
        shown = now
        left = (now - begun) / max(done - before, 1) * (rows - done)
        share = f"/{rows:,} ({done / rows:.0%}, {left:,.0f} s left)" if rows else ""
        click.echo(f"\r\x1b[K{done:,}{share} rollouts {what}", err=True, nl=False)

    try:
        yield tell
    finally:
        if first:
            click.echo("\r\x1b[K", err=True, nl=False)


def _tell(scored, seconds: float) -> None:
    """Say on stderr what was done, as one who has to trust it wants to know."""
    settings = scored.settings
    count = scored.rejected_rows
    left_out = f", {count:,} row{'s' * (count != 1)} left out" if count else ""
    lines = [
        f"{scored.rollouts:,} rollouts, {scored.tokens:,} response tokens{left_out} -> "
        f"{scored.output} ({seconds:,.0f} s)",
        f"engine: {settings['dtype']} on {settings['device']}, temperature "
        f"{settings['temperature']:g}, end token {settings['end_token']} "
        f"({scored.counts['ended']:,} counted, {scored.counts['added']:,} of them added)",
    ]
    for role, model in scored.models.items():
        noise = model.noise
        lines.append(
            f"{role}: {model.name} ({model.fingerprint[:12]}), {model.head} head; other padding "
            f"moves a response by {noise.rms:.1e} nats (rms of {noise.rows}, at most "
            f"{noise.largest:.1e})"
        )
    if scored.log_ratio is not None:
        mean, deviation = scored.log_ratio
        lines.append(f"log-ratio policy - ref: mean {mean:.4g}, sd {deviation:.4g} nats a response")
    lines += [f"note: {notice}" for notice in scored.notices]
    click.echo("\n".join(lines), err=True)
