"""Write docs/llms.txt: the pages with their first sentence, for machines. `python docs/llms.py`."""

import re
from pathlib import Path

HERE = Path(__file__).parent


def first_words(page: Path) -> tuple[str, str]:
    """Return a page's title and its first paragraph."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    blocks = [block.strip() for block in text.split("\n\n")]
    title = blocks[0].lstrip("# ").splitlines()[0]
    words = next((b for b in blocks[1:] if re.match(r"[A-Za-z`*]", b)), "")
    words = re.sub(r"\]\([^)]*\)|[`*\[\]]", "", " ".join(words.split()))
    return title, words[:200]


def text() -> str:
    """Return the whole file."""
    lines = ["# taut", "", "> How much of the reward we measured is real?", ""]
    for page in sorted(HERE.glob("*.md")):
        title, words = first_words(page)
        lines.append(f"- [{title}]({page.name}): {words}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (HERE / "llms.txt").write_text(text(), encoding="utf-8")
