"""Make the script that draws the charts of a page: Vega and Vega-Lite in one offline file.

    python docs/vega.py

writes `src/taut/report/page/vega.js`; it needs `vl-convert-python` (extra `charts`), whose versions
of Vega it takes. The page runs it under a policy without `unsafe-eval`.
"""

from pathlib import Path

import vl_convert

NOTICE = """/*!
Vega {vega}, Vega-Lite {lite}, Vega-Embed {embed} and what they are made of, by vl-convert {own}.
Copyright (c) 2015-2026, University of Washington Interactive Data Lab. BSD-3-Clause; the licence
text stands in VEGA-LICENSE beside this file.
*/
"""


def main() -> None:
    """Write the file."""
    script = vl_convert.javascript_bundle("window.tautVega = vegaEmbed;")
    versions = {
        "own": vl_convert.__version__,
        "vega": vl_convert.get_vega_version(),
        "lite": max(vl_convert.get_vegalite_versions(), key=_order),
        "embed": vl_convert.get_vega_embed_version(),
    }
    # Within an element of HTML these would end it, or hide its end.
    safe = script.replace("</script", r"<\/script").replace("<!--", r"<\!--")
    # In a function of its own: its names are no names of the page.
    text = f"{NOTICE.format(**versions)}(()=>{{{safe}\n}})();\n"
    target = Path(__file__).parent.parent / "src/taut/report/page/vega.js"
    target.write_text(text, encoding="utf-8")


def _order(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


if __name__ == "__main__":
    main()
