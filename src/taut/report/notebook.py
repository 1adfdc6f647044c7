"""What a person sees in a notebook: the certificate as a small HTML fragment."""

from collections.abc import Mapping, Sequence
from html import escape

from taut.report import wording
from taut.report.digits import interval, near, plus_minus
from taut.report.wording import ends, look, measured_of, number

_COLOURS = {
    "certified": "#2e7d32",
    "conditional": "#00798c",
    "estimated": "#b26a00",
    "vacuous": "#b3261e",
}


def certificate_html(document: Mapping) -> str:
    """Return a certificate as an HTML fragment, for `_repr_html_`.

    Args:
        document: The JSON contract `taut.certificate/1` (design §5); every key is optional.
    """
    verdict = wording.verdict(document)
    status = "vacuous" if verdict.learned_only else verdict.status
    details = [*verdict.details, wording.log_text(look(document, "log"))]
    parts = [
        f"<p><b>{escape(verdict.sentence)}</b><br>{_status(status)}</p>",
        *(f"<p>{escape(detail)}</p>" for detail in details if detail),
        _table(("target", "measured", "lower to upper", "status"), _target_rows(document)),
        _table(("term", "lower to upper", "paper", "status"), _term_rows(document)),
    ]
    parts += _health(document)
    advice = wording.advice_text(document)
    parts += [f"<p>To tighten it most: {escape(advice)}</p>"] if advice else []
    parts += _assumptions(document)
    return f'<div class="taut-certificate">{"".join(parts)}</div>'


def _status(status: object) -> str:
    word = str(status or "vacuous")
    return f'<span style="color:{_COLOURS.get(word, "inherit")}">{escape(word)}</span>'


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table; cells are HTML already."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<table style="margin:0.5em 0"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    )


def _target_rows(document: Mapping) -> list[tuple[str, ...]]:
    if not isinstance(look(document, "targets"), Mapping):
        return []
    decimals = wording.table_decimals(document)
    rows = []
    for target in wording.TARGETS:
        entry = look(document, f"targets.{target}") or {"unavailable": "not computed"}
        name = escape(wording.TARGET_NAMES[target])
        if why := look(entry, "unavailable"):
            rows.append((name, "–", "–", escape(f"unavailable: {why}")))
            continue
        measured, bounds = measured_of(document, target), ends(entry)
        shown = "–" if measured is None else near(measured, decimals)
        where = interval(*bounds, decimals) if bounds else "–"
        rows.append((name, shown, where, _status(look(entry, "status"))))
    return rows


def _term_rows(document: Mapping) -> list[tuple[str, ...]]:
    decimals = wording.table_decimals(document)
    rows = []
    for term in (*wording.TERMS, "total"):
        entry = look(document, "certificate" if term == "total" else f"terms.{term}")
        if not isinstance(entry, Mapping):
            continue
        bounds, theirs = ends(entry), number(document, f"paper.{term}")
        where = interval(*bounds, decimals) if bounds else "–"
        paper = "–" if theirs is None else plus_minus(theirs, decimals)
        name = "certificate" if term == "total" else wording.TERM_NAMES[term]
        rows.append((name, where, paper, _status(look(entry, "status"))))
    return rows


def _health(document: Mapping) -> list[str]:
    """Return what failed or warned, in full: a notebook must not hide a broken log."""
    checks = look(document, "health")
    if not isinstance(checks, list) or not checks:
        return []
    troubles = [check for check in checks if look(check, "status") in ("fail", "warn")]
    items = []
    for check in sorted(troubles, key=lambda check: look(check, "status") != "fail"):
        said = [f"{look(check, 'status')}: {wording.check_name(check)}"]
        said += [str(text) for key in ("detail", "remedy") if (text := look(check, key))]
        items.append(f"<li>{escape(' – '.join(said))}</li>")
    listed = f"<ul>{''.join(items)}</ul>" if items else ""
    return [f"<p>Health of the log: {escape(wording.health_sentence(checks))}.</p>{listed}"]


def _assumptions(document: Mapping) -> list[str]:
    """Return the assumptions as a list that opens on a click."""
    items = []
    for entry in look(document, "assumptions") or []:
        found = wording.standing(entry)
        text = look(entry, "text") or "unnamed assumption"
        outcome = wording.outcome(entry)
        said = f"{found}: {text}" + (f" – {outcome}" if outcome else "")
        items.append(f"<li>{escape(said)}</li>")
    if not items:
        return []
    return [f"<details><summary>What it rests on</summary><ul>{''.join(items)}</ul></details>"]
