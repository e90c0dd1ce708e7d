"""The repository agrees with itself: dependencies, versions, README's commands, notebooks."""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from snippets import blocks

import hrlib
from hrlib import __main__ as cli
from hrlib.companion.claims import read_claims
from hrlib.companion.reproduction import Report
from hrlib.datasets.fetch import dataset_folder
from hrlib.support import paths

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
FRONT = ["README.md", "CONTRIBUTING.md"]
DOCUMENTS = [
    *FRONT,
    *(f"docs/{page}.md" for page in ("index", "install", "camera", "figures", "glossary", "security", "upgrade")),
]
GENERATED = re.compile(r"<!-- \w+: written by .*?<!-- end of \w+ -->", re.S)
MOST_WORDS = 900  # of README: a minute's look and three minutes' reading
# only the hand asset's builder needs the one, and it brings warp; only owners of a RealSense camera need the other
NOT_LOCKED = {"anny", "pyrealsense2"}


def text(name: str) -> str:
    return (paths.ROOT / name).read_text(encoding="utf-8")


def direct() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    every = [Requirement(line) for line in [*PROJECT["dependencies"], *(r for extra in extras.values() for r in extra)]]
    return [requirement for requirement in every if requirement.name != PROJECT["name"]]


def lock() -> list[Requirement]:
    return [Requirement(line) for line in text("requirements.lock").splitlines() if not line.startswith("#")]


# ---- dependencies


@pytest.mark.parametrize("requirement", direct(), ids=lambda r: r.name)
def test_direct_dependencies_are_bounded_and_locked_within_the_bounds(requirement):
    operators = {part.operator for part in requirement.specifier}
    assert operators == {"=="} or operators >= {">=", "<"}, "needs a lower and an upper bound"
    if requirement.name in NOT_LOCKED:
        return
    (pin,) = [r for r in lock() if canonicalize_name(r.name) == canonicalize_name(requirement.name)]
    (version,) = [part.version for part in pin.specifier]
    assert requirement.specifier.contains(version), f"the lock has {version}: run make lock"
    assert str(pin.marker) == str(requirement.marker)


def test_every_direct_dependency_says_why():
    lines = text("pyproject.toml").splitlines()
    start = lines.index("dependencies = [")
    listed = [line for line in lines[start : lines.index("[project.scripts]")] if line.startswith('    "')]
    assert len(listed) >= len(direct())
    assert [line for line in listed if not re.search(r'",\s+# \w', line)] == []


def test_the_lock_pins_everything_and_names_no_computer():
    lines = text("requirements.lock").splitlines()
    assert lines[0].startswith("#") and "make lock" in lines[0]
    for requirement in lock():
        (part,) = requirement.specifier
        assert part.operator == "==" and "*" not in part.version and "+" not in part.version, requirement
        assert requirement.url is None
    assert "torch==2.13.0" in lines
    names = [canonicalize_name(r.name) for r in lock()]
    assert len(set(names)) == len(names)
    assert not [n for n in names if n.startswith(("nvidia", "warp", "anny"))]


def test_environment_yml_takes_the_same_python_and_lock():
    environment = yaml.safe_load(text("environment.yml"))
    packages = environment["dependencies"]
    pip = next(entry["pip"] for entry in packages if isinstance(entry, dict))
    assert environment["name"] == PROJECT["name"] and "python=3.11" in packages and "pip" in packages
    assert pip == ["-r requirements.lock", "-e ."]
    assert PROJECT["requires-python"] == ">=3.11,<3.13"


def of_this_checkout(installed: importlib.metadata.Distribution) -> bool:
    """Whether a package is this folder's, not that of another checkout with the same environment."""
    record = installed.read_text("direct_url.json")
    return record is None or json.loads(record)["url"] == paths.ROOT.as_uri()


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert PROJECT["version"] == hrlib.__version__ == citation["version"]
    assert f"version = {{{hrlib.__version__}}}" in text("README.md"), "BibTeX"
    assert f"\n## [{hrlib.__version__}] - {citation['date-released']}\n" in text("CHANGELOG.md")
    installed = {d.version for d in importlib.metadata.distributions(name="hrlib") if of_this_checkout(d)}
    assert installed <= {hrlib.__version__}, "make setup tells the environment"
    assert citation["license"] == PROJECT["license"] == "MIT"


