"""What the label commands share: logs and labels read, sheets sized, written and spoken of."""

import re
import sys
from pathlib import Path

import click

from taut.cli.arguments import VALUES_KEY
from taut.cli.reading import chosen_format, chosen_values, name_pairs, read_log, value_pairs
from taut.errors import LogError, UsageError

_GOLD_KEY = "taut.labels.values"  # where --map-value gold:... waits
_FEW_DRAWS = (20, 50, 100, 200, 500, 1000, 2000, 5000)  # rows of the forecast


# --- Reading --------------------------------------------------------------------------------------


def read_named(log, mapping, quiet, keep=None):
    """Read LOG with a name for each row, without log-probs, and with a column to keep."""
    from taut.logs.schema import NATIVE

    extra = (keep,) if keep and keep not in NATIVE else ()
    return read_log(
        log, mapping, None, None, quiet, keep=extra, rollout_ids=True, log_probs="ignored"
    )


def texts_of(log, rows, mapping):
    """What was said in some rows, or in all."""
    from taut.labels.population import read_texts
    from taut.logs.sources import find

    return read_texts(
        find(list(log)),
        rows,
        mapping=name_pairs(mapping),
        values=chosen_values(),
        format=chosen_format(),
    )


def population_from(rollouts, by, prompts):
    """Return what may be labelled of a log, by the draws that --prompts says."""
    from taut.labels.population import population_of

    return population_of(rollouts, by=by, by_group=prompts == "with-replacement")


def joined_labels(log, labels, label_map, joining, mapping, prompts, quiet, keep=None):
    """Labels joined to the log, and the log."""
    from taut.labels.answers import read_answers
    from taut.labels.merge import join, one_design

    answers = read_answers(labels, names=name_pairs(label_map), values=gold_values())
    design = one_design(answers)
    by = design.by if design else None
    prompts = "with-replacement" if design and design.by_group else prompts
    rollouts = read_named(log, mapping, quiet, keep=keep or by)
    joined = join(
        answers,
        population_from(rollouts, by, prompts),
        names=rollouts.rollout_names,
        words=None if answers.rollout_id is not None else word_keys_of(log, mapping),
        joining=joining,
    )
    return joined, rollouts


def word_keys_of(log, mapping):
    """Key of prompt and response of each row of a log."""
    from taut.labels.merge import word_keys
    from taut.labels.sheet import as_text

    texts = texts_of(log, None, mapping)
    prompts, responses = zip(*(texts[row] for row in range(len(texts))), strict=True)
    return word_keys([as_text(p) for p in prompts], [as_text(r) for r in responses])


def by_column(joined) -> tuple[str, ...]:
    """The column of strata, which an audit of the labels needs."""
    from taut.logs.schema import NATIVE

    by = joined.design.by if joined.design else None
    return () if by is None or by in NATIVE else (by,)


def gold_values() -> dict[str, float]:
    """What --map-value says of labels; the rest is left for the log, which may have no gold."""
    meta = click.get_current_context().meta
    texts = meta.get(VALUES_KEY, ())
    own = tuple(text for text in texts if text.partition(":")[0] in ("gold", "label"))
    meta[VALUES_KEY] = tuple(text for text in texts if text not in own)
    meta.setdefault(_GOLD_KEY, own)
    said = value_pairs(meta[_GOLD_KEY])
    return {**said.get("label", {}), **said.get("gold", {})}


def numbers_of(rollouts, column):
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


def former_design(paths):
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


def check_annotators(names, each, overlap) -> None:
    """Refuse names that are none of a file, and numbers without names."""
    if (each or overlap) and not names:
        raise UsageError("--per-annotator and --overlap need --annotator NAME, once for each.")
    for name in names:
        if names.count(name) > 1 or not re.fullmatch(r"[\w][\w .@-]*", name):
            raise UsageError(
                f"--annotator {name!r}: expected a name of its own for each, of letters, digits, "
                "spaces and . @ - _, since it becomes part of a file's name."
            )


def check_own(former, way, by, seed, share, scaled) -> None:
    """Refuse options that the design of a former sheet has settled already."""
    asked = {
        "the way of drawing": way not in ("one", former.way) or by not in (None, former.by),
        "--seed": seed not in (None, former.seed),
        "--share": bool(share),
        "the scale and its question": bool(scaled),
    }
    for what, given in asked.items():
        if given:
            raise UsageError(
                f"--after: {what} is settled by the sheet behind which this one goes on; leave it "
                "out, or draw a sheet by itself."
            )


def warn_of_rows(design, population) -> None:
    """Say on stderr where rows drawn one by one favour prompts with many rollouts."""
    import numpy as np

    sizes = np.unique(population.draw, return_counts=True)[1]
    if design.way == "rows" and sizes.min() < sizes.max():
        click.echo(
            f"Prompts have {sizes.min()} to {sizes.max()} rollouts: rows favour those with many, "
            "and labels have to be weighted. Without --rows, one rollout a prompt, they have not.",
            err=True,
        )


def shares_of(given: tuple[str, ...]) -> dict[str, float] | None:
    """Read --share VALUE=NUMBER; None where there is none."""
    try:
        return {name: float(share) for name, share in name_pairs(given).items()} or None
    except ValueError:
        raise UsageError(f"--share {' '.join(given)}: expected VALUE=NUMBER.") from None


# --- Sizes ----------------------------------------------------------------------------------------


def scale_of(kind, gold_range, question, rollouts):
    """Return what may be answered: as asked for, else by the gold range, of the call or the log."""
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


def size_for(rollouts, width, expect, scale) -> int:
    """Return the labels that --width is forecast to take."""
    from taut.labels.forecast import labels_for_width, planned_labels

    span = scale.high - scale.low
    if not 0 < width < span:
        raise UsageError(f"--width {width:g}: expected more than 0 and less than {span:g}.")
    known = _spread(rollouts, scale)
    if known and expect is None:
        planned = planned_labels(rollouts, width, gold_range=(scale.low, scale.high))
        return planned or labels_for_width(width / span, mean=known[0], variance=known[1])
    mean = 0.5 if expect is None else (expect - scale.low) / span
    if not 0 < mean < 1:
        raise UsageError(f"--expect {expect:g}: expected a mean inside the gold range.")
    return labels_for_width(width / span, mean=mean)


def show_forecast(rollouts, population, design, drawn, scale) -> None:
    """Print what would be drawn, and which width how many labels are forecast to give."""
    import numpy as np

    from taut.labels.forecast import forecast_width

    span, known = scale.high - scale.low, _spread(rollouts, scale)
    click.echo(_summary(design, drawn))
    if population.cell is not None:
        counts = np.bincount(population.cell[drawn.rows], minlength=len(population.cell_names))
        shown = (f"{name}: {n:,}" for name, n in zip(population.cell_names, counts, strict=True))
        click.echo(f"Labels over {len(counts):,} cells: {'; '.join([*shown][:12])}")
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


def write_sheets(log, rollouts, design, drawn, annotators, output, mapping) -> list[str]:
    """Write a sheet, or one for each annotator, and return the names of the files."""
    from taut.labels.sheet import Item, make_sheets

    texts = texts_of(log, drawn.rows, mapping)
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


def advise(design, drawn, files, log) -> None:
    """Say on stderr what was drawn, what it carries, and what to do next."""
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


def show_returned(joined, as_json: bool, where: str) -> None:
    """Say what has come back of what was drawn."""
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
