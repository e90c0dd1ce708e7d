"""The documentation: its exercises' solutions run, and the site builds without network and without warnings."""

import base64
import io
import pkgutil
import re

import nbformat
import pytest
from hand_page.write import SOURCES
from PIL import Image

import hrlib
from hrlib.support import paths

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


def test_the_method_prints_eq_5_with_its_support():
    """A bump ends at r: without the condition, the formula would grow again beyond it."""
    text = (DOCS / "method.md").read_text(encoding="utf-8")
    assert r"\begin{cases} \left(1 - \frac{d_i^2}{r^2}\right)^2 & d_i < r \\ 0 & d_i \ge r \end{cases}" in text


def test_the_library_lists_every_module_once_and_in_the_order_of_the_rooms():
    """All modules but the command and the kernels, which give what their package's reference does."""
    listed = re.findall(r"^\.\. automodule:: (\S+)", (DOCS / "api.md").read_text(encoding="utf-8"), flags=re.M)
    modules = {module.name for module in pkgutil.walk_packages(hrlib.__path__, "hrlib.")}
    public = {name for name in modules if name.rpartition(".")[2] not in ("cpu", "gpu", "__main__")}
    assert set(listed) == public and len(listed) == len(public)
    rooms = list(dict.fromkeys(name.split(".")[1] for name in listed))
    assert rooms[:6] == ["frames", "network", "hand", "render", "losses", "method"]
    assert len(rooms) == len({name.split(".")[1] for name in public}), "a room is one section"
    headings = re.findall(r"^### (\S+)", (DOCS / "api.md").read_text(encoding="utf-8"), flags=re.M)
    assert headings == listed


def test_pages_name_modules_that_exist():
    modules = {module.name for module in pkgutil.walk_packages(hrlib.__path__, "hrlib.")}
    for page in DOCS.glob("*.md"):
        named = set(re.findall(r"`(hrlib(?:\.[a-z_]+)+)`", page.read_text(encoding="utf-8")))
        assert {n for n in named if n not in modules and n.removeprefix("hrlib.") not in hrlib.__all__} == set(), (
            page.name
        )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is deprecated")  # the libraries' own among each other
def test_the_site_builds_and_asks_nobody_else_for_anything(tmp_path, monkeypatch):
    pytest.importorskip("myst_nb")
    from sphinx.cmd.build import main

    monkeypatch.setattr(paths, "EXECUTED", tmp_path / "executed")
    picture = executed(tmp_path / "executed" / "00_hand.ipynb")
    assert main(["-b", "html", "-q", "-W", "--keep-going", str(DOCS), str(tmp_path / "site")]) == 0
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "method.html", "reproduction.html", "teaching.html", "api.html", "camera.html"} <= {
        p.name for p in pages
    }
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", text)
        assert not [tag for tag in loaded if NEEDED.search(tag)], page.name
    read = {name: (tmp_path / "site" / name).read_text(encoding="utf-8") for name in ("api.html", "method.html")}
    assert "splat_depth" in read["api.html"] and "evaluate_step" in read["api.html"] and "<math" in read["method.html"]
    assert {path.name for path in (tmp_path / "site" / "hand_page").iterdir()} == {*SOURCES, "hand_data.js"}
    shown = [path.read_bytes() for path in (tmp_path / "site" / "_images").glob("*.png")]
    assert picture in shown, "an executed notebook's widget is there as its picture"


def executed(path) -> bytes:
    """Write a notebook as `make figures` leaves it, a widget's output with its picture in it. Returns the picture."""
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(picture, "png")
    bundle = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "1", "version_major": 2, "version_minor": 0},
        "image/png": base64.b64encode(picture.getvalue()).decode(),
        "text/plain": "a hand",
    }
    cell = nbformat.v4.new_code_cell("hand", outputs=[nbformat.v4.new_output("display_data", bundle)])
    state = {"application/vnd.jupyter.widget-state+json": {"version_major": 2, "version_minor": 0, "state": {"1": {}}}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# The hand"), cell])
    notebook.metadata |= {"widgets": state, "language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    path.parent.mkdir()
    nbformat.write(notebook, path)
    return picture.getvalue()
