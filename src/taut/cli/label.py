"""`taut label`: from rollouts to gold labels and back."""

from dataclasses import replace

import click

from taut.cli.arguments import format_option, map_option, values_option
from taut.cli.reading import chosen_format, chosen_values, name_pairs
from taut.cli.root import cli
from taut.cli.sheets import (
    advise,
    by_column,
    check_annotators,
    check_own,
    former_design,
    gold_values,
    joined_labels,
    numbers_of,
    population_from,
    read_named,
    scale_of,
    shares_of,
    show_forecast,
    show_returned,
    size_for,
    warn_of_rows,
    write_sheets,
)
from taut.errors import UsageError


def _options(*options):
    def decorate(function):
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_reading = _options(
    map_option,
    values_option,
    format_option,
    click.option(
        "--prompts",
        type=click.Choice(["sample", "with-replacement"]),
        default="sample",
        show_default=True,
        help="A draw is a prompt with all its rollouts, or each group of a prompt's.",
    ),
    click.option("--quiet", is_flag=True, help="No progress bar and no advice."),
)
_answers = click.option(
    "--label-map",
    multiple=True,
    metavar="NAME=COLUMN",
    help="Column of the label files, as in label=score or annotator=who; what their words mean "
    "says --map-value gold:C=1,I=0.",
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
@click.option("-n", "count", type=click.IntRange(min=1), help="Labels (--whole: prompts).")
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
@click.option("--seed", type=int, help="Seed of the order.  [default: 0]")
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
    count,
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
    check_annotators(annotators, per_annotator, overlap)
    way = way or ("strata" if by else "one")
    former = former_design(after) if after else None
    if former is not None:
        check_own(former, way, by, seed, share, scale or gold_range or question)
        by, prompts = former.by, "with-replacement" if former.by_group else prompts
    rollouts = read_named(log, mapping, quiet, keep=by)
    population = population_from(rollouts, by, prompts)
    chosen = former.scale if former else scale_of(scale, gold_range, question, rollouts)
    if per_annotator:
        count = overlap + len(annotators) * max(0, per_annotator - overlap)
    if (count is None) == (width is None):
        raise UsageError("expected -n N or --width W (one of them), or --per-annotator N.")
    if count is None:
        count = size_for(rollouts, width, expect, chosen)
        click.echo(f"A width of {width:g} is forecast for {count:,} labels.", err=True)
    design, drawn = draw_sheet(
        population,
        count,
        way=way,
        seed=seed or 0,
        most=most,
        shares=shares_of(share),
        former=former,
        scale=chosen,
        annotators=annotators,
        overlap=overlap,
    )
    if dry_run:
        show_forecast(rollouts, population, design, drawn, chosen)
        return
    files = write_sheets(log, rollouts, design, drawn, annotators, output, mapping)
    if not quiet:
        advise(design, drawn, files, log)
        warn_of_rows(design, population)


@label.command(epilog="Example: taut label merge held_out/ labels.jsonl -o labelled.parquet")
@click.argument("log")
@click.argument("labels", nargs=-1, required=True, metavar="LABELS...")
@click.option("-o", "--output", required=True, metavar="FILE", help="Native Parquet to write.")
@click.option("--overwrite", is_flag=True, help="Drop the labels that LOG has already.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Columns to keep, to slice by.")
@_joining
@_answers
@_json
@_reading
def merge(
    log,
    labels,
    output,
    overwrite,
    keep,
    joining,
    label_map,
    as_json,
    mapping,
    prompts,
    quiet,
):
    """Write LOG with the labels of LABELS in its column gold."""
    from taut.engines.assemble import completed
    from taut.engines.local import stream
    from taut.labels.merge import add_gold
    from taut.logs.plan import ON_REQUEST
    from taut.logs.sources import find
    from taut.logs.write import write_native

    joined, rollouts = joined_labels([log], labels, label_map, joining, mapping, prompts, quiet)
    if rollouts.gold is not None and not overwrite:
        raise UsageError(
            f"{log}: it has labels already; say --overwrite to drop them, or take them out of it."
        )
    files = find([log])
    pieces = stream(
        files,
        mapping=name_pairs(mapping),
        values=chosen_values(),
        keep=(*keep, *by_column(joined)),
        parts=True,
        wanted=ON_REQUEST,
        format=chosen_format(),
    )
    complete = (replace(piece, columns=completed(piece.columns)) for piece in pieces)
    write_native(
        add_gold(complete, joined),
        output,
        inputs=[file.name for file in files],
        mapping=name_pairs(mapping),
    )
    show_returned(joined, as_json, f"-> {output}")


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
    as_json,
    mapping,
    prompts,
    quiet,
):
    """Compare annotators, and the reward with them, in finite-sample intervals."""
    from taut.labels.agreement import agreement as compare
    from taut.labels.agreement import judge_rates
    from taut.labels.annotators import by_annotator
    from taut.labels.answers import read_answers
    from taut.labels.merge import one_design

    if bool(log) != (threshold is not None):
        raise UsageError("--log and --threshold go together: where does the reward say yes?")
    answers = read_answers(labels, names=name_pairs(label_map), values=gold_values())
    design = one_design(answers)
    low, high = (design.scale.low, design.scale.high) if design else (0.0, 1.0)
    table, names = by_annotator(answers, low=low, high=high)
    found = compare(table, names, low=low, high=high, delta=delta)
    if log:
        joined, rollouts = joined_labels(log, labels, label_map, "one", mapping, prompts, quiet)
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
    if design is not None and design.way == "rows":
        click.echo("Rows of one prompt count as items of their own, which they are not quite.")
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
    as_json,
    mapping,
    prompts,
    quiet,
):
    """Choose the rollouts to label next: where the judge errs, if that pays; else uniformly."""
    from taut.labels.next import Scores, draw_next

    if not output and not dry_run:
        raise UsageError("expected -o FILE (.html, .csv or .jsonl), or --dry-run.")
    joined, rollouts = joined_labels(
        log, labels, label_map, joining, mapping, prompts, quiet, keep=doubt
    )
    if joined.design is None:
        raise UsageError(
            "label next: the labels come on no sheet of `taut label draw`; it must be known how "
            "they were chosen."
        )
    design, drawn, forecast = draw_next(
        population_from(rollouts, None, "with-replacement" if joined.design.by_group else prompts),
        joined.design,
        wanted,
        gold=joined.gold,
        rows=joined.rows,
        unit=joined.unit,
        chance=joined.chance,
        scores=Scores(judge=rollouts.reward, doubt=numbers_of(rollouts, doubt)),
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
        files = write_sheets(log, rollouts, design, drawn, design.annotators, output, mapping)
        if not quiet:
            advise(design, drawn, files, log)
