"""Regenerate the figures: run the notebooks headless (papermill), fail loudly, and lay all figures on one page.

A notebook's parameters cell holds `profile = "quick"`; `results.Results` says how much work that is.
"""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..support import paths
from ..support.checks import require_one_of
from ..support.files import write_bytes_atomically
from ..support.progress import tqdm
from ..support.stops import stopped_by
from .profiles import PROFILE_VARIABLE, PROFILES
from .side_by_side import MOST, Lost, cores_allowed, side_by_side

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
BAR = re.compile(
    r"\d%\|.*\[.*\]|\d+\w* \[[\d:]+, |^\x1b\[A$"
)  # a state of a progress bar, with and without a known end
# begin first, so that none is left over at the end: most processor time in the profile quick
LONGEST = ("10", "11", "05", "06", "09", "03", "02")
ALONE = ("08",)  # measures times, which others on the same cores would lengthen
PRELOAD = ("papermill", "nbformat", __name__)  # what each process would import


@dataclass(frozen=True)
class Outcome:
    """What became of one notebook."""

    notebook: str
    seconds: float
    figures: tuple[str, ...]  # names of those it wrote
    error: str | None  # None if all cells ran


def find_notebooks(only: Sequence[str] = ()) -> list[Path]:
    """The notebooks to run, in order: all `NN_name.ipynb`, or those whose names start with a word of `only`.

    Raises:
        ValueError: a word of `only` fits none.
    """
    found = sorted(paths.NOTEBOOKS.glob("[0-9][0-9]*.ipynb"))
    for word in only:
        if not any(path.name.startswith(word) for path in found):
            names = ", ".join(path.stem for path in found) or "none"
            raise ValueError(f"only must name notebooks by their first characters, got {word!r}; there are: {names}")
    return [path for path in found if not only or path.name.startswith(tuple(only))]


