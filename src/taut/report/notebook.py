"""What a person sees in a notebook: each result as a sentence and small tables, in HTML.

Everything is escaped; nothing is fetched.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from taut.auditing.certificate import Certificate
from taut.auditing.certificates import Certificates
from taut.auditing.health import Health
from taut.decisions.budget.result import Plan, Priced
from taut.decisions.comparison.result import PolicyComparison
from taut.decisions.selection.result import Selection
from taut.decisions.stopping.result import MonitorResult, Series, WatchResult
from taut.decisions.threshold.result import ClipThreshold, Point
from taut.decisions.transport.result import Transport
from taut.draws.assumptions import Assumption
from taut.draws.check import FAIL, WARN, Check
from taut.draws.rollouts import Rollouts
from taut.errors import UsageError
from taut.report import names, statements, wording
from taut.report.digits import count, decimals_for, interval, level_text, near, plus_minus, short
from taut.report.wording import ends
from taut.types import Status

if TYPE_CHECKING:
    from taut.results import Document

_COLOURS = {
    "certified": "#2e7d32",
    "conditional": "#00798c",
    "estimated": "#b26a00",
    "vacuous": "#b3261e",
    "pass": "#2e7d32",
    "warn": "#b26a00",
    "fail": "#b3261e",
}
_NONE = "–"


def fragment(result: "Document | Rollouts") -> str:
    """Return a result, or a log, as a fragment of HTML, for `_repr_html_`."""
    if isinstance(result, Rollouts):
        return f'<div class="taut-rollouts">{"".join(_rollouts(result))}</div>'
    views: dict[str, Callable[[Any], list[str]]] = {
        "taut.certificate": _certificate,
        "taut.certificates": _groups,
        "taut.comparison": _compared,
        "taut.health": _health_view,
        "taut.monitor": _monitor,
        "taut.plan": _plan,
        "taut.selection": _selection,
        "taut.threshold": _threshold,
        "taut.transport": _transport,
        "taut.watch": _watch,
    }
    name = result.document["schema"].partition("/")[0]
    if name not in views:
        return f"<pre>{escape(str(result))}</pre>"
    kind = name.replace(".", "-")
    first, *rest = views[name](result)
    return f'<div class="{kind}">{first}{_picture(result)}{"".join(rest)}</div>'


def _picture(result: "Document") -> str:
    """Return the first chart as SVG; nothing where there is none, or where nothing can draw it."""
    from taut.report.charts import charts
    from taut.report.charts.draw import svg_of

    found = next(iter(charts(result).values()), None)
    if found is None:
        return ""
    try:
        # On white, whatever the notebook's colours are.
        return f'<div style="max-width:760px;background:#fff;padding:8px">{svg_of(found)}</div>'
    except UsageError:
        return ""  # the extra that draws is not installed; the tables say the same


# --- pieces ---------------------------------------------------------------------------------------


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table; cells are HTML already, and the first column is left-aligned."""
    rows = [*rows]
    if not rows:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<table style="margin:0.5em 0"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def _status(status: str) -> str:
    word = str(status)
    told = f' title="{escape(names.HELP_STATUS[word])}"' if word in names.HELP_STATUS else ""
    colour = _COLOURS.get(word, "inherit")
    return f'<span style="color:{colour}"{told}>{escape(word.replace("_", " "))}</span>'


def _bold(text: str) -> str:
    return f"<p><b>{escape(text)}</b></p>"


def _plain(texts: Iterable[str]) -> list[str]:
    return [f"<p>{escape(text)}</p>" for text in texts if text]


def _span(entry: wording.HasEnds | None, digits: int) -> str:
    both = ends(entry)
    return escape(interval(*both, digits)) if both else _NONE


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None else near(value, digits)


def _opens(summary: str, items: Iterable[str]) -> list[str]:
    """Return a list that opens on a click."""
    listed = "".join(f"<li>{escape(item)}</li>" for item in items)
    if not listed:
        return []
    return [f"<details><summary>{escape(summary)}</summary><ul>{listed}</ul></details>"]


def _assumptions(assumptions: Iterable[Assumption]) -> list[str]:
    said = (
        f"{wording.standing(item)}: {item.text}" + (f" – {item.by}" if item.by else "")
        for item in assumptions
    )
    return _opens("What it rests on", said)


