"""Numbers, claims and figures on disk: each figure beside its numbers, and where they came from.

A notebook computes, calls `save_figure` and, last, `assert_claims`. Files are written whole or not at all.
"""

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..support import paths
from ..support.files import _json_bytes, _plain, _write_together

RECORDED_PACKAGES = ("torch", "numba", "numpy", "roma")


@dataclass(frozen=True)
class Claim:
    """One checkable statement. `id`: short and unique, e.g. "fig3.converges"; `paper`: where the paper says it, or "-";
    `target`: what is wanted, in words with the number, e.g. "< 10 mm"; `value`: what was measured; `holds`: whether."""

    id: str
    claim: str
    paper: str
    target: str
    value: Any
    holds: bool

    def verdict(self) -> str:
        """One line about a claim whose value is a number: the value, the target, and whether it holds."""
        return f"{self.id}: {self.value:.3g} (target {self.target}) {'holds' if self.holds else 'FAILS'}"


# ---- files, whole or not at all


# ---- provenance


def provenance(
    parameters: Mapping[str, Any], seed: int | None, data: Mapping[str, str | Path] | None, ground_truth: str
) -> dict:
    """What one needs to get the same numbers again, without anything that identifies the computer or its user.

    parameters: of the run. seed: of its generators, None where nothing is random. data: name -> file or folder that
    was read, recorded as SHA-256. ground_truth: which ground truth was used anywhere, e.g. "none" or "simulated
    joints, for evaluation only". ValueError where that is empty, FileNotFoundError where data is missing.
    """
    if not isinstance(ground_truth, str) or not ground_truth.strip():
        raise ValueError(f'ground_truth must say which ground truth was used anywhere ("none"), got {ground_truth!r}')
    return {
        "ground_truth": ground_truth,
        "parameters": _plain(parameters, "parameters"),
        "seed": seed,
        "data_sha256": {name: content_hash(path) for name, path in (data or {}).items()},
        "commit": _commit(),
        "date_utc": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "versions": {"hrlib": __version__, "python": platform.python_version(), **_package_versions()},
        "platform": {
            "os": f"{platform.system()} {platform.machine()}",
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            **_compute(),
        },
    }


def content_hash(path: str | Path) -> str:
    """SHA-256 of a file; of a folder, over the sorted relative names and hashes of its files. Unchanged files (by size
    and time) are read once per process."""
    path = Path(path)
    if path.is_file():
        return _file_hash(path)
    if not path.is_dir():
        raise FileNotFoundError(f"no file or folder {path} to record; correct `data`")
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{_file_hash(file)}\n".encode())
    return digest.hexdigest()


def _file_hash(path: Path) -> str:
    stat = path.stat()
    return _read_hash(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _read_hash(path: Path, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _commit() -> dict:
    """The checkout's commit, and whether tracked files differ from it (results themselves do not count)."""

    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout

    try:
        sources = ("--", ".", ":!figures", ":!benchmarks/results")
        changed = git("status", "--porcelain", "--untracked-files=no", *sources)
        return {"id": git("rev-parse", "HEAD").strip(), "dirty": bool(changed.strip())}
    except (OSError, subprocess.CalledProcessError):  # no git, or an unpacked archive
        return {"id": "unknown", "dirty": None}


def _package_versions() -> dict[str, str | None]:
    found = {}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _compute() -> dict:
    torch = sys.modules.get("torch")  # a run without torch need not load it to say so
    gpu = torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None
    return {"threads": torch.get_num_threads() if torch else None, "gpu": gpu}


@lru_cache
def cpu_model() -> str:
    try:
        if platform.system() == "Linux":
            lines = Path("/proc/cpuinfo").read_text().splitlines()
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        if platform.system() == "Darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, StopIteration, subprocess.CalledProcessError):
        pass
    return platform.processor() or platform.machine()


# ---- figures and claims


def save_figure(
    figure, name: str, metrics: Mapping[str, Any], claims: Iterable[Claim], provenance: Mapping[str, Any], profile: str
) -> None:
    """Write <name>.png, .svg and .json of a matplotlib figure: figures/, or build/smoke/ in the smoke profile.

    metrics: the numbers that the figure shows, named with their units. provenance: what `provenance()` returned. The
    same figure gives the same bytes. ValueError where a number is not finite or two claims share an id.
    """
    claims = list(claims)
    ids = [claim.id for claim in claims]
    if len(set(ids)) < len(ids):
        raise ValueError(f"claims must have different ids, got {ids}")
    if "ground_truth" not in provenance:
        raise ValueError(
            "provenance must come from hrlib.companion.results.provenance(...): it asks for the ground truth used"
        )
    record = {"metrics": metrics, "claims": claims, "provenance": provenance}
    record = {"name": name, "profile": profile} | {key: _plain(value, key) for key, value in record.items()}
    folder = paths.figures(profile)
    _write_together(
        {
            folder / f"{name}.png": _picture(figure, name, "png"),
            folder / f"{name}.svg": _picture(figure, name, "svg"),
            folder / f"{name}.json": _json_bytes(record),
        }
    )
    print(f"{name}: figure and numbers in {folder.relative_to(paths.ROOT)}/{name}.png, .svg, .json")


def _picture(figure, name: str, kind: str) -> bytes:
    import matplotlib

    buffer = io.BytesIO()
    # 200 dots per inch: a 10 inch figure fills a slide. Salt and no date: same figure, same bytes
    with matplotlib.rc_context({"svg.hashsalt": name}):
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(buffer, format=kind, dpi=200, bbox_inches="tight", metadata=metadata)
    return buffer.getvalue()


def assert_claims(claims: Iterable[Claim], profile: str = "quick") -> None:
    """The last line of a notebook: AssertionError lists each claim that does not hold, with value and target.

    In the smoke profile, which is too short for the claims, they are only printed.
    """
    failed = [claim for claim in claims if not claim.holds]
    if not failed:
        return
    lines = [f"{c.id}: {c.claim}: got {c.value}, wanted {c.target}" for c in failed]
    message = f"{len(failed)} of the claims do not hold:\n  " + "\n  ".join(lines)
    if profile != "smoke":
        raise AssertionError(message)
    print(f"(smoke profile, too short to tell) {message}")


def read_results(*folders: str | Path) -> list[dict]:
    """The results (`{"name", "profile", "metrics", "claims", "provenance"}`) of all *.json in the folders, by name.

    Folders that do not exist count as empty, and *.partial.json, which unfinished benchmarks keep there, as absent.
    ValueError names a file that is no result.
    """
    results = []
    for folder in folders:
        for path in sorted(set(Path(folder).glob("*.json")) - set(Path(folder).glob("*.partial.json"))):
            try:
                result = json.loads(path.read_text(encoding="utf-8"))
                claims = [asdict(Claim(**claim)) for claim in result["claims"]]
                results.append({**result, "name": result.get("name", path.stem), "claims": claims})
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path} is no result file ({error!r}); run what writes it again") from error
    return results


def gather_claims(*folders: str | Path) -> list[dict]:
    """The claims of all result files in the folders, each with `result`: the name of the figure or benchmark."""
    results = read_results(*(folders or (paths.FIGURES, paths.BENCHMARKS)))
    return [{"result": result["name"], **claim} for result in results for claim in result["claims"]]
