"""What a benchmark has measured of some users (or data sets), kept beside its result file until a run has all of them."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hrlib.companion.results import content_hash, write_result
from hrlib.support import ground_truth
from hrlib.support.files import write_json
from hrlib.support.paths import ROOT


@dataclass(frozen=True)
class Partial:
    """Rows of stopped runs, and of runs for other users, which may go on only under the same conditions.

    These are the parameters with the recipe, every file that was read (networks among them), and the code: its content and
    not its commit, which says nothing about changed files and changes with every text.
    """

    out: Path  # the result file
    names: str  # the users of this run
    provenance: dict  # of `hrlib.companion.results.provenance`

    @property
    def place(self) -> Path:
        """Where this run keeps its rows."""
        return self.out.with_name(f"{self.out.stem}.{self.names}.partial.json")

    def rows(self, chosen: Iterable[str], everybody: Iterable[str], row: Callable[[str], dict]) -> dict | None:
        """A row of each of `everybody`; None, and words that say so, while there are users that no run has measured.

        `row(name)` measures those of the `chosen` that no run has; each row is kept when it is there.
        """
        rows = self.read()
        for name in chosen:
            if name not in rows:
                rows[name] = row(name)
                self.write(rows)
        if not set(everybody) <= set(rows):
            print(f"kept in {self.place.name}; a run with all of them puts them together")
            return None
        return {name: rows[name] for name in everybody}

    def read(self) -> dict:
        """The rows of all runs under the same conditions, by user. Says which files are of other conditions."""
        rows = {}
        for file, old in self._files().items():
            differs = [key for key, value in self._conditions().items() if old.get(key) != value]
            if differs:
                print(f"{file.name} is of another run ({', '.join(differs)}): not used")
            else:
                rows |= old["rows"]
                ground_truth.merge(old["ground_truth"])
        return rows

    def write(self, rows: dict):
        """Keep the rows of this run so far."""
        write_json(self.place, self._conditions() | {"rows": rows, "ground_truth": ground_truth.record()})

    def finish(self, name: str, metrics: dict, values: dict, profile: str):
        """Write the result file, which has all users; the rows beside it that it was made of go."""
        write_result(self.out, name, metrics, values, self.provenance, profile)
        for file, old in self._files().items():
            if self._conditions().items() <= old.items():
                file.unlink()

    def _conditions(self) -> dict:
        return {key: self.provenance[key] for key in ("parameters", "data_sha256")} | {"code_sha256": code_hash()}

    def _files(self) -> dict[Path, dict]:
        files = sorted(self.out.parent.glob(f"{self.out.stem}.*.partial.json"))
        return {file: json.loads(file.read_text(encoding="utf-8")) for file in files}


def code_hash() -> str:
    """SHA-256 of the library's and the benchmarks' sources."""
    digest = hashlib.sha256()
    for file in sorted(path for folder in ("hrlib", "benchmarks") for path in (ROOT / folder).rglob("*.py")):
        digest.update(f"{file.relative_to(ROOT).as_posix()}\0{content_hash(file)}\n".encode())
    return digest.hexdigest()