def _health(checks: Sequence[Check]) -> list[str]:
    """Return what failed or warned, in full: a notebook must not hide a broken log."""
    if not checks:
        return []
    troubles = [check for status in (FAIL, WARN) for check in checks if check.status == status]
    items = []
    for check in troubles:
        said = [f"{check.status}: {statements.check_name(check)}", check.detail, check.remedy]
        items.append(f"<li>{escape(' – '.join(text for text in said if text))}</li>")
    listed = f"<ul>{''.join(items)}</ul>" if items else ""
    return [f"<p>Health of the log: {escape(statements.health_sentence(checks))}.</p>{listed}"]


# --- one result each ------------------------------------------------------------------------------


def _certificate(found: Certificate) -> list[str]:
    verdict = wording.verdict(found)
    status = Status.VACUOUS if verdict.learned_only else verdict.status
    advice = wording.advice_text(found)
    return [
        f"<p><b>{escape(verdict.sentence)}</b><br>{_status(status)}</p>",
        *_plain([*verdict.details, statements.log_text(found.log)]),
        table(("target", "measured", "lower to upper", "status"), _target_rows(found)),
        table(("term", "lower to upper", "paper", "status"), _term_rows(found)),
        *_health(found.health),
        *_plain([f"To tighten it most: {advice}" if advice else ""]),
        *_assumptions(found.assumptions),
    ]


def _target_rows(found: Certificate) -> Iterable[tuple[str, ...]]:
    digits = wording.table_decimals(found)
    for target, entry in found.targets.items():
        name = escape(names.TARGET_NAMES[target])
        if entry.unavailable:
            yield name, _NONE, _NONE, escape(f"unavailable: {entry.unavailable}")
        else:
            measured, where = _number(entry.measured, digits), _span(entry, digits)
            yield name, measured, where, _status(entry.status or Status.VACUOUS)


def _term_rows(found: Certificate) -> Iterable[tuple[str, ...]]:
    digits = wording.table_decimals(found)
    rows = [*found.terms.named(), ("total", found.certificate)]
    for term, entry in rows:
        theirs = getattr(found.paper, term)
        paper = _NONE if theirs is None else plus_minus(theirs, digits)
        name = names.TERM_NAMES.get(term, "certificate")
        yield name, _span(entry, digits), paper, _status(entry.status)


def _groups(found: Certificates) -> list[str]:
    if not found.groups:
        return _plain(["No groups to show."])
    told = [group for group in found.groups if group.certificate is not None]
    if found.gap:
        return _by_gap(found)
    if found.of == "response":
        return _by_response(found)
    if not told:
        return _plain(["No slice holds enough draws to say anything."])
    items = [group.certificate for group in told]
    learned = all(map(wording.learned_only, items))
    digits = max(map(wording.headline_decimals, items))
    rows = (
        (
            escape(str(group.value)),
            f"{item.log.prompts:,} / {item.log.gold_prompts:,}",
            _number(wording.measured_of(item), digits),
            _span(wording.proxy_of(item) if learned else item.certificate, digits),
            _status(Status.VACUOUS if learned else item.status),
        )
        for group, item in zip(told, items, strict=True)
    )
    target = names.TARGET_NAMES[items[0].target]
    told = f"{target[:1].upper()}{target[1:]} of each {found.by}"
    if learned:
        told = f"Learned {target}, not the true one, of each {found.by}"
    together = f"All {len(items)} rows hold together at {level_text(1 - found.delta)}."
    titles = (found.by, "prompts / gold", "measured", "lower to upper", "status")
    return [f"<p><b>{escape(told)}</b><br>{escape(together)}</p>", table(titles, rows)]


def _by_gap(found: Certificates) -> list[str]:
    from taut.report.terminal.gaps import gap_lines, gap_rows, gap_titles, gap_together

    rows = [
        (escape(name), *map(escape, numbers), escape(worth) if status is None else _status(status))
        for name, *numbers, status, worth in gap_rows(found)
    ]
    first, *lines = gap_lines(found)
    return [
        _bold(first),
        *_plain([*lines, gap_together(found)]),
        table(gap_titles(found), rows),
        *_health(found.health),
        *_assumptions(found.assumptions),
    ]


