"""Numbers, claims and figures on disk: each figure beside its numbers, and where they came from.

A notebook has one `Results`: it saves figures with their numbers and, last, checks what is claimed of them. A benchmark calls
`write_result`. What is claimed of the values stands in `claims.toml`. Files are written whole or not at all.
"""

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from PIL import Image, ImageColor

from .. import __version__
from ..support import ground_truth, paths
from ..support.files import json_bytes, plain, write_bytes_atomically, write_json, write_together
from . import profiles
from .captions import caption
from .claims import assert_claims, read_claims, records, tell

RECORD = {"id", "claim", "paper", "target", "value", "holds"}  # of a claim in a result file
RECORDED_PACKAGES = ("torch", "numba", "numpy", "roma")
DOTS_PER_INCH = 200  # a figure 10 inches wide fills a slide
MOST_BYTES = 300_000  # of a picture: a clone downloads every version of every figure
SMALLER = 0.95  # at most this share of a side is left in a step towards `MOST_BYTES`: each step tells
LOOKS_THE_SAME = 0.75  # of 255: up to this mean difference a picture in 256 colours looks like the original


# ---- provenance


def provenance(
    parameters: Mapping[str, Any],
    seed: int | Mapping[str, int] | None,
    data: Mapping[str, str | Path] | None,
) -> dict[str, Any]:
    """What one needs to get the same numbers again, without anything that identifies the computer or its user.

    Args:
        parameters: of the run.
        seed: of its generators; None if nothing is random.
        data: name -> file or folder that was read; recorded as SHA-256.

    Raises:
        FileNotFoundError: data is missing.
    """
    torch = sys.modules.get("torch")  # a run without torch need not load it to say so
    return {
        "ground_truth": ground_truth.record(),  # so far; a result file is written with what was read until then
        "parameters": plain(parameters, "parameters"),
        "seed": seed,
        "data_sha256": {name: content_hash(path) for name, path in (data or {}).items()},
        "commit": _commit(),
        "date_utc": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "versions": {"hrlib": __version__, "python": platform.python_version()}
        | {name: version(name) for name in RECORDED_PACKAGES},
        "platform": {
            "os": f"{platform.system()} {platform.machine()}",
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads() if torch else None,
            "gpu": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None,
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


@lru_cache
def cpu_model() -> str:
    """The processor's name, as the operating system has it."""
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


@runtime_checkable
class Source(Protocol):
    """What numbers rest on, e.g. `example_frames.Examples`: the seed of its generators, and the files that were read."""

    seed: Any
    data: Mapping[str, Path]


class Only(NamedTuple):
    """A source beside which nothing else was read: neither the notebook's seed nor its files count."""

    data: Mapping[str, Path] = {}
    seed: Any = None


class Results:
    """What a notebook leaves: figures, each with its numbers and their provenance, and what is claimed of them.

    Args:
        profile: the notebook's parameter; the environment's HRLIB_PROFILE comes first.
        files: name -> file, of what every figure rests on.
        seed: of the notebook's generators; None if nothing is random.

    Raises:
        ValueError: there is no such profile.
    """

    def __init__(self, profile: str, files: Mapping[str, Path] = {}, seed: Any = None):
        self.profile, self.files, self._seed = profiles.profile(profile), dict(files), seed
        self._values: dict[str, Any] = {}

    def pick(self, *, smoke: Any, quick: Any, full: Any) -> Any:
        """The setting that belongs to the profile."""
        return profiles.pick(self.profile, smoke=smoke, quick=quick, full=full)

    def save(
        self,
        figure,
        name: str,
        metrics: Mapping[str, Any],
        claims: Mapping[str, Any] = {},
        of: Source | Only | None = None,
        **parameters: Any,
    ) -> None:
        """`save_figure` with its provenance.

        Args:
            metrics: the numbers that the figure shows, named with their units.
            claims: values of the claims that `claims.toml` has of this figure, by id.
            of: the frames that it shows; their seed and files are recorded beside the notebook's, those of an `Only` alone.
            parameters: of the run, for the record.
        """
        seed = self._seed if of is None else of.seed
        files = {} if isinstance(of, Only) else self.files
        made = provenance(parameters, seed, files | dict(of.data if of else {}))
        save_figure(figure, name, metrics, claims, made, self.profile)
        self._values |= claims

    def check(self) -> None:
        """Print the claims; AssertionError where one differs from what is expected (the smoke profile only prints)."""
        assert_claims(self._values, self.profile)


def save_figure(
    figure,
    name: str,
    metrics: Mapping[str, Any],
    values: Mapping[str, Any],
    provenance: Mapping[str, Any],
    profile: str,
) -> None:
    """Write <name>.png and <name>.json of a matplotlib figure to figures/, or to build/smoke/ in the smoke profile.

    The same figure gives the same bytes.

    Args:
        metrics: the numbers that the figure shows, named with their units.
        values: of the claims that `claims.toml` has of this figure, by id.
        provenance: what `provenance()` returned.

    Raises:
        ValueError: a number is not finite, nobody asked for one of the values, `captions.toml` has no caption, or the figure is
            not in the style of `hrlib.drawing.style`.
    """
    record = _record(name, metrics, values, provenance, profile)
    record["caption"] = caption(record)
    folder = paths.figures(profile)
    write_together({folder / f"{name}.png": picture_of(figure), folder / f"{name}.json": json_bytes(record)})
    print(f"{name}: figure and numbers in {folder.relative_to(paths.ROOT)}/{name}.png, .json")


def picture_of(figure) -> bytes:
    """A matplotlib figure as the PNG that is committed. Raises ValueError: see `save_figure`."""
    from ..drawing.style import box_of  # matplotlib: not for who only reads results

    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=DOTS_PER_INCH, bbox_inches=box_of(figure, DOTS_PER_INCH))
    return small_png(Image.open(picture))


def write_result(
    file: Path,
    name: str,
    metrics: Mapping[str, Any],
    values: Mapping[str, Any],
    provenance: Mapping[str, Any],
    profile: str,
) -> list[str]:
    """Write a benchmark's result and print its claims; what differs from what is expected of them, a line each.

    Args:
        file: to write; arguments and errors else as those of `save_figure`.
    """
    write_bytes_atomically(file, json_bytes(_record(name, metrics, values, provenance, profile)))
    problems = tell(values)
    print(f"written to {file.name} in {file.parent.name}/")
    return problems


def _record(
    name: str, metrics: Mapping[str, Any], values: Mapping[str, Any], provenance: Mapping[str, Any], profile: str
) -> dict[str, Any]:
    if "ground_truth" not in provenance:
        raise ValueError(
            "provenance must come from hrlib.companion.results.provenance(...): it records the ground truth"
        )
    provenance = {**provenance, "ground_truth": ground_truth.record()}
    record = {"name": name, "profile": profile, "metrics": plain(metrics, "metrics")}
    return record | {"claims": records(values, name), "provenance": plain(provenance, "provenance")}


def small_png(picture: Image.Image) -> bytes:
    """The picture as a PNG of at most `MOST_BYTES`: in 256 colours where that looks the same, reduced if need be."""
    picture = picture.convert("RGB")
    while True:
        palette = _with_palette(picture)
        difference = np.abs(np.asarray(palette.convert("RGB"), np.int16) - np.asarray(picture, np.int16))
        buffer = io.BytesIO()
        (palette if difference.mean() <= LOOKS_THE_SAME else picture).save(buffer, "png", optimize=True)
        if buffer.tell() <= MOST_BYTES:
            return buffer.getvalue()
        share = min(SMALLER, (MOST_BYTES / buffer.tell()) ** 0.5)  # as if bytes went with the pixels
        picture = picture.resize([round(share * side) for side in picture.size], Image.Resampling.LANCZOS)


def _with_palette(picture: Image.Image) -> Image.Image:
    """The picture in 256 colours: a median cut, and the colours of thin lines and letters, which it would merge."""
    from scipy.spatial import cKDTree

    from ..drawing.style import FINGER_COLOURS, GOOD, INK, MUTED  # matplotlib: not for who only reads results

    kept = [ImageColor.getrgb(colour) for colour in (INK, GOOD, MUTED, *FINGER_COLOURS, "white", "black")]
    cut = picture.quantize(256 - len(kept), Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette = np.concatenate([np.reshape(cut.getpalette(), (-1, 3))[: 256 - len(kept)], kept])
    pixels = np.asarray(picture).astype(np.int32) @ [1 << 16, 1 << 8, 1]
    colours, where = np.unique(pixels, return_inverse=True)
    channels = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1)
    nearest = cKDTree(palette).query(channels)[1].astype(np.uint8)  # pillow's own search is off by up to 4 a channel
    result = Image.fromarray(nearest[where.reshape(pixels.shape)], "L")
    result.putpalette(palette.astype(np.uint8).ravel().tolist())
    return result


def shrink(path: Path) -> None:
    """Write a PNG again as `small_png` does, unless it would get no smaller."""
    data = small_png(Image.open(path))
    if len(data) < path.stat().st_size:
        write_bytes_atomically(path, data)


def read_table(path: str | Path) -> dict[str, Any]:
    """A result file whose numbers are drawn or compared: the ground truth that it rests on counts as read here, too.

    Raises:
        FileNotFoundError, ValueError: it is missing, or no result file.
    """
    path = Path(path)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        read = table["provenance"]["ground_truth"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no result file ({error!r}); run what writes it again") from error
    # a result from before the record was kept names its truth in words
    ground_truth.merge(read if isinstance(read, dict) else {f"as {path.name} says: {read}": []})
    return table


def benchmark_of(name: str, model: Path) -> dict[str, Any] | None:
    """The metrics of a benchmark; None, and a line that says what to run, where there are none of this base model."""
    file = paths.BENCHMARKS / f"{name}.json"
    result = read_table(file) if file.exists() else None
    if result and result["provenance"]["data_sha256"].get("base model") == content_hash(model):
        return result["metrics"]
    print(f"{file.name} is {'of another base model' if result else 'not there'}: run benchmarks/bench_{name}.py")
    return None


def require_alike(tables: Mapping[str, Mapping], but: Iterable[str] = ()) -> None:
    """Check that results which are compared differ in nothing but the parameters `but`.

    Args:
        tables: result files, by name: their parameters, seeds and the files that they read must be the same.
        but: the parameters that the comparison is about, at any depth, by name.

    Raises:
        ValueError: they differ in more; names what, and both values.
    """
    apart = set(but)
    (first, one), *others = ((name, _conditions(table["provenance"])) for name, table in tables.items())
    for name, other in others:
        keys = [key for key in sorted(one | other) if not apart & set(key.split("."))]
        differs = [f"{key}: {one.get(key)!r} and {other.get(key)!r}" for key in keys if one.get(key) != other.get(key)]
        if differs:
            raise ValueError(
                f"{first} and {name} cannot be compared, they differ in {'; '.join(differs)}: run one again"
            )


def _conditions(made: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters, seed and data of a run, flat: {"parameters.recipe.epochs": 10, ...}."""
    flat, todo = {}, [(key, made[key]) for key in ("parameters", "seed", "data_sha256")]
    while todo:
        name, value = todo.pop()
        if isinstance(value, Mapping):
            todo += [(f"{name}.{key}", part) for key, part in value.items()]
        else:
            flat[name] = value
    return flat


def _result_files(folder: str | Path) -> list[Path]:
    return sorted(set(Path(folder).glob("*.json")) - set(Path(folder).glob("*.partial.json")))


def read_results(*folders: str | Path) -> list[dict[str, Any]]:
    """The results in the folders' *.json, by name, each `{"name", "profile", "metrics", "claims", "provenance"}`.

    Folders that do not exist count as empty. Unfinished benchmarks (*.partial.json) are skipped.

    Raises:
        ValueError: a file is no result; names it.
    """
    results = []
    for folder in folders:
        for path in _result_files(folder):
            try:
                result = json.loads(path.read_text(encoding="utf-8"))
                if any(set(claim) != RECORD for claim in result["claims"]):
                    raise KeyError(f"a claim has {sorted(RECORD)}")
                results.append({**result, "name": result.get("name", path.stem)})
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path} is no result file ({error!r}); run what writes it again") from error
    return results


def renew_claims(*folders: str | Path) -> None:
    """Write the claims in all result files of the folders anew, and captions where there is a picture; values stay.

    Values of retired claims go. Raises the ValueError of `records` of a value that nobody asked for.
    """
    known = read_claims()
    for folder in folders:
        for path in _result_files(folder):
            result = json.loads(path.read_text(encoding="utf-8"))
            values = {row["id"]: row["value"] for row in result["claims"] if row["id"] not in known.retired}
            made = records(values, result.get("name", path.stem), known)
            new = result | {"claims": made}
            if path.with_suffix(".png").exists():
                new["caption"] = caption(result)
            if new != result:
                write_json(path, new)
