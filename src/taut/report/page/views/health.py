"""The pages of a health check, and of a reward that was calibrated on older data."""

from taut.auditing.health import Health
from taut.decisions.transport.result import Transport
from taut.report import names, statements
from taut.report.digits import decimals_for, level_text
from taut.report.page.blocks import Card, Section, Status, Table, Text, View
from taut.report.page.views import parts
from taut.report.page.views.parts import NONE, span
from taut.report.wording import ends


def health_view(found: Health) -> View:
    """Return the page of `taut check`."""
    sentence, log = statements.health_sentence(found.health), found.log
    counts = statements.counts_text(log.rollouts, log.prompts, rejected=log.rejected_rows)
    rows = [
        (
            names.TARGET_NAMES[item.target],
            "not to be had" if item.status is None else Status(str(item.status)),
            item.reason,
        )
        for item in found.certifiable
    ]
    table = Table(("target", "could be", "what keeps it from more"), rows, caption="Targets")
    return View(
        verdict=f"{sentence[:1].upper()}{sentence[1:]}.",
        kind="taut check",
        cards=_cards(found),
        lead=[f"{counts}."],
        plain=[
            parts.PLAIN_LEARNED,
            "Before a log of answers and rewards is used to certify anything, it is looked at for "
            "what would make a certificate wrong: missing answers, doubtful log-probs, labels that "
            "are no random sample.",
        ],
        sections=[
            parts.health(found.health, note="What is wrong first, what passed last."),
            Section("certifiable", "What it can certify", [table]),
            parts.assumptions(found.assumptions),
        ],
    )


def _cards(found: Health) -> list[Card]:
    broken = parts.worst_check(found.health)
    best = [item for item in found.certifiable if item.status is not None]
    cards = []
    if best:
        item = best[0]
        name = names.TARGET_NAMES[item.target]
        cards.append(Card("It can certify", f"{name}: {item.status}", item.reason, "certified"))
    else:
        cards.append(Card("It can certify", "nothing", "See below for what keeps it.", "doubt"))
    if broken is not None:
        text = broken.remedy or broken.detail
        cards.append(Card("Mend first", statements.check_name(broken), text, "doubt"))
    return cards


def transport_view(found: Transport) -> View:
    """Return the page of a reward that was calibrated on older data."""
    both, level = ends(found.certificate), level_text(found.level)
    digits = decimals_for(both[1] - both[0] if both else None, steps=20)
    rows = [
        ("residual of the calibration", span(ends(found.residual), digits), NONE),
        ("E[r*] with it", span(both, digits), Status(str(found.status))),
        ("gold only", span(ends(found.gold_only), digits), NONE),
    ]
    return View(
        verdict=f"{found.state}: {found.detail}",
        kind="A reward calibrated on older data, audited on gold labels",
        status=Status(str(found.status)),
        about=f"E[r*] is {span(both, digits)} units of gold ({level})",
        lead=[f"{statements.transport_text(found)}."],
        plain=[
            parts.PLAIN_LEARNED,
            "Here the score was first calibrated against gold labels on older data. A random part "
            "of the new answers was labelled to see whether that still fits.",
        ],
        sections=[
            Section(
                "residual",
                "What the labels say",
                [
                    Table(("", "lower to upper", "status"), rows, {1}),
                    Text(f"Source: {found.source}."),
                ],
                "Units of gold.",
            ),
            parts.health(found.health),
            parts.assumptions(found.assumptions),
        ],
    )
