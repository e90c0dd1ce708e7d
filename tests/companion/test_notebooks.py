"""The notebooks teach: little bookkeeping, exercises with solutions that run, a table of findings, links that lead on.

Bookkeeping is what serves records, profiles and paths instead of the subject:

- the cell tagged `parameters`;
- imports of results, claims, profiles, paths and sys, and what is done to `sys.path`;
- statements that call on a `Results` (`save`, `pick`, `check`), or the functions behind it (`provenance`, ...);
- statements that only bind names which bookkeeping alone reads, e.g. metrics. Pictures are no bookkeeping.
"""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from hrlib.support import paths

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("[0-9]*.ipynb"))
CLASS = paths.NOTEBOOKS / "class" / "hand_pose.ipynb"
MODULES = {"results", "claims", "profiles", "reproduce", "paths", "sys"}
CALLS = {"save_figure", "provenance", "assert_claims", "pick", "profile", "chosen", "Results", "Only", "content_hash"}
CALLS |= {"require_alike"}
MOST = 0.15  # of the lines of code
SUMMARY = re.compile(r"<details>\s*<summary>Solution</summary>(.*?)</details>", flags=re.S)
BLOCK = re.compile(r"```python\n(.*?)```", flags=re.S)


def cells_of(path: Path, kind: str) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def lines_of(node: ast.stmt, lines: list[str]) -> set[int]:
    """A statement's lines with code on them; of a compound one its head alone."""
    body = getattr(node, "body", None)
    end = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno
    return {n for n in range(node.lineno, max(node.lineno, end) + 1) if lines[n - 1].split("#")[0].strip()}


def names_in(node: ast.AST, context: type) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, context)}


def called(node: ast.AST) -> set[str]:
    """Names of the functions that are called in a statement; of methods, the object's with a dot."""
    functions = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
    dotted = {f"{f.value.id}." for f in functions if isinstance(f, ast.Attribute) and isinstance(f.value, ast.Name)}
    return dotted | {f.id if isinstance(f, ast.Name) else getattr(f, "attr", "") for f in functions}


def is_record(node: ast.stmt, keepers: set[str]) -> bool:
    """Bookkeeping by its own looks: an import, or a call."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        parts = {part for name in node.names for part in (*(getattr(node, "module", "") or "").split("."), name.name)}
        return bool(parts & MODULES)
    whole = ast.unparse(node)
    if isinstance(node, ast.FunctionDef | ast.For | ast.With | ast.If | ast.While | ast.Try):
        return False
    return bool(called(node) & (CALLS | keepers)) or "sys.path" in whole


def draws(node: ast.stmt) -> bool:
    return any(name.startswith("figure") or name in ("contact_sheet", "subplots", "grid") for name in called(node))


def share_of_bookkeeping(path: Path) -> tuple[float, int, int]:
    """Share of a notebook's lines of code that are bookkeeping, their number, and that of all."""
    cells = cells_of(path, "code")
    lines = "\n".join(cell.source for cell in cells).splitlines()
    tree = ast.parse("\n".join(lines))
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    results = [n for n in statements if isinstance(n, ast.Assign) and "Results" in called(n)]
    keepers = {f"{name}." for node in results for name in names_in(node, ast.Store)}
    simple = [n for n in statements if not getattr(n, "body", None)]
    kept = {id(n) for n in simple if is_record(n, keepers)}
    changed = True
    while changed:  # what only serves bookkeeping is bookkeeping
        read = {name for n in simple if id(n) not in kept for name in names_in(n, ast.Load)}
        read |= {name for n in statements if getattr(n, "body", None) for name in head_reads(n)}
        more = {id(n) for n in simple if isinstance(n, ast.Assign | ast.AugAssign) and serves(n, read, kept)}
        changed = bool(more - kept)
        kept |= more
    marked = set().union(*(lines_of(n, lines) for n in simple if id(n) in kept))
    count, start = len(lines), 0
    for cell in cells:
        end = start + len(cell.source.splitlines())
        if "parameters" in cell.metadata.get("tags", []):
            marked |= set(range(start + 1, end + 1))
        start = end
    code = {n for n in range(1, count + 1) if lines[n - 1].split("#")[0].strip()}
    return len(marked & code) / max(1, len(code)), len(marked & code), len(code)