def _by_response(found: Certificates) -> list[str]:
    rows = []
    for group in found.groups:
        item = group.slice
        known = item is not None and item.lower is not None
        digits = decimals_for(item.upper - item.lower if known else None, steps=20)
        gap = (item.gap_lower, item.gap_upper) if known and item.gap_lower is not None else None
        rows.append(
            (
                escape(str(group.value)),
                f"{100 * item.share:.1f}%" if item is not None else _NONE,
                _span(item, digits) if known else escape(group.cannot_tell or "cannot tell"),
                _NONE if gap is None else escape(interval(*gap, digits)),
                _status(item.status) if known else _NONE,
            )
        )
    titles = (found.by, "share", "mean of true reward", "learned less true", "status")
    together = f"All {len(rows)} rows hold together at {level_text(1 - found.delta)}."
    return [
        _bold(f"Mean reward of responses in each slice by {found.by}"),
        *_plain([together]),
        table(titles, rows),
        *_health(found.health),
        *_assumptions(found.assumptions),
    ]


def _compared(found: PolicyComparison) -> list[str]:
    from taut.report.terminal.comparison import KINDS, further

    both = (("true reward", found.difference), ("learned reward", found.learned_difference))
    known = [pair for _, item in both if (pair := ends(item))]
    digits = decimals_for(min((high - low for low, high in known), default=None), steps=20)
    rows = (
        (
            escape(name),
            _number(item.mean, digits),
            _span(item, digits),
            _status(item.status),
            escape(f"{item.shared:,} / {item.labelled:,}"),
            escape(KINDS[item.kind]),
        )
        for name, item in both
    )
    less = f"{found.a.name} less {found.b.name}"
    titles = (less, "estimate", "lower to upper", "status", "shared / labelled", "how")
    return [
        _bold(found.sentence),
        _bold(found.hacked_sentence),
        table(titles, rows),
        *_plain(further(found)),
        *_health(found.health),
        *_assumptions(found.assumptions),
    ]


def _selection(found: Selection) -> list[str]:
    from taut.report.terminal.selection import choice_text, verdict_of

    known = [both for item in found.candidates if (both := ends(item))]
    digits = decimals_for(min((high - low for low, high in known), default=None), steps=20)
    rows = (
        (
            escape(str(item.value)),
            _number(item.proxy, digits),
            _span(item, digits),
            _status(item.status),
            escape(verdict_of(item, found)),
        )
        for item in found.candidates
    )
    titles = (found.by, "proxy", "lower to upper", "status", "as the best")
    return [
        _bold(choice_text(found)),
        table(titles, rows),
        *_plain(found.trained_on or ()),
        *_health(found.health),
        *_assumptions(found.assumptions),
    ]


def _health_view(found: Health) -> list[str]:
    order = ("fail", "warn", "note", "not_checked", "pass")
    checks = sorted(found.health, key=lambda check: order.index(check.status))
    sentence, log = statements.health_sentence(checks), found.log
    counts = statements.counts_text(log.rollouts, log.prompts, rejected=log.rejected_rows)
    rows = (
        (_status(check.status), *map(escape, (statements.check_name(check), check.detail)))
        for check in checks
    )
    can = (
        (escape(names.TARGET_NAMES[item.target]), _status(item.status or "–"), escape(item.reason))
        for item in found.certifiable
    )
    return [
        f"<p><b>{escape(sentence[:1].upper() + sentence[1:])}.</b><br>{escape(counts)}</p>",
        table(("target", "could be", ""), can),
        table(("", "check", "found"), rows),
        *_assumptions(found.assumptions),
    ]


def _threshold(found: ClipThreshold) -> list[str]:
    from taut.report.terminal.threshold import headline

    digits = decimals_for(found.chosen.total, steps=100)
    ways = (
        ("measured, sides apart", found.chosen),
        ("measured, one constant", found.symmetric),
        ("paper's rule", found.paper.point),
        *((f"±{short(item.constant)} on the sequence", item.point) for item in found.sequence),
    )
    titles = ("clip at", "above", "below", "sampling", "clipping", "together")
    told = "Forecast half-widths of the certificate, reward units; thresholds in nats."
    return [
        _bold(headline(found)),
        *_plain([told]),
        table(titles, (_point_row(name, point, digits) for name, point in ways)),
    ]


def _point_row(name: str, point: Point, digits: int) -> tuple[str, ...]:
    halves = (point.sampling, point.clipping, point.total)
    taus = (short(point.tau), short(point.tau_negative))
    return escape(name), *taus, *(plus_minus(half, digits) for half in halves)


