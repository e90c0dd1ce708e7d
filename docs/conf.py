"""The documentation site: `make site` writes build/site. Needs no network, neither while it is built nor to be read."""

import re
import shutil
import sys
from pathlib import Path

import nbformat
from docutils import nodes
from latex2mathml.converter import convert

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from hand_page.write import write_page  # noqa: E402

import hrlib  # noqa: E402
from hrlib.companion import claims, claims_table, reproduce, reproduction, results  # noqa: E402
from hrlib.support import paths  # noqa: E402
from hrlib.support.files import write_bytes_atomically  # noqa: E402

project, author, release = "hrlib", "The hrlib authors", hrlib.__version__
copyright = "The hrlib authors, MIT licence"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 2
nb_execution_mode = "off"  # `make figures` ran them; the site shows those runs
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = "the code", "the code"
nb_ipywidgets_js = {}  # by default scripts from two CDNs; a page without a kernel shows the widgets' pictures instead
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
html_theme = "furo"
pygments_dark_style = "github-dark"  # the theme's own underlines each imported name
html_title = "hrlib"
html_favicon = "static/hand.svg"
html_static_path = ["static"]
html_css_files = ["verdicts.css"]
html_show_sourcelink = False
html_math_renderer = "mathml"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
exclude_patterns = ["_build"]
suppress_warnings = ["mystnb.unknown_mime_type"]  # live widgets are drawn in JupyterLab only
PARAMETERS = {"parameters", "injected-parameters"}  # tags of cells that say nothing to who cannot run them


def copy_notebooks(app):
    """The executed copies beside the pages, their code folded; where there is none, the notebook without outputs."""
    folder = Path(app.srcdir) / "notebooks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for notebook in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        executed = paths.EXECUTED / notebook.name
        copied = nbformat.read(executed if executed.exists() else notebook, as_version=4)
        reproduce.drop_bars(copied)  # whoever ran it: `make lab` leaves them in
        copied.cells = [cell for cell in copied.cells if not PARAMETERS & set(cell.metadata.get("tags", []))]
        for cell in copied.cells:
            if cell.cell_type == "code" and (
                cell.outputs or "import " in cell.source
            ):  # else the code is all there is to read
                cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
        nbformat.write(copied, folder / notebook.name)


def write_report(app):
    """The reproduction report and the claims, from the result files as they are now."""
    known = claims.read_claims()
    judged, strays = claims.verdicts(results.read_results(paths.FIGURES, paths.BENCHMARKS), known)
    table = claims_table.as_page(judged, strays, known).replace("(claims.toml)", "(../claims.toml)")
    for name, text in (("reproduction.md", reproduction.markdown()), ("claims.md", table)):
        write_bytes_atomically(Path(app.srcdir) / name, text.encode())


def rooms(text):
    """The introduction of docs/api.md, and its sections as pages: room -> text."""
    head, *sections = re.split(r"^## ", text, flags=re.M)
    pages = {re.search(r"automodule:: hrlib\.(\w+)", section)[1]: section for section in sections}
    return head, {room: f"# {room}: " + section.replace("\n### ", "\n## ") for room, section in pages.items()}


def write_rooms(app):
    """A page for each room of the library: in one page, nobody would find anything."""
    folder = Path(app.srcdir) / "api"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    _, pages = rooms((Path(app.srcdir) / "api.md").read_text(encoding="utf-8"))
    for room, text in pages.items():
        (folder / f"{room}.md").write_text(text, encoding="utf-8")


def list_rooms(app, docname, source):
    """The pages of the rooms instead of the sections of docs/api.md."""
    if docname == "api":
        head, pages = rooms(source[0])
        listed = "\n".join(f"api/{room}" for room in pages)
        source[0] = f"{head}```{{toctree}}\n:maxdepth: 1\n{listed}\n```\n"


def link_names(app, doctree, docname):
    """Names of modules, classes and functions in `code` lead to their entry in the library."""
    known = app.env.get_domain("py").objects
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext().removesuffix("()")
        if name.count(".") == 1 and hasattr(hrlib, name.removeprefix("hrlib.")):
            module = getattr(getattr(hrlib, name.removeprefix("hrlib.")), "__module__", "hrlib")
            name = f"{module}.{name.removeprefix('hrlib.')}"  # where the name that hrlib exports is defined
        if name in known and not isinstance(literal.parent, nodes.reference):
            place = app.builder.get_relative_uri(docname, known[name].docname) + "#" + known[name].node_id
            link = nodes.reference("", "", internal=True, refuri=place)
            literal.replace_self(link)
            link += literal


def fill_in(app, docname, source):
    """Numbers of result files where a page asks for them: <!--= claim("fig5.joints") -->, a comment to all other readers."""
    if reproduction.HIDDEN[0] in source[0]:
        source[0] = reproduction.markdown(source[0], reproduction.HIDDEN)


def write_hand_page(app, error):
    """The hand in the browser, a page of its own beside the others."""
    if error is None and app.builder.format == "html":
        write_page(Path(app.outdir) / "hand_page")


def mathml(display):
    """Formulas as MathML, which browsers draw themselves; Sphinx's default fetches MathJax from the net."""

    def visit(translator, node):
        text = convert(node.astext(), display="block" if display else "inline")
        translator.body.append(f'<div class="math-wrapper">{text}</div>' if display else text)
        raise nodes.SkipNode

    return visit, None


def plain_docstring(app, what, name, obj, options, lines):
    """Docstrings are plain text in which backticks mark code and brackets shapes: not reStructuredText's roles."""
    for i, line in enumerate(lines):
        parts = line.split("`")
        text = [part.replace("*", r"\*").replace("|", r"\|") for part in parts[::2]]
        code = [f"``{part}``\\ " for part in parts[1::2]] + [""]
        lines[i] = "".join(a + b for a, b in zip(text, code, strict=False)) if len(parts) % 2 else line


def setup(app):
    app.add_html_math_renderer("mathml", mathml(False), mathml(True))
    app.connect("builder-inited", copy_notebooks)
    app.connect("builder-inited", write_report)
    app.connect("builder-inited", write_rooms)
    app.connect("build-finished", write_hand_page)
    app.connect("source-read", fill_in)
    app.connect("source-read", list_rooms)
    app.connect("doctree-resolved", link_names)
    app.connect("autodoc-process-docstring", plain_docstring)
