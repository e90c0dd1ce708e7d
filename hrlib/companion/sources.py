"""Numbers of result files for a page that says of each where it was read: file and key (`hrlib.companion.reproduction`).

The parts of a key have "/" between them. `*` stands for all parts of that level, `name=base,protocol.bias=none` for the rows of
a list with these, and a list of numbers for all of them.
"""

import json
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from ..support import paths
from .claims import is_number

SCRIPTS = {  # what writes a result of benchmarks/results, where it is no script of the result's name
    "evaluate": "make evaluate",
    "paper_wristband": "python benchmarks/bench_paper.py --wristband",
    "gpu": "make gpu-check",
}
FINDER = "finder_"  # figures of the finder on real frames begin so
LONG = ("05", "06", "10")  # notebooks whose committed figures are of the full profile
WORDS = {"True": "yes", "False": "no"}


class NotMeasured(Exception):
    """A result file or a key in it is not there; its text is the command that makes it."""


class Sources:
    """Reads numbers of result files, and keeps which were shown and where they came from."""

    def __init__(self):
        self.shown: dict[tuple[str, str, str], int] = {}  # (text, file, key) -> its number on the page
        self.files: dict[str, dict] = {}  # result files that were read, by their path in the repository

    def values(self, name: str, key: str) -> list[Any]:
        """What a result file holds at a key.

        Raises:
            NotMeasured: there is no such file or key.
            KeyError: nothing writes a result of this name.
        """
        command, path = command_of(name), path_of(name)
        try:
            content = _read(path, path.stat().st_mtime_ns)
            values = found(content, key)
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise NotMeasured(command) from error
        self.files[relative(path)] = content
        return values

    def show(self, text: str, file: Path, key: str) -> str:
        """The text as a link to its row in the table of numbers, which says where it was read."""
        where = relative(file)
        number = self.shown.setdefault((text, where, key), len(self.shown) + 1)
        return f'<a class="number" href="#n{number}" title="{escape(where)}: {escape(key)}">{text}</a>'


def command_of(name: str) -> str:
    """What writes the result file of this name. KeyError if nothing does."""
    if name[:2].isdigit() and any((paths.ROOT / "notebooks").glob(f"{name[:2]}_*.ipynb")):
        return f"hrlib reproduce --only {name[:2]}" + " --profile full" * (name[:2] in LONG)
    if name in SCRIPTS:
        return SCRIPTS[name]
    if name.startswith(FINDER):
        return "python benchmarks/find_hands.py"
    for script in (f"bench_{name}.py", f"{name}.py"):
        if (paths.ROOT / "benchmarks" / script).is_file():
            return f"python benchmarks/{script}"
    if "/" in name and (paths.ROOT / name).parent.is_dir():
        return f"git checkout {name}.json"
    raise KeyError(f"{name!r} is the name of no result")


def path_of(name: str) -> Path:
    """The file of a result, or of a record that is named with its folder in the repository."""
    if "/" in name:
        return paths.ROOT / f"{name}.json"
    return (paths.FIGURES if name[:2].isdigit() or name.startswith(FINDER) else paths.BENCHMARKS) / f"{name}.json"


def relative(path: Path) -> str:
    """The file's path in the repository."""
    for folder, name in ((paths.FIGURES, "figures"), (paths.BENCHMARKS, "benchmarks/results")):
        if path.parent == folder:
            return f"{name}/{path.name}"
    return path.relative_to(paths.ROOT).as_posix()


@cache
def _read(path: Path, changed: int) -> dict:
    """A JSON file's content; `changed`, its time, so that a new one is read again."""
    return json.loads(path.read_text(encoding="utf-8"))


def found(tree: Any, key: str) -> list[Any]:
    """All values that a key leads to. Raises LookupError, TypeError or ValueError where it leads to none."""
    values = [tree]
    for part in key.split("/"):
        values = [value for branch in values for value in _branches(branch, part)]
    values = [item for value in values for item in (value if isinstance(value, list) else [value])]
    if not values:
        raise LookupError(key)
    return values


def _branches(branch: Any, part: str) -> list[Any]:
    if part == "*":
        return list(branch.values() if isinstance(branch, dict) else branch)
    if "=" in part:
        wanted = dict(pair.split("=") for pair in part.split(","))
        return [row for row in branch if all(str(_inner(row, key)) == value for key, value in wanted.items())]
    return [branch[part]] if isinstance(branch, dict) else [branch[int(part)]]


def _inner(row: dict, key: str) -> Any:
    """A value below a row's dictionaries, e.g. "protocol.bias"."""
    for part in key.split("."):
        row = row[part]
    return row


def written(value: Any, form: str = "") -> str:
    """A number in a form; without one as people write it."""
    return format(value, form or ("," if isinstance(value, int) else "g" if isinstance(value, float) else ""))


def spread(values: Sequence[Any], form: str = "") -> str:
    """The smallest and the greatest number, or the one that there is; words one after the other."""
    if not is_number(values[0]):
        return "; ".join(dict.fromkeys(WORDS.get(str(value), str(value)) for value in values))
    low, high = written(min(values), form), written(max(values), form)
    return low if low == high else f"{low} to {high}"