# ---- documents


def code_in(name: str) -> str:
    """What stands in code blocks and code spans."""
    return "\n".join(re.findall(r"```(?!bibtex).*?```|`[^`\n]+`", text(name), flags=re.S))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documented_commands_exist(name):
    code = code_in(name)
    targets = set(re.findall(r"\bmake ([a-z][a-z-]*)", code))
    commands = set(re.findall(r"\bhrlib ([a-z]+)", code))
    assert (targets and commands) or name not in FRONT
    declared = set(re.search(r"\.PHONY: (.*)", text("Makefile"))[1].split())
    assert targets <= declared and commands <= set(cli.COMMANDS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documented_options_exist(name):
    for command, rest in re.findall(r"\bhrlib ([a-z]+)([^`\n#]*)", code_in(name)):
        run = [sys.executable, "-m", "hrlib", command, "--help"]
        shown = subprocess.run(run, cwd=paths.ROOT, check=True, capture_output=True, text=True).stdout
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in shown, f"hrlib {command} has no {option}"


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_knows_its_targets_and_lists_them():
    help_text = subprocess.run(["make", "help"], cwd=paths.ROOT, check=True, capture_output=True, text=True).stdout
    for target in re.search(r"\.PHONY: (.*)", text("Makefile"))[1].split():
        subprocess.run(["make", "-n", target], cwd=paths.ROOT, check=True, capture_output=True)
        assert f"make {target} " in help_text


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_to_files_lead_somewhere(name):
    built = {"reproduction.md", "claims.md"}  # docs/conf.py writes them
    for target in re.findall(r"\]\(([^)#]+)\)|(?:href|src)=\"([^\"#]+)\"", text(name)):
        target = "".join(target)
        place = (paths.ROOT / name).parent / target
        assert target.startswith("https://") or target in built or place.exists(), target


def test_readme_lists_every_notebook():
    assert [n.name for n in NOTEBOOKS if f"[{n.name[:2]} " not in text("README.md")] == []


def test_readme_shows_every_figure_of_the_paper():
    gallery = re.search(r"<table>.*</table>", text("README.md"), flags=re.S)[0]
    pictures = re.findall(r'href="(figures/[^"]+)"><img src="(figures/[^"]+)"', gallery)
    assert len(pictures) == gallery.count("<td>") and all(link == shown for link, shown in pictures)
    numbers = re.findall(r"\d+", " ".join(re.findall(r"Fig\. ([\d, ]+):", gallery)))
    assert numbers == [str(number) for number in range(1, 9)]


def test_readme_is_read_in_minutes():
    """All of it as `wc -w` counts, but for the tables of numbers, which grow with the people."""
    words = len(GENERATED.sub("", text("README.md")).split())
    assert words <= MOST_WORDS, f"{words} words: the long rest belongs to docs/"


def test_what_readme_calls_not_reproduced_is_just_that():
    report = Report()
    told = re.findall(r"^- \*.*\((Fig\. \d)\):", text("README.md"), flags=re.M)
    not_so = [made["place"] for name, made in report.statements.items() if report.verdict(name) == "not"]
    assert told == [place.split(",")[0] for place in not_so], "docs/index.md has the verdicts"


@pytest.mark.mirror
def test_the_python_of_readme_runs(capsys):
    (code,) = blocks(paths.ROOT / "README.md")
    assert sum(map(bool, code.splitlines())) <= 6
    folder = dataset_folder("sr305") / "20210326-230536"
    exec(compile(code.replace("my_frames", str(folder)), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert re.match(r"\d+\.png \[\[ +-?\d", printed) and printed.count("[[") == len(list(folder.glob("*.png")))


def test_ci_runs_what_the_readme_says():
    script = text(".ci/run")
    assert os.access(paths.ROOT / ".ci/run", os.X_OK)
    assert "set -euo pipefail" in script and "\nmake test\n" in script and "HRLIB_DATA_MIRROR" in script
    either = re.compile(r"available_\w+|\w+_if_any|one_user|mirror\(\)")  # real frames where there are any, or others
    asking = [path.name[:2] for path in NOTEBOOKS if either.search(path.read_text(encoding="utf-8"))]
    drawn_without = 'env -u HRLIB_DATA_MIRROR make figures PROFILE=smoke ONLY="{}"'
    assert len(asking) >= 6 and drawn_without.format(" ".join(asking)) in script
    page = json.loads(text(".jupyter/labconfig/page_config.json"))
    assert page["buildCheck"] is False
    assert page["disabledExtensions"] == {"@jupyterlab/apputils-extension:announcements": True}, "asks to be online"


# ---- notebooks


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_notebooks_are_stripped_and_take_a_profile(path: Path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not [i for i, cell in enumerate(code) if cell.outputs or cell.execution_count], "run make format"
    assert book.metadata.kernelspec.name == "python3" and book.metadata.kernelspec.language == "python"
    (parameters,) = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    values = {}
    exec(compile(parameters.source, path.name, "exec"), {"__builtins__": {}}, values)  # literals only
    assert values["profile"] == "quick"
    claiming = {claim.result[:2] for claim in read_claims().claims.values()}
    checks = code[-1].source in ("results.check()", "assert_claims(values, profile)")
    assert checks == (path.name[:2] in claiming)
    source = "\n".join(cell.source for cell in code)
    assert re.search(r"Results\(\s*profile\b", source), "hand the profile to hrlib.companion.results.Results"


# ---- what make clean keeps


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_clean_keeps_what_took_hours(tmp_path):
    shutil.copy(paths.ROOT / "Makefile", tmp_path)
    for name in ("build/notebooks/00.ipynb", "runs/protocol/state.pt", "data/cache/nyu/1.png", ".venv/pyvenv.cfg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    kept = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == {"Makefile", "runs/protocol/state.pt", "data/cache/nyu/1.png", ".venv/pyvenv.cfg"}


def test_trainings_and_refinements_lie_where_make_clean_keeps_them():
    places = [*paths.NOTEBOOKS.glob("*.ipynb"), *(paths.ROOT / "benchmarks").glob("*.py")]
    assert [
        path.name for path in places if re.search(r"out=(paths\.)?BUILD|ROOT / .{1,2}build/", path.read_text())
    ] == []


# ---- the house

# entry points whose signatures others script against
ESTABLISHED = {
    "hrlib/__main__.py: predict",  # of a command, each is an option
    "hrlib/training/command.py: pretrain",
    "hrlib/refine/__init__.py: refine",
    "hrlib/training/pretrain.py: pretrain",
    "hrlib/training/step.py: train_step",
}


def sources() -> list[Path]:
    return sorted((paths.ROOT / "hrlib").rglob("*.py"))


def is_kernel(function: ast.FunctionDef) -> bool:
    names = {name.id for d in function.decorator_list for name in ast.walk(d) if isinstance(name, ast.Name)}
    attributes = {name.attr for d in function.decorator_list for name in ast.walk(d) if isinstance(name, ast.Attribute)}
    return bool({"compiled", "jit"} & (names | attributes))


def functions() -> list[tuple[str, ast.FunctionDef]]:
    """Every function and method, with its place; kernels aside."""
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and not is_kernel(node):
                found.append((f"{path.relative_to(paths.ROOT)}: {node.name}", node))
    return found


def test_the_house_has_few_rooms():
    entries = {p.name for p in (paths.ROOT / "hrlib").iterdir() if p.name not in ("__pycache__", "py.typed")}
    assert len(entries) <= 18, sorted(entries)


def test_functions_fit_on_a_screen():
    long = {place: node.end_lineno - node.lineno + 1 for place, node in functions()}
    assert {place: lines for place, lines in long.items() if lines > 60} == {}


def test_functions_take_few_parameters():
    def count(arguments: ast.arguments) -> int:
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        return sum(argument.arg not in ("self", "cls", "ctx") for argument in named)

    many = {place: count(node.args) for place, node in functions()}
    assert {place: number for place, number in many.items() if number > 6 and place not in ESTABLISHED} == {}


def test_committed_pictures_are_small():
    assert {p.name: p.stat().st_size for p in paths.FIGURES.glob("*.png") if p.stat().st_size > 300_000} == {}
    assert not list(paths.FIGURES.glob("*.svg"))
