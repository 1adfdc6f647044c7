"""What a person sees of `taut compare`: the verdicts first, then both differences."""

from rich.console import RenderableType

from taut.decisions.comparison.result import Difference, PolicyComparison, Side
from taut.report import wording
from taut.report.digits import decimals_for, interval, level_text, near
from taut.report.names import TARGET_FORMULAS, TARGET_NAMES
from taut.report.terminal.charts import STATUS_STYLES, Ink, Ruler, Span, axis_for
from taut.report.terminal.foundations import assumption_table, health_lines
from taut.report.terminal.layout import (
    LABEL,
    NUMBER,
    PICTURE,
    Report,
    heading,
    spaced,
    titled,
)
from taut.report.wording import Ends, ends

KINDS = {
    "gold": "paired, gold on both sides",
    "matched": "matched blindly",
    "certificates": "two certificates",
    "paired": "paired",
    "unpaired": "two means",
}


def comparison_report(found: PolicyComparison) -> RenderableType:
    """Return the report of a comparison."""
    return Report(lambda ink: _comparison(found, ink))


def _comparison(found: PolicyComparison, ink: Ink) -> list[RenderableType]:
    sections = (_verdict, _differences, _sides, _foundations, _health)
    return spaced([section(found, ink) for section in sections])


def further(found: PolicyComparison) -> list[str]:
    """Return what stands below the verdicts, one sentence each."""
    lines = [
        f"The two differences hold together at {level_text(found.level)}. One run with one seed is "
        "one draw of a training run: another seed may turn out otherwise."
    ]
    if found.verdict == "cannot_tell" and found.labels_to_tell is not None:
        lines.append(
            f"About {found.labels_to_tell:,} labelled prompts that both answered would tell, "
            f"if the estimate is right; {found.difference.labelled:,} are labelled now."
        )
    elif found.verdict == "cannot_tell":
        lines.append("Label a random subset of the prompts that both answered, on both sides.")
    return lines + _cut(found)


def _cut(found: PolicyComparison) -> list[str]:
    """Say where learned rewards lie outside their range, of which only its ends are compared."""
    sides = [(side.name, side.certificate.measured) for side in (found.a, found.b)]
    told = [
        f"of {name} {near(mean.raw_reward, 3)}, and {near(mean.reward, 3)} so counted"
        for name, mean in sides
        if mean.raw_reward is not None
    ]
    if not told:
        return []
    return [
        "Learned rewards outside their declared range count as its ends: the mean "
        f"{'; '.join(told)}. Declare a range that holds for every possible response."
    ]


def _verdict(found: PolicyComparison, ink: Ink) -> list[RenderableType]:
    lines = [ink.text(found.sentence, "bold"), ink.text(found.hacked_sentence, "bold")]
    return lines + [ink.text(line) for line in further(found)]


def _differences(found: PolicyComparison, ink: Ink) -> list[RenderableType]:
    rows = [("true reward", found.difference), ("learned reward", found.learned_difference)]
    if found.target != "reward":
        name = TARGET_NAMES[found.target]
        rows = [(f"true {name}", rows[0][1]), (f"learned {name}", rows[1][1])]
    known = [both for _, item in rows if (both := ends(item))]
    axis = axis_for([0.0, *(end for both in known for end in both)])
    digits = decimals_for(min((high - low for low, high in known), default=None), steps=20)
    columns = (
        ("", LABEL),
        ("estimate", NUMBER),
        ("", PICTURE),
        ("lower to upper", NUMBER),
        ("status", LABEL),
        ("shared / labelled", NUMBER),
        ("how", LABEL),
    )
    cells = [_difference(name, item, ends(item), digits, axis, ink) for name, item in rows]
    rulers = [
        ("", "", Ruler(ink, axis, labels=False), "", "", "", ""),
        ("", "", Ruler(ink, axis, labels=True), "", "", "", ""),
    ]
    about = f"{found.a.name} less {found.b.name}, {TARGET_FORMULAS[found.target]}"
    table = titled(ink, columns, cells, spare=("how", "shared / labelled", ""), under=rulers)
    return [heading(ink, "Differences", about), table]


def _difference(
    name: str, item: Difference, both: Ends | None, digits: int, axis, ink: Ink
) -> list[RenderableType]:
    return [
        ink.text(name),
        ink.text("–" if item.mean is None else near(item.mean, digits)),
        Span(ink, axis, both, point=item.mean, style=STATUS_STYLES.get(item.status, "")),
        ink.text(interval(*both, digits) if both else "no labels"),
        ink.status(item.status),
        ink.text(f"{item.shared:,} / {item.labelled:,}"),
        ink.text(KINDS[item.kind], "dim"),
    ]


def _sides(found: PolicyComparison, ink: Ink) -> list[RenderableType]:
    """Each side's own certificate, at its own level."""
    columns = (
        ("", LABEL),
        ("prompts / gold", NUMBER),
        ("measured", NUMBER),
        ("lower to upper", NUMBER),
        ("status", LABEL),
    )
    cells = [_side(item, ink) for item in (found.a, found.b)]
    level = level_text(found.a.certificate.level)
    return [
        heading(ink, "Each by itself", f"at {level}"),
        titled(ink, columns, cells, spare=("measured", "prompts / gold")),
    ]


def _side(item: Side, ink: Ink) -> list[RenderableType]:
    certificate = item.certificate
    both = None if wording.learned_only(certificate) else ends(certificate.certificate)
    digits = wording.headline_decimals(certificate)
    log = certificate.log
    return [
        ink.text(item.name),
        ink.text(f"{log.prompts:,} / {log.gold_prompts:,}"),
        ink.text("–" if item.measured is None else near(item.measured, digits)),
        ink.text(interval(*both, digits) if both else "no labels"),
        ink.status(certificate.status),
    ]


def _foundations(found: PolicyComparison, ink: Ink) -> list[RenderableType]:
    table = assumption_table(found.assumptions, ink)
    if not table:
        return []
    return [heading(ink, "What it rests on", "as it stands in the worse of both"), *table]


def _health(found: PolicyComparison, ink: Ink) -> list[RenderableType]:
    return health_lines(found.health, ink)
