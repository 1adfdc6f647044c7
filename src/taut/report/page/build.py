"""The page as one file: no network, no script but its own, its result as JSON within."""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from taut.auditing.certificate import Certificate
from taut.report.charts import Chart, charts
from taut.report.charts.theme import config
from taut.report.page import html
from taut.report.page.blocks import Figure, Section, Table, Text, View, one_line
from taut.report.page.brush import STEPS, brushed
from taut.report.page.made import Made
from taut.report.page.markdown import markdown
from taut.report.page.theory import SECTIONS, sections_in

if TYPE_CHECKING:
    from taut.decisions.budget.what_if import WhatIf
    from taut.report.page.rollouts import Shown
    from taut.results import Document

LARGEST_PLAIN = 150_000  # bytes of a block of data; a larger one is packed


def build(
    result: "Document",
    made: Made | None = None,
    rollouts: "Shown | None" = None,
    what_if: "WhatIf | None" = None,
) -> str:
    """Return a result as a page of HTML.

    Nothing runs in it but the scripts whose hashes its policy names: no handler in an attribute,
    no `eval`, no request. Texts are escaped, or reach the page as text nodes.

    Args:
        result: What a verb returned.
        made: How it was made, where that is known.
        rollouts: Of its log, where they are to be looked at.
        what_if: Forecasts for other counts of labels and prompts, where there are some.
    """
    from taut.report.page.views.choice import view_of

    view, drawn = view_of(result), charts(result)
    audit = getattr(result, "audit", None)  # of an experiment that has one in it
    if isinstance(audit, Certificate):
        drawn |= charts(audit)
    if rollouts is not None:
        drawn |= {f"log-{item.name}": item for item in rollouts.charts}
    view = _whole(view, drawn, made, rollouts, what_if)
    style, scripts = _file("page.css"), [_file("page.js")]
    scripts[:0] = [
        *([_file("vega.js")] if drawn else []),
        *([_file("rollouts.js")] if rollouts else []),
    ]
    rules = [
        "default-src 'none'",
        f"script-src {' '.join(f'{chr(39)}{_digest(text)}{chr(39)}' for text in scripts)}",
        f"style-src '{_digest(style)}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    parts = {
        "POLICY": "; ".join(rules),
        "TITLE": escape(one_line(view.verdict)),
        "STYLE": style,
        "HEADER": html.header(view),
        "LINKS": _links(view),
        "SECTIONS": "".join(html.section(item, drawn) for item in view.sections),
        "DOCUMENT": data_block("taut-document", result.to_json()),
        "CHARTS": data_block("taut-charts", _specs(view, drawn)),
        "MADE": data_block("taut-made", (made or Made()).to_json()),
        "MARKDOWN": data_block("taut-markdown", json.dumps(markdown(view), ensure_ascii=False)),
        "ROLLOUTS": "" if rollouts is None else data_block("taut-rollouts", rollouts.data),
        "SCRIPTS": "\n".join(f"<script>{text}</script>" for text in scripts),
    }
    return _filled(_file("page.html"), parts)


def _whole(
    view: View,
    drawn: Mapping[str, Chart],
    made: Made | None,
    rollouts: "Shown | None",
    what_if: "WhatIf | None",
) -> View:
    """Add what every page has: charts that no section placed, how it was made, the theory."""
    sections = [item for item in view.sections if item.blocks]
    placed = {block.name for item in sections for block in item.blocks if isinstance(block, Figure)}
    of_log = [Figure(name) for name in drawn if name.startswith("log-")]
    placed |= {item.name for item in of_log}
    rest = [item for name, item in drawn.items() if name not in placed]
    sections = _placed(sections, [item for item in rest if item.name == STEPS])
    shown = {block.name for item in sections for block in item.blocks if isinstance(block, Figure)}
    others = [Figure(item.name) for item in rest if item.name not in shown]
    if others:
        sections[1:1] = [Section("charts", "In pictures", others)]
    if what_if is not None:
        from taut.report.page.views.what_if import what_if_section

        keys = [item.key for item in sections]
        place = next((keys.index(key) for key in ("tau", "health") if key in keys), len(keys))
        sections.insert(place, what_if_section(what_if))
    if rollouts is not None:
        inside = Text("Rollouts need JavaScript.", "rollouts")
        if of_log:
            sections.append(Section("log-charts", "The log in pictures", of_log))
        sections.append(Section("rollouts", "Rollouts", [inside], rollouts.note))
    if made is not None and made.lines():
        sections.append(Section("made-by", "How this page was made", made.lines()))
    return replace(view, sections=[*sections, *_theory(view, sections)])