def head_reads(node: ast.stmt) -> set[str]:
    """Names that the head of a compound statement reads."""
    parts = [getattr(node, key, None) for key in ("test", "iter", "items", "decorator_list")]
    flat = [p for part in parts if part is not None for p in (part if isinstance(part, list) else [part])]
    return {name for part in flat for name in names_in(part, ast.Load)}


def serves(node: ast.Assign | ast.AugAssign, read: set[str], kept: set[int]) -> bool:
    """Whether a statement only binds names that bookkeeping alone reads."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    stored = {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return bool(stored) and not stored & read and not draws(node)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_little_of_a_notebook_is_bookkeeping(path: Path):
    share, _, _ = share_of_bookkeeping(path)
    assert share <= MOST


def test_bookkeeping_is_told_from_the_subject(tmp_path):
    def share(*sources: str) -> tuple[int, int]:
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        nbformat.write(book, tmp_path / "x.ipynb")
        return share_of_bookkeeping(tmp_path / "x.ipynb")[1:]

    assert share("import torch\nx = torch.ones(3)\nprint(x)") == (0, 3)
    assert share(
        "from hrlib.companion.results import Results\nr = Results('quick')\nn = r.pick(smoke=1)\nprint(n)"
    ) == (3, 4)
    made = "from hrlib.companion.results import Results\nr = Results('quick')\n"
    assert share(made + "y = 2\nm = {\n  'y': y\n}\nf = figure_x(y)\nr.save(f, 'x', m)\n# words\n\nr.check()") == (7, 9)
    assert share(made + "y = 2\nprint(y)\nm = {'y': y}\nfor k in y:\n    r.save(figure_x(y), 'x', m)") == (4, 7)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_has_what_a_reader_needs(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert "**What you will see.**" in prose[0] and "**How long:**" in prose[0]
    assert "## Recap" in prose[-1] and "## Exercises" in prose[-1] and len(SUMMARY.findall(prose[-1])) == 2
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    first = "\n".join(code[1:3])  # after the parameters
    assert re.search(r"\b(Image|figure\w*|contact_sheet|\w*View|Explorer)\(", first), "a picture comes first"
    assert any("findings(" in source for source in code), "a table: the paper, we, why"
    assert any("What the paper says, what we found, and why" in text for text in prose)
    assert any("$$" in text for text in prose), "equations are displayed"
    others = [other.name for other in sorted(paths.NOTEBOOKS.glob("[0-9]*.ipynb"))]
    place = others.index(path.name)
    for text in (prose[0], prose[-1]):
        links = re.findall(r"(Before|Next): \[[^]]+\]\(([^)]+)\)", text)
        wanted = {"Before": others[place - 1] if place else None, "Next": (others[1:] + [None])[place]}
        assert dict(links).items() <= wanted.items() and (len(links) == 2 or place in (0, len(others) - 1, 10))
    for target in re.findall(r"\]\(([^)#:]+)\)", "\n".join(prose)):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_solutions_run(path: Path):
    """The blocks of a notebook's solutions, one after the other, without the notebook."""
    solutions = SUMMARY.findall(cells_of(path, "markdown")[-1].source)
    blocks = [block for solution in solutions for block in BLOCK.findall(solution)]
    assert any("assert" in block for block in blocks)
    names: dict = {}
    for block in blocks:
        exec(compile(block, path.name, "exec"), names)


def test_the_class_has_no_bookkeeping_and_fits_into_its_time():
    cells = nbformat.read(CLASS, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert len(cells) <= 24 and not [cell for cell in code if cell.outputs or cell.execution_count]
    assert (
        "Results" not in "".join(cell.source for cell in code) and share_of_bookkeeping(CLASS)[1] == 1
    )  # the model's path
    for target in re.findall(
        r"\]\(([^)#:]+)\)", "".join(cell.source for cell in cells if cell.cell_type == "markdown")
    ):
        assert (CLASS.parent / target).exists(), target
    minutes = [
        int(m) for m in re.findall(r"^## \d\. .*\((\d+) minutes\)", "\n".join(c.source for c in cells), flags=re.M)
    ]
    assert sum(minutes) == 45
