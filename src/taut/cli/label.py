"""`taut label`: from rollouts to gold labels and back."""

import sys
from pathlib import Path

import click

from taut.cli.reading import name_pairs, progress_line
from taut.cli.root import cli
from taut.errors import LogError, UsageError
from taut.logs.origin import FORMATS

_FEW_DRAWS = (20, 50, 100, 200, 500, 1000, 2000, 5000)  # rows of the forecast


def _options(*options):
    def decorate(function):
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_reading = _options(
    click.option(
        "--map",
        "mapping",
        multiple=True,
        metavar="NAME=PATH",
        help="Read the native column NAME from the dotted PATH, as in response=completion.",
    ),
    click.option(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        default="auto",
        show_default=True,
        help="Which framework wrote LOG.",
    ),
    click.option(
        "--prompts",
        type=click.Choice(["sample", "with-replacement"]),
        default="sample",
        show_default=True,
        help="A draw is a prompt with all its rollouts, or each group of a prompt's.",
    ),
    click.option("--quiet", is_flag=True, help="No progress bar and no advice."),
)
_answers = _options(
    click.option(
        "--label-map",
        multiple=True,
        metavar="NAME=COLUMN",
        help="Column of the label files, as in label=score or annotator=who.",
    ),
    click.option(
        "--map-value",
        multiple=True,
        metavar="gold:WORD=NUMBER,...",
        help="What a label that is no number means, as in gold:C=1,I=0.",
    ),
)
_out = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Sheet to write: .html to label in a browser, .csv for a spreadsheet, or .jsonl.",
)
_joining = click.option(
    "--joining",
    type=click.Choice(["mean", "majority"]),
    default="mean",
    show_default=True,
    help="What several annotators of one rollout become.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@cli.group()
def label():
    """Draw rollouts to label, read the labels back, compare annotators."""


@label.command(
    epilog="Example: taut label draw held_out/ -n 200 -o sheet.html; label it in a browser, "
    "download, then: taut audit held_out/ --labels labels.jsonl"
)
@click.argument("log", nargs=-1, required=True, metavar="LOG...")
@click.option("-n", "labels", type=click.IntRange(min=1), help="Labels (--whole: prompts).")
@click.option("--width", type=float, help="In place of -n: width of the certificate, gold units.")
@click.option(
    "--expect",
    type=float,
    help="With --width: mean of gold that you expect.  [default: middle]",
)
@_out
@click.option("--rows", "way", flag_value="rows", help="Rows drawn from all rows.")
@click.option("--whole", "way", flag_value="whole", help="All rollouts of each prompt drawn.")
@click.option("--by", metavar="COLUMN", help="Blocks of one rollout of each value of a column.")
@click.option(
    "--share",
    multiple=True,
    metavar="VALUE=SHARE",
    help="With --by: share of each value in the population, known before the log.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the order.")
@click.option(
    "--most",
    type=click.IntRange(min=1),
    help="Labels that you may ask for in all, with those of later sheets and `label next`.",
)
@click.option(
    "--after",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="SHEET",
    help="Go on behind this sheet (or its labels): -n more, none twice.",
)
@click.option("--annotator", "annotators", multiple=True, help="One sheet for each one named.")
@click.option(
    "--per-annotator",
    type=click.IntRange(min=1),
    metavar="N",
    help="In place of -n: labels that each annotator is to give.",
)
@click.option(
    "--overlap",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Prompts that go to every annotator, to see whether they agree.",
)
@click.option(
    "--scale",
    type=click.Choice(["yes-no", "choices", "number"]),
    help="What may be answered.  [default: by --gold-range]",
)
@click.option("--gold-range", nargs=2, type=float, metavar="LOW HIGH", help="Range of the labels.")
@click.option("--question", default="", help="What is asked, shown on the page.")
@click.option("--dry-run", is_flag=True, help="Say what would be drawn, and which width it gives.")
@_reading
def draw(
    log,
    labels,
    width,
    expect,
    output,
    way,
    by,
    share,
    seed,
    most,
    after,
    annotators,
    per_annotator,
    overlap,
    scale,
    gold_range,
    question,
    dry_run,
    mapping,
    form,
    prompts,
    quiet,
):
    """Choose rollouts of a LOG to label: by default one random rollout of each of N prompts.

    Who is drawn depends on ids and the seed alone, never on rewards, and the sheet holds none. It
    carries prompts and responses: private data leave the house with it.
    """
    from taut.labels.draw import draw as draw_sheet

    if way and by:
        raise UsageError(f"--{way} and --by exclude each other; choose one way of drawing.")
    if not output and not dry_run:
        raise UsageError("expected -o FILE (.html, .csv or .jsonl), or --dry-run.")
    if (per_annotator or overlap) and not annotators:
        raise UsageError("--per-annotator and --overlap need --annotator NAME, once for each.")
    rollouts = _read(log, mapping, form, quiet, keep=by)
    population = _population(rollouts, by, prompts)
    chosen = _scale(scale, gold_range, question, rollouts)
    if per_annotator:
        labels = overlap + len(annotators) * max(0, per_annotator - overlap)
    if (labels is None) == (width is None):
        raise UsageError("expected -n N or --width W (one of them), or --per-annotator N.")
    if labels is None:
        labels = _sized(rollouts, width, expect, chosen)
        click.echo(f"A width of {width:g} is forecast for {labels:,} labels.", err=True)
    design, drawn = draw_sheet(
        population,
        labels,
        way=way or ("strata" if by else "one"),
        seed=seed,
        most=most,
        shares={k: float(v) for k, v in name_pairs(share).items()} if share else None,
        former=_former(after) if after else None,
        scale=chosen,
        annotators=annotators,
        overlap=overlap,
    )
    if dry_run:
        _forecast(rollouts, design, drawn, chosen)
        return
    files = _write(log, rollouts, design, drawn, annotators, output, mapping, form)
    if not quiet:
        _advise(design, drawn, files, log)


@label.command(epilog="Example: taut label merge held_out/ labels.jsonl -o labelled.parquet")
@click.argument("log")
@click.argument("labels", nargs=-1, required=True, metavar="LABELS...")
@click.option("-o", "--output", required=True, metavar="FILE", help="Native Parquet to write.")
@click.option("--replace", is_flag=True, help="Drop the labels that LOG has already.")
@_joining
@_answers
@_json
@_reading
def merge(
    log,
    labels,
    output,
    replace,
    joining,
    label_map,
    map_value,
    as_json,
    mapping,
    form,
    prompts,
    quiet,
):
    """Write LOG with the labels of LABELS in its column gold."""
    from taut.engines.local import stream
    from taut.labels.merge import add_gold
    from taut.logs.sources import find
    from taut.logs.write import write_native

    joined, rollouts = _joined(
        [log], labels, label_map, map_value, joining, mapping, form, prompts, quiet
    )
    if rollouts.gold is not None and not replace:
        raise UsageError(
            f"{log}: it has labels already; say --replace to drop them, or take them out of it."
        )
    files = find([log])
    pieces = stream(files, mapping=name_pairs(mapping), format=form)
    write_native(add_gold(pieces, joined.gold), output, inputs=[file.name for file in files])
    _show_returned(joined, as_json, f"-> {output}")


@label.command(
    epilog="Example: taut label agreement anna.jsonl ben.jsonl --log held_out/ --threshold 0.5"
)
@click.argument("labels", nargs=-1, required=True, metavar="LABELS...")
@click.option("--log", multiple=True, metavar="LOG", help="Also compare with the log's reward.")
@click.option(
    "--threshold", type=float, help="From here on the reward says yes; fixed before the labels."
)
@click.option("--delta", type=float, default=0.05, show_default=True, help="Of each interval.")
@_answers
@_json
@_reading
def agreement(
    labels,
    log,
    threshold,
    delta,
    label_map,
    map_value,
    as_json,
    mapping,
    form,
    prompts,
    quiet,
):
    """Compare annotators, and the reward with them, in finite-sample intervals."""
    from taut.labels.agreement import agreement as compare
    from taut.labels.agreement import judge_rates
    from taut.labels.answers import read_answers
    from taut.labels.merge import by_annotator

    if bool(log) != (threshold is not None):
        raise UsageError("--log and --threshold go together: where does the reward say yes?")
    answers = read_answers(labels, names=name_pairs(label_map), values=_values(map_value))
    table, names, (low, high) = by_annotator(answers)
    found = compare(table, names, low=low, high=high, delta=delta)
    if log:
        joined, rollouts = _joined(
            log, labels, label_map, map_value, "one", mapping, form, prompts, quiet
        )
        rows = joined.first_rows()
        rates = judge_rates(
            rollouts.reward[rows],
            (joined.gold[rows] - low) / (high - low),
            threshold=threshold,
            delta=delta,
        )
        found = found.model_copy(update={"measured": (*found.measured, *rates)})
    if as_json:
        click.echo(found.model_dump_json(indent=2))
        return
    for item in found.measured:
        shown = "      –" if item.estimate is None else f"{item.estimate:7.3f}"
        click.echo(
            f"{item.name:<30} {shown}  [{item.lower:6.3f}, {item.upper:6.3f}]  {item.between}, "
            f"{item.items} items; {item.source}"
        )
    for note in found.notes:
        click.echo(note)
    click.echo(f"Each interval holds with probability {found.level:g}, at any number of items.")


@label.command(epilog="Example: taut label next held_out/ --labels labels.jsonl -n 50 -o more.html")
@click.argument("log", nargs=-1, required=True, metavar="LOG...")
@click.option("--labels", multiple=True, required=True, metavar="FILE", help="Labels so far.")
@click.option("-n", "wanted", type=click.IntRange(min=1), required=True, help="Labels more.")
@_out
@click.option(
    "--doubt", metavar="COLUMN", help="Number that tells where the judge errs; else the reward."
)
@click.option("--delta", type=float, default=0.05, show_default=True, help="Of the certificate.")
@click.option("--dry-run", is_flag=True, help="Say which way is forecast to win, draw nothing.")
@_joining
@_answers
@_json
@_reading
def next(
    log,
    labels,
    wanted,
    output,
    doubt,
    delta,
    dry_run,
    joining,
    label_map,
    map_value,
    as_json,
    mapping,
    form,
    prompts,
    quiet,
):
    """Choose the rollouts to label next: where the judge errs, if that pays; else uniformly."""
    from taut.labels.next import Scores, draw_next

    if not output and not dry_run:
        raise UsageError("expected -o FILE (.html, .csv or .jsonl), or --dry-run.")
    joined, rollouts = _joined(
        log, labels, label_map, map_value, joining, mapping, form, prompts, quiet, keep=doubt
    )
    if joined.design is None:
        raise UsageError(
            "label next: the labels come on no sheet of `taut label draw`; it must be known how "
            "they were chosen."
        )
    design, drawn, forecast = draw_next(
        _population(rollouts, None, prompts),
        joined.design,
        wanted,
        gold=joined.gold,
        rows=joined.rows,
        unit=joined.unit,
        chance=joined.chance,
        scores=Scores(judge=rollouts.reward, doubt=_numbers(rollouts, doubt)),
        delta=delta,
    )
    if as_json:
        click.echo(forecast.model_dump_json(indent=2))
    else:
        other = "" if forecast.active is None else f", by doubt {forecast.active:.3g}"
        click.echo(
            f"Forecast width of E r* with {forecast.total} labels: uniform "
            f"{forecast.uniform:.3g}{other}. "
            f"Taken: {forecast.taken}; {forecast.reason}."
        )
    if not dry_run:
        files = _write(log, rollouts, design, drawn, design.annotators, output, mapping, form)
        if not quiet:
            _advise(design, drawn, files, log)


# --- Reading --------------------------------------------------------------------------------------


def _read(log, mapping, form, quiet, keep=None):
    from taut.engines.local import read_rollouts
    from taut.logs.schema import NATIVE

    extra = (keep,) if keep and keep not in NATIVE else ()
    with progress_line(quiet) as progress:
        return read_rollouts(
            list(log),
            mapping=name_pairs(mapping),
            format=form,
            progress=progress,
            keep=extra,
            rollout_ids=True,
            log_probs="ignored",
        )


def _population(rollouts, by, prompts):
    from taut.labels.population import population_of

    return population_of(rollouts, by=by, by_group=prompts == "with-replacement")


def _joined(log, labels, label_map, map_value, joining, mapping, form, prompts, quiet, keep=None):
    """Labels joined to the log, and the log."""
    from taut.labels.answers import read_answers
    from taut.labels.merge import join, one_design

    answers = read_answers(labels, names=name_pairs(label_map), values=_values(map_value))
    design = one_design(answers)
    by = design.by if design else None
    rollouts = _read(log, mapping, form, quiet, keep=keep or by)
    joined = join(
        answers,
        _population(rollouts, by, prompts),
        names=rollouts.rollout_names,
        words=None if answers.rollout_id is not None else _word_keys(log, mapping, form),
        joining=joining,
    )
    return joined, rollouts


def _word_keys(log, mapping, form):
    from taut.labels.merge import word_keys
    from taut.labels.population import read_texts
    from taut.labels.sheet import as_text
    from taut.logs.sources import find

    texts = read_texts(find(list(log)), None, mapping=name_pairs(mapping), format=form)
    prompts, responses = zip(*(texts[row] for row in range(len(texts))), strict=True)
    return word_keys([as_text(p) for p in prompts], [as_text(r) for r in responses])


def _values(given: tuple[str, ...]) -> dict[str, float]:
    """Read gold:C=1,I=0."""
    out = {}
    for text in given:
        name, sign, pairs = text.partition(":")
        if name not in ("gold", "label") or not sign:
            raise UsageError(f"--map-value {text}: expected gold:WORD=NUMBER,...")
        for word, number in name_pairs(tuple(pairs.split(","))).items():
            try:
                out[word] = float(number)
            except ValueError:
                raise UsageError(f"--map-value {text}: {number!r} is no number.") from None
    return out


def _numbers(rollouts, column):
    """A kept column as numbers; None without one."""
    import numpy as np

    if column is None:
        return None
    if column not in rollouts.kept_columns:
        raise UsageError(f"--doubt {column}: the log has no such column.")
    at = rollouts.kept_columns.index(column)
    try:
        values = np.array([float(name) for name in rollouts.kept_names[at]])
    except ValueError:
        raise UsageError(f"--doubt {column}: expected a number in each row.") from None
    return values[rollouts.kept[:, at]]


def _former(paths):
    """The design of the longest of some sheets, or of the labels that came on them."""
    from taut.labels.answers import read_answers
    from taut.labels.sheet import read_sheet

    designs = []
    for path in paths:
        if Path(path).suffix.lower() in (".html", ".csv"):
            designs.append(read_sheet(path).design)
        else:
            designs += read_answers([path]).designs
    if None in designs:
        raise LogError(f"{paths[designs.index(None)]}: expected a sheet of taut's, found none.")
    longest = max(designs, key=lambda design: design.units)
    for path, design in zip(paths, designs, strict=True):
        if not longest.same_series(design):
            raise LogError(f"{path}: it belongs to another order than the other sheets.")
    return longest


# --- Sizes ----------------------------------------------------------------------------------------


def _scale(kind, gold_range, question, rollouts):
    from pydantic import ValidationError

    from taut.labels.design import Scale

    low, high = gold_range or rollouts.facts.gold_range or (0.0, 1.0)
    if kind is None:
        whole = low == int(low) and high == int(high)
        kind = "choices" if whole and low >= 0 and high <= 9 else "number"
        kind = "yes-no" if (low, high) == (0.0, 1.0) else kind
    try:
        return Scale(kind=kind, low=low, high=high, question=question)
    except ValidationError as problem:
        raise UsageError(problem.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _spread(rollouts, scale):
    """Mean and residual variance of gold on the log, unit scale, where it has enough labels."""
    import numpy as np

    from taut.labels.forecast import residual_variance

    if rollouts.gold is None or (~np.isnan(rollouts.gold)).sum() < 20:
        return None
    given = ~np.isnan(rollouts.gold)
    gold = (rollouts.gold[given] - scale.low) / (scale.high - scale.low)
    return float(gold.mean()), residual_variance(gold, rollouts.reward[given])


def _sized(rollouts, width, expect, scale) -> int:
    from taut.labels.forecast import labels_for_width

    span = scale.high - scale.low
    if not 0 < width < span:
        raise UsageError(f"--width {width:g}: expected more than 0 and less than {span:g}.")
    known = _spread(rollouts, scale)
    if known and expect is None:
        return labels_for_width(width / span, mean=known[0], variance=known[1])
    mean = 0.5 if expect is None else (expect - scale.low) / span
    if not 0 < mean < 1:
        raise UsageError(f"--expect {expect:g}: expected a mean inside the gold range.")
    return labels_for_width(width / span, mean=mean)


def _forecast(rollouts, design, drawn, scale) -> None:
    from taut.labels.forecast import forecast_width

    span, known = scale.high - scale.low, _spread(rollouts, scale)
    click.echo(_summary(design, drawn))
    click.echo("Forecast width of E r* (gold units, 95%), by labels of one prompt each:")
    columns = [("half yes", 0.5, None), ("90% yes", 0.9, None)]
    if known:
        columns.append(("as labelled here", *known))
    click.echo("  labels  " + "  ".join(f"{name:>16}" for name, *_ in columns))
    for labels in sorted({*_FEW_DRAWS, len(drawn)}):
        if labels <= design.log.draws:
            widths = (
                forecast_width(labels, mean=mean, variance=variance) * span
                for _, mean, variance in columns
            )
            click.echo(f"  {labels:>6,}  " + "  ".join(f"{width:>16.3f}" for width in widths))


def _summary(design, drawn) -> str:
    ways = {
        "one": "one random rollout of each of {units:,} prompts",
        "rows": "{items:,} rows of all",
        "whole": "all {items:,} rollouts of {units:,} prompts",
        "strata": "{items:,} rollouts in {units:,} blocks by " + str(design.by),
    }
    units = design.parts[-1].stop - design.parts[-1].start
    text = ways[design.way].format(units=units, items=len(drawn))
    return f"{text}, of {design.log.rollouts:,} rollouts of {design.log.draws:,} prompts"


# --- Writing --------------------------------------------------------------------------------------


def _write(log, rollouts, design, drawn, annotators, output, mapping, form) -> list[str]:
    from taut.labels.population import read_texts
    from taut.labels.sheet import Item, make_sheets
    from taut.logs.sources import find

    texts = read_texts(find(list(log)), drawn.rows, mapping=name_pairs(mapping), format=form)
    items = []
    for row, unit, chance in zip(
        drawn.rows.tolist(), drawn.unit.tolist(), drawn.chance.tolist(), strict=True
    ):
        prompt, response = texts[row]
        items.append(
            Item(
                rollout_id=str(rollouts.rollout_names[row]),
                prompt=prompt,
                response=response,
                label_probability=chance,
                unit=unit,
            )
        )
    if all(item.response is None for item in items):
        click.echo(
            "The log holds no responses: the sheet has ids only. Log them (record with text=True), "
            "or name the column: --map response=COLUMN.",
            err=True,
        )
    path, files = Path(output), []
    for sheet in make_sheets(design, items, annotators=annotators):
        name = f"{path.stem}.{sheet.annotator}{path.suffix}" if sheet.annotator else path.name
        files.append(str(path.with_name(name)))
        sheet.write(files[-1])
    return files


def _advise(design, drawn, files, log) -> None:
    shown = ", ".join(files)
    click.echo(f"{_summary(design, drawn)} -> {shown}", err=True)
    click.echo("It carries prompts and responses: whoever has it can read them.", err=True)
    if design.most > design.units:
        click.echo(
            f"Draws are kept for {design.most - design.units:,} labels more (--most).", err=True
        )
    if not design.fresh:
        click.echo(
            "Some of these draws were controls of the first labels: with them, the labels by "
            "themselves certify, without the reward's help.",
            err=True,
        )
    how = "open it, label, download" if files[0].endswith(".html") else "fill the column label"
    command = " ".join(log)
    click.echo(f"Next: {how}; then taut audit {command} --labels FILE", err=True)


def _show_returned(joined, as_json: bool, where: str) -> None:
    found = joined.returned
    if as_json:
        click.echo(found.model_dump_json(indent=2))
        return
    click.echo(f"{found.labelled:,} labels of {found.drawn:,} rollouts drawn {where}", err=True)
    if found.several:
        click.echo(
            f"{found.several:,} rollouts have several annotators, joined by {found.joining}.",
            err=True,
        )
    if joined.design is None:
        click.echo(
            "They come on no sheet of taut's: nothing says how these rollouts were chosen.",
            err=True,
        )
    elif not found.complete:
        click.echo(
            f"{found.skipped:,} were skipped and {found.open:,} are open; of the random order the "
            f"first {found.prefix:,} of {found.units:,} are complete. First without a label: "
            f"{', '.join(found.missing[:3])}.",
            err=True,
        )
    sys.stderr.flush()