def _plan(found: Plan) -> list[str]:
    from taut.report.terminal.budget import marginal_rows, money, promise, purchase

    rows = (tuple(map(escape, row)) for row in marginal_rows(found))
    step = f"next {money(found, found.marginal.step)}"
    digits = decimals_for(found.width, steps=50)
    return [
        f"<p><b>{escape(f'Buy {purchase(found.chosen)}.')}</b><br>{escape(promise(found))}</p>",
        table((step, "buys", "width", ""), rows),
        table(
            ("budget", "prompts", "rollouts each", "gold labels", "width"),
            (_plan_row(item, digits) for item in found.by_budget),
        ),
        *_opens("What it rests on", (f"{item.kind}: {item.text}" for item in found.rests_on)),
    ]


def _plan_row(item: Priced, digits: int) -> tuple[str, ...]:
    counts = (item.prompts, item.rollouts, item.labels)
    return f"{item.budget:,.5g}", *(f"{number:,}" for number in counts), near(item.width, digits)


def _transport(found: Transport) -> list[str]:
    digits = decimals_for(found.certificate.width, steps=20)
    rows = (
        ("residual of the calibration", _span(found.residual, digits), ""),
        ("E[r*] with it", _span(found.certificate, digits), _status(found.status)),
        ("gold only", _span(found.gold_only, digits), ""),
    )
    return [
        f"<p><b>{escape(found.state)}</b> {escape(found.detail)}</p>",
        table(("", "lower to upper", "status"), rows),
        *_assumptions(found.assumptions),
    ]


def _monitor(found: MonitorResult) -> list[str]:
    from taut.report.terminal.monitor import headline

    return [
        _bold(headline(found, "mean")),
        _series_table("", [found]),
        *_assumptions(found.assumptions),
    ]


def _watch(found: WatchResult) -> list[str]:
    from taut.report.terminal.monitor import subject

    about = subject(found)
    return [
        _bold(f"The {about}, at all times"),
        _series_table(found.settings.by or "", found.series),
        *_health(found.health),
        *_assumptions(found.assumptions),
    ]


def _series_table(by: str, items: Sequence[MonitorResult | Series]) -> str:
    from taut.report.terminal.monitor import DECISIONS, span_text

    rows = (
        (
            escape(str(getattr(item, "value", None) or "")),
            f"{item.n:,}",
            span_text(item.interval),
            level_text(item.interval.level),
            _status(item.interval.status),
            escape(f"{DECISIONS[item.decision].lower()}: {item.reason}"),
        )
        for item in items
    )
    return table((by, "blocks", "lower to upper", "level", "status", "decision"), rows)


# --- rollouts -------------------------------------------------------------------------------------


def _rollouts(found: Rollouts) -> list[str]:
    """Return what a log holds: counts, and a row for each column that it has."""
    counts = [(len(found), "rollout"), (len(np.unique(found.prompt)), "prompt")]
    for name, noun in (("step", "step"), ("policy", "policy"), ("run", "run")):
        column = getattr(found, name)
        counts += [] if column is None else [(len(np.unique(column)), noun)]
    plurals = {"policy": "policies"}
    told = ", ".join(count(number, noun, plurals.get(noun)) for number, noun in counts)
    columns = {item.name: getattr(found, item.name) for item in fields(found)}
    several = {"kept": found.kept_columns, "parts": found.part_names}
    rows = (
        _column_row(", ".join(several.get(name, ())) or name, values)
        for name, values in columns.items()
        if isinstance(values, np.ndarray)
    )
    titles = ("column", "values", "least", "mean", "largest")
    return [f"<p><b>Rollouts</b>: {escape(told)}</p>", table(titles, rows)]


def _column_row(name: str, values: np.ndarray) -> tuple[str, ...]:
    """Return the name of a column, how many values are there, and their spread if it has one."""
    if values.dtype.kind not in "fib" or values.ndim > 1 or name in ("policy", "run"):
        return escape(name), f"{len(values):,}", "", "", ""
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    known = known[known >= 0] if name == "n_tokens" else known  # -1: not known
    if not len(known):
        return escape(name), "0", "", "", ""
    spread = (float(known.min()), float(known.mean()), float(known.max()))
    return escape(name), f"{len(known):,}", *map(short, spread)
