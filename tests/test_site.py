"""The documentation: its exercises' solutions run, and the site builds without network and without warnings."""

import re
import subprocess
import sys

import pytest

from hrlib import paths

DOCS = paths.ROOT / "docs"
NEEDED = re.compile(r'(?:src|href)="(https?://[^"]+)"')


def blocks(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text(encoding="utf-8"), flags=re.S | re.M)


def test_solutions_of_the_exercises_run():
    names: dict = {}
    found = blocks("teaching.md")
    assert len(found) == 7 and all("assert" in code for code in found[1:])
    for code in found:
        exec(compile(code, "teaching.md", "exec"), names)


@pytest.mark.slow
def test_the_site_builds_and_asks_nobody_else_for_anything(tmp_path):
    pytest.importorskip("myst_nb")
    run = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going", DOCS, tmp_path]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = list(tmp_path.rglob("*.html"))
    assert {"index.html", "method.html", "teaching.html", "api.html", "camera.html"} <= {p.name for p in pages}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", text)
        assert not [tag for tag in loaded if NEEDED.search(tag)], page.name
    api = (tmp_path / "api.html").read_text(encoding="utf-8")
    assert "splat_depth" in api and "evaluate_step" in api
    assert "<math" in (tmp_path / "method.html").read_text(encoding="utf-8")