def _placed(sections: list[Section], drawn: list[Chart]) -> list[Section]:
    """Put charts over steps before the table of the steps, where there is one."""
    for at, item in enumerate(sections):
        if any(isinstance(block, Table) and block.steps for block in item.blocks):
            figures = [Figure(chart.name) for chart in drawn]
            sections[at] = replace(item, blocks=[*figures, *item.blocks])
            break
    return sections


def _theory(view: View, sections: Iterable[Section]) -> list[Section]:
    """Return what the sections of the theory say that the page cites."""
    texts = markdown(View(view.verdict, view.kind, [*sections], lead=[*view.lead, *view.plain]))
    named = [*sections_in([texts])]
    if not named:
        return []
    found: list[Any] = [
        Text(f"§{name} {': '.join(SECTIONS[name])}", f"theory-{name}") for name in named
    ]
    note = "In short; the statements with their proofs stand in docs/theory.md of taut."
    return [Section("theory", "Where the numbers come from", found, note)]


_SHORT = {
    "terms": "Errors",
    "run": "Steps",
    "ledger": "δ",
    "targets": "Targets",
    "routes": "Ways",
    "tau": "Clipping",
    "health": "Health",
    "assumptions": "Rests on",
    "paper": "Paper",
    "made-by": "How made",
    "made": "Experiment",
    "theory": "Theory",
    "examples": "Examples",
    "log-charts": "Log",
}


def _links(view: View) -> str:
    links = [
        html.tag("a", html.words(_SHORT.get(item.key, item.title)), href=f"#{item.key}")
        for item in view.sections
    ]
    return "".join([*links, html.tag("a", "JSON", href="#json")])


def _specs(view: View, drawn: Mapping[str, Chart]) -> str:
    """Return the charts as data: their specifications, and the colours of both grounds."""
    steps = any(
        isinstance(block, Table) and block.steps for item in view.sections for block in item.blocks
    )
    made = {}
    for name, item in drawn.items():
        spec = brushed(item.spec) if steps and name == STEPS else item.spec
        # The page has colours and titles of its own.
        made[name] = {key: value for key, value in spec.items() if key not in ("config", "title")}
    themes = {"light": config(), "dark": config(dark=True)}
    found = {"themes": themes, "charts": made}
    return json.dumps(found, ensure_ascii=False, allow_nan=False)


def data_block(name: str, text: str, *, packed: bool = False) -> str:
    """Return data as an element that runs nothing, packed where it is large.

    Args:
        name: Id of the element.
        text: JSON.
        packed: Pack it whatever its size.
    """
    raw = text.encode()
    if packed or len(raw) > LARGEST_PLAIN:
        zipped = base64.b64encode(gzip.compress(raw, 9, mtime=0)).decode()
        kind = 'type="application/octet-stream" data-packed="application/json, gzip, base64"'
        return f'<script {kind} id="{name}">{zipped}</script>'
    safe = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return f'<script type="application/json" id="{name}">{safe}</script>'


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """Put parts in the places of a template; what a part holds is no place."""
    out, rest = [], template
    while rest:
        text, _, rest = rest.partition("{{")
        name, _, rest = rest.partition("}}")
        out += [text, parts[name] if name else ""]
    return "".join(out)
