"""The documentation: its exercises' solutions run, and the site builds without network and without warnings."""

import base64
import inspect
import io
import json
import pkgutil
import re
import shlex
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from urllib.parse import unquote

import nbformat
import numpy as np
import pytest
import tyro
from browser import browser_page
from hand_page.write import SOURCES
from PIL import Image
from snippets import NEED_MORE, as_script, blocks, pages

import hrlib
from hrlib.companion.reproduction import HIDDEN, Report, markdown
from hrlib.personal.folder import UserFolder, camera_as_one_word
from hrlib.support import paths

DOCS = paths.ROOT / "docs"
CAMERA = (DOCS / "camera.md").read_text(encoding="utf-8")
NEEDED = re.compile(r'(?:src|href)="(https?://[^"]+)"')


def test_pages_with_code_run_with_the_wheel_alone_or_say_why_not():
    """`make wheel` runs them; a page that comes anew is found, and one that is gone is not listed."""
    assert {"README.md", "extend.md", "teaching.md"} <= {page.name for page in pages()} - NEED_MORE.keys()
    assert NEED_MORE.keys() <= {page.name for page in pages()} and all(NEED_MORE.values())


def test_a_page_as_a_script_keeps_its_lines(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```python\na = 1\n```\n\n```sh\nls\n```\n\n```python\nb = a\nraise ValueError\n```\n")
    lines = as_script(page).splitlines()
    assert {number: line for number, line in enumerate(lines, 1) if line} == {
        4: "a = 1",
        12: "b = a",
        13: "raise ValueError",
    }


def test_each_equation_is_computed_where_the_page_of_the_method_says():
    rows = re.findall(
        r"^\| (Eq\. \d).* \| `([\w.]+)\.(\w+)` \|$", (DOCS / "method.md").read_text(encoding="utf-8"), re.M
    )
    assert {equation for equation, *_ in rows} == {f"Eq. {number}" for number in range(1, 9)}
    for equation, module, function in rows:
        assert equation in inspect.getsource(getattr(import_module(module), function))


def test_solutions_of_the_exercises_run():
    names: dict = {}
    found = blocks(DOCS / "teaching.md")
    assert len(found) == 7 and all("assert" in code for code in found[1:])
    for code in found:
        exec(compile(code, "teaching.md", "exec"), names)


def test_examples_of_own_parts_run():
    names: dict = {"__name__": "extend"}
    text, found = (DOCS / "extend.md").read_text(encoding="utf-8"), blocks(DOCS / "extend.md")
    parts = re.findall(r"^## Your own (.*)", text, flags=re.M)
    assert parts == ["network", "loss", "sensor", "data set", "hand"] and all("assert" in code for code in found[1:])
    for code in found:
        exec(compile(code, "extend.md", "exec"), names)


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


def exists(name: str, modules: set[str]) -> bool:
    """Whether a name is of a module, of what hrlib exports, or of what a module defines."""
    module, _, defined = name.rpartition(".")
    exported = module == "hrlib" and defined in hrlib.__all__
    return name in modules or exported or (module in modules and hasattr(import_module(module), defined))


def test_pages_name_what_exists():
    modules = {module.name for module in pkgutil.walk_packages(hrlib.__path__, "hrlib.")}
    for page in DOCS.glob("*.md"):
        named = set(re.findall(r"`(hrlib(?:\.[A-Za-z_]+)+)`", page.read_text(encoding="utf-8")))
        assert {name for name in named if not exists(name, modules)} == set(), page.name
    assert exists("hrlib.losses.depth_loss", modules) and not exists("hrlib.losses.deep_loss", modules)


# -- your own frames: the folders that docs/camera.md describes, and its lines that read them

PLANE_MM = 512.0  # a whole number of counts in each unit


def plane(counts_a_mm: float, path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    depth = np.full((48, 64), PLANE_MM * counts_a_mm)
    if path.suffix == ".npy":
        np.save(path, depth.astype(np.float32))
    else:
        Image.fromarray(np.round(depth).astype(np.uint16)).save(path)


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """A folder of each kind in the current one, two frames each."""
    monkeypatch.chdir(tmp_path)
    kinds = {"recorded/0000{}.png": 1, "mixed/depth_000{}.png": 1, "metres/{}.npy": 1e-3}
    for name, counts in kinds.items():
        for number in (1, 2):
            plane(counts, tmp_path / name.format(number))
    Image.new("RGB", (64, 48)).save(tmp_path / "mixed/color_0001.png")
    (tmp_path / "recorded/camera.json").write_text("{}")
    (tmp_path / "nyu/test").mkdir(parents=True)
    for number in (1, 2):  # depth = G * 256 + B, as NYU packs it
        packed = np.full((48, 64, 3), (0, PLANE_MM // 256, PLANE_MM % 256), np.uint8)
        packed[0] = (0, 2, 7)  # a low channel that is constant would be refused
        Image.fromarray(packed).save(tmp_path / f"nyu/test/depth_1_000000{number}.png")
    return tmp_path


def test_the_lines_for_folders_read_such_folders(recordings):
    (lines,) = [block for block in re.findall(r"^```sh\n(.*?)^```", CAMERA, flags=re.S | re.M) if "mixed" in block]
    lines = [shlex.split(line, comments=True) for line in lines.splitlines()]
    assert [words[2].split("/")[0] for words in lines] == ["recorded", "mixed", "metres", "nyu"]
    for words in lines:
        assert words[:2] == ["hrlib", "refine"] and words[-2:] == ["--out", "runs/me"]
        frames = tyro.cli(tyro.conf.OmitArgPrefixes[UserFolder], args=camera_as_one_word(words[2:-2])).frames()
        assert len(frames) == 2, words
        assert np.allclose(frames[1].depth_mm[1:], PLANE_MM, atol=1e-3), words
        numbers = words[words.index("--camera") + 1 : words.index("--unit-mm")]
        numbers += ["31.5", "23.5"] * (len(numbers) == 2)  # the image's centre
        assert [getattr(frames[0].camera, key) for key in ("fx", "fy", "cx", "cy")] == [float(n) for n in numbers]


# -- figures


def test_pages_are_filled_in_from_result_files():
    filled = markdown('<!--= of("05_self") -->|<!--= verdict_list() -->|<!--= headline() -->', HIDDEN)
    of, verdicts, table = filled.split("|", 1)[0], *filled.split("|", 1)[1].split("|| mean")
    made = json.loads((paths.FIGURES / "05_self.json").read_text())
    (value,) = [claim["value"] for claim in made["claims"] if claim["id"] == "fig5.depth"]
    assert f"{value:.2f} mm" in of and "does not hold</span>" in of and f"Profile: {made['profile']}." in of
    assert verdicts.count("not reproduced</span>") == int(Report().tally("not")) and "test person F" in table
    assert "Not drawn yet" in markdown('<!--= of("00_nothing") -->', HIDDEN)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is deprecated")  # the libraries' own among each other
def test_the_site_builds_and_asks_nobody_else_for_anything(tmp_path, monkeypatch):
    pytest.importorskip("myst_nb")
    from sphinx.cmd.build import main

    monkeypatch.setattr(paths, "EXECUTED", tmp_path / "executed")
    picture = executed(tmp_path / "executed" / "00_hand.ipynb")
    assert main(["-b", "html", "-q", "-W", "--keep-going", str(DOCS), str(tmp_path / "site")]) == 0
    pages = list((tmp_path / "site").rglob("*.html"))
    written = {p.stem for p in DOCS.glob("*.md")} | {"reproduction", "claims"}
    assert written <= {p.stem for p in pages}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", text)
        assert not [tag for tag in loaded if NEEDED.search(tag)], page.name
    names = ("api.html", "api/render.html", "api/method.html", "method.html")
    read = {name: (tmp_path / "site" / name).read_text(encoding="utf-8") for name in names}
    assert 'href="api/render.html"' in read["api.html"] and "<math" in read["method.html"]
    assert 'id="hrlib.render.splat_depth"' in read["api/render.html"] and "[source]" in read["api/render.html"]
    assert 'href="api/method.html#hrlib.method.evaluate_step"' in read["method.html"], "names lead to the library"
    assert {path.name for path in (tmp_path / "site" / "hand_page").iterdir()} == {*SOURCES, "hand_data.js"}
    shown = [path.read_bytes() for path in (tmp_path / "site" / "_images").glob("*.png")]
    assert picture in shown, "an executed notebook's widget is there as its picture"
    notebook = (tmp_path / "site" / "notebooks" / "00_hand.html").read_text(encoding="utf-8")
    assert notebook.index('<details class="admonition hide') < notebook.index("<img"), "code is folded"
    assert "100%|" not in notebook and "a warning" in notebook, "progress bars fill no page"
    assert "smoke" not in notebook, "what the run was told"
    of_pages = [page for page in pages if "_modules" not in page.parts]  # the sources, whose places Sphinx itself links
    assert {page.name: lost for page in of_pages if (lost := missing(page))} == {}
    assert wide_pages(tmp_path / "profile", tmp_path / "site", of_pages) == {}


class Links(HTMLParser):
    """What a page refers to, and the places in it that others may refer to."""

    def __init__(self, page):
        super().__init__()
        self.links, self.places = set(), set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.places |= {named[key] for key in ("id", "name") if named.get(key)}
        self.links |= {named[key] for key in ("href", "src") if named.get(key)}


links = cache(Links)


def missing(page) -> list[str]:
    """Links of a page to files, or to places in pages, that are not there."""
    lost = []
    for link in sorted(links(page).links):
        path, _, place = unquote(link).partition("#")
        file = (page.parent / path.partition("?")[0]).resolve() if path else page
        if re.match(r"[a-z]+:", link):
            continue
        if not file.exists() or (place and file.suffix == ".html" and place not in links(file).places):
            lost.append(link)
    return lost


# How far to the right a page goes, and its room. The theme hides what is too wide, or scrolls all of its text: neither is
# room; what scrolls by itself within the text is no part of the width.
WIDTHS = """() => {
  const room = document.documentElement.clientWidth, within = document.querySelector("article") ?? document.body;
  const scrolls = (part) => part !== within && (getComputedStyle(part).overflowX !== "visible" || scrolls(part.parentElement));
  const ends = [...within.querySelectorAll("*")].filter((part) => part.clientWidth && !scrolls(part))
    .map((part) => part.getBoundingClientRect().left + Math.max(part.scrollWidth, part.offsetWidth ?? 0));
  return [Math.max(document.documentElement.scrollWidth, ...ends.map(Math.floor)), room];
}"""


def wide_pages(profile, site, pages) -> dict[str, int]:
    """Pages that a phone's reader would have to push to and fro, with their width; none may complain on its console."""
    wide = {}
    with browser_page(profile, site.as_uri(), viewport={"width": 390, "height": 844}) as browser:
        for page in pages:
            browser.goto(page.as_uri(), wait_until="load", timeout=120_000)
            across, room = browser.evaluate(WIDTHS)
            if across > room:
                wide[page.relative_to(site).as_posix()] = across
    return wide


def test_a_lost_link_and_a_wide_page_are_told(tmp_path):
    """The checks of the site find what they are for."""
    text = '<a href="#there"></a><a href="#lost"></a><a href="a.html#there"></a><img src="no.png"><p id="there">'
    scrolls = 'class="content" style="overflow-x: auto"><article><p style="width: 500px"'
    for name, style in (("a", ""), ("b", 'style="width: 500px"'), ("c", scrolls)):
        (tmp_path / f"{name}.html").write_text(
            f"<!doctype html><link rel=icon href=data:,>{text}<div {style}>text</div>"
        )
    assert missing(tmp_path / "a.html") == ["#lost", "no.png"]
    for name in "abc":
        page = tmp_path / f"{name}.html"
        page.write_text(page.read_text().replace('<img src="no.png">', ""))
    pages = [tmp_path / f"{name}.html" for name in "abc"]
    assert list(wide_pages(tmp_path / "profile", tmp_path, pages)) == ["b.html", "c.html"]


def executed(path) -> bytes:
    """Write a notebook as `make figures` leaves it, a widget's output with its picture in it. Returns the picture."""
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(picture, "png")
    bundle = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "1", "version_major": 2, "version_minor": 0},
        "image/png": base64.b64encode(picture.getvalue()).decode(),
        "text/plain": "a hand",
    }
    told = "frames: 100%|####| 3/3 [00:01<00:00,  1.8it/s]\na warning\n"
    outputs = [
        nbformat.v4.new_output("display_data", bundle),
        nbformat.v4.new_output("stream", name="stderr", text=told),
    ]
    cell = nbformat.v4.new_code_cell("hand", outputs=outputs)
    state = {"application/vnd.jupyter.widget-state+json": {"version_major": 2, "version_minor": 0, "state": {"1": {}}}}
    told = nbformat.v4.new_code_cell('profile = "smoke"', metadata={"tags": ["injected-parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# The hand"), told, cell])
    notebook.metadata |= {"widgets": state, "language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    path.parent.mkdir()
    nbformat.write(notebook, path)
    return picture.getvalue()