def run_notebook(path: Path, parameters: dict[str, Any], out: Path) -> None:
    """Run one notebook with `parameters` in its own folder; the executed copy goes to `out`, also when a cell fails.

    Raises:
        ValueError: the notebook has no such parameter (papermill would only warn).
        RuntimeError: a cell fails; has its number in the executed copy and the last lines of its error.
    """
    import papermill

    known = papermill.inspect_notebook(str(path))
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise ValueError(
            f"{path.name} has no parameter {', '.join(unknown)}; the cell tagged `parameters` has: "
            f"{', '.join(known) or 'none (is the tag missing?)'}"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = {"cwd": str(path.parent), "kernel_name": "python3", "progress_bar": False}
    settings["extra_arguments"] = ["--log-level=50"]  # the kernel's chatter; what cells say comes through anyway
    try:
        papermill.execute_notebook(str(path), str(out), parameters, **settings)
    except papermill.PapermillExecutionError as error:
        lines = ESCAPES.sub("", "\n".join(error.traceback)).splitlines()[-12:]
        raise RuntimeError("\n".join([f"cell {error.exec_count} of {path.name}: {error.ename}", *lines])) from error
    finally:
        if out.exists():
            _without_bars(out)


def _without_bars(path: Path) -> None:
    import nbformat

    book = nbformat.read(path, as_version=4)
    drop_bars(book)
    write_bytes_atomically(path, nbformat.writes(book).encode())


def drop_bars(book: Mapping) -> None:
    """Take the progress bars out of an executed notebook: each of their states is a line there. Warnings stay."""
    for cell in (cell for cell in book.cells if cell.cell_type == "code"):
        streams = [o for o in cell.outputs if o.output_type == "stream"]
        parts = [re.split(r"[\r\n]+", output.text) for output in streams]
        if not any(BAR.search(part) for some in parts for part in some):
            continue  # as it was printed
        for output, some in zip(streams, parts, strict=True):
            output.text = "".join(f"{part}\n" for part in some if part.strip() and not BAR.search(part))
        cell.outputs = [o for o in cell.outputs if o.output_type != "stream" or o.text]


def reproduce(
    profile: str = "quick",
    only: Sequence[str] = (),
    data: Mapping[str, Path | None] | None = None,
) -> int:
    """Run the notebooks, as many at a time as there are cores, and go on after one that fails.

    Writes build/figures.html and build/reproduction.html. Those of `ALONE` run last, one at a time.

    Args:
        data: folders of data sets, {"nyu": ..., "icvl": ...}, for the notebooks that have such a parameter; None: not there.

    Returns:
        The exit status: 0; 1 if a notebook failed; 128 and the signal's number if one stopped the run, 130 for Ctrl-C.
    """
    from .page import write_page
    from .reproduction import write_reproduction

    require_one_of(PROFILES, profile=profile)
    folders = _folders(data or {})
    notebooks = find_notebooks(only)
    if not notebooks:
        print(f"no notebooks in {paths.NOTEBOOKS}: nothing to do")
        return 0
    outcomes, stopped = {}, None
    with _without_profile_variable(), tqdm(total=len(notebooks), unit="notebook", disable=None) as bar:
        try:
            for done in _outcomes(notebooks, profile, folders):
                outcomes[done.notebook] = done
                bar.update()
                state = "ok" if done.error is None else "FAILED"
                where = f"[{len(outcomes)}/{len(notebooks)}] {done.notebook}"
                bar.write(f"{where}: {state}, {done.seconds / 60:.1f} min", file=sys.stderr)
                if done.error:
                    bar.write(done.error + "\n", file=sys.stderr)
        except KeyboardInterrupt:
            stopped, how = stopped_by()
            bar.write(f"stopped by {how} after {len(outcomes)} of {len(notebooks)} notebooks", file=sys.stderr)
    page = write_page(paths.figures(profile), paths.BUILD / "figures.html")
    _print_table(outcomes, notebooks)
    print(f"figures of all runs on one page: {page}" if page else "no figures yet")
    print(f"the paper's statements, and what became of them: {write_reproduction(paths.BUILD / 'reproduction.html')}")
    failed = [outcome.notebook for outcome in outcomes.values() if outcome.error]
    if failed:
        print(f"FAILED: {', '.join(sorted(failed))}; executed copies up to the failing cell in {paths.EXECUTED}")
    return stopped or int(bool(failed))


def _folders(data: Mapping[str, Path | None]) -> dict[str, str]:
    folders = {name: str(Path(place).resolve()) for name, place in data.items() if place is not None}
    for name, place in folders.items():
        if not Path(place).is_dir():
            raise FileNotFoundError(f"{name}: {place} is no folder; name the one that holds the data set")
    return folders


def _outcomes(notebooks: Sequence[Path], profile: str, folders: Mapping[str, str]) -> Iterator[Outcome]:
    """What becomes of each notebook, as they end."""

    def rank(path: Path) -> int:
        number = path.stem[:2]
        return LONGEST.index(number) if number in LONGEST else len(LONGEST)

    alone = [path for path in notebooks if path.stem[:2] in ALONE]
    others = sorted((path for path in notebooks if path not in alone), key=rank)
    figures = paths.figures(profile)
    for group, most in ((others, min(MOST, cores_allowed())), (alone, 1)):
        calls = [(path, {"profile": profile}, dict(folders), paths.EXECUTED / path.name) for path in group]
        before = {result: result.stat().st_mtime_ns for result in figures.glob("*.json")}
        for number, result in side_by_side(run_and_time, calls, max(1, min(most, len(group))), PRELOAD):
            path = group[number]
            seconds, error = (0.0, str(result)) if isinstance(result, Lost) else result
            own = figures.glob(f"{path.stem[:2]}_*.json")
            written = sorted(file.stem for file in own if before.get(file) != file.stat().st_mtime_ns)
            yield Outcome(path.stem, seconds, tuple(written), error)


def run_and_time(
    path: Path, parameters: Mapping[str, Any], folders: Mapping[str, str], out: Path
) -> tuple[float, str | None]:
    """Run a notebook with those of the `folders` that it has a parameter for: the seconds, and its error if there is one."""
    started, error = time.perf_counter(), None
    try:
        run_notebook(path, dict(parameters) | _wanted(path, folders), out)
    except Exception as failure:  # whatever it was: say it, and go on with the next notebook
        error = str(failure) or repr(failure)
    return time.perf_counter() - started, error


def _wanted(path: Path, folders: Mapping[str, str]) -> dict[str, str]:
    """Of the data sets' folders those that the notebook has a parameter for."""
    if not folders:
        return {}
    import papermill

    return {name: folders[name] for name in folders if name in papermill.inspect_notebook(str(path))}


@contextmanager
def _without_profile_variable():
    """The profile asked for counts, whatever HRLIB_PROFILE is in the caller's shell."""
    value = os.environ.pop(PROFILE_VARIABLE, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[PROFILE_VARIABLE] = value


def _print_table(done: Mapping[str, Outcome], notebooks: list[Path]) -> None:
    width = max(len(path.stem) for path in notebooks)
    print(f"{'notebook':{width}}  {'seconds':>7}  figures written")
    for name in (path.stem for path in notebooks):
        seconds, state = "-", "not run to the end"
        if name in done:
            seconds, state = f"{done[name].seconds:.0f}", ", ".join(done[name].figures) or "-"
            state += "  FAILED" if done[name].error else ""
        print(f"{name:{width}}  {seconds:>7}  {state}")
