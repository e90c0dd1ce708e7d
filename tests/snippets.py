"""The ```python blocks of README.md and of the documentation, for the tests that run them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.S | re.M)
# pages whose blocks need more than the wheel (figures, a checkout, a camera, data), with the reason
NEED_MORE: dict[str, str] = {}


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def pages() -> list[Path]:
    """README.md and pages of docs/ that have blocks."""
    return [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if blocks(page)]


def as_script(page: Path) -> str:
    """A page's blocks one after the other, each on the lines it has there: what fails is named by them."""
    text, script = page.read_text(encoding="utf-8"), ""
    for block in BLOCK.finditer(text):
        script += "\n" * (text.count("\n", 0, block.start(1)) - script.count("\n")) + block[1]
    return script
