"""Get the public files of `data/registry.json`: from the mirror where it has them, else from where their authors put them.

The registry gives every file's address, size and SHA-256, of the file as its authors ship it; tables are kept compressed.
Data sets that come as large archives, or only after a form, are listed with their page and what to unpack where.
"""

import gzip
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pooch
from tqdm import tqdm

from ..support import paths
from ..support.files import write_bytes_atomically
from .mirror import ORIGINS, VARIABLE

REGISTRY = paths.DATA / "registry.json"


@dataclass(frozen=True)
class Entry:
    """One file: its path below the folder of the data, address, and SHA-256 and size before compression."""

    path: str
    url: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class DataSet:
    """A data set of the registry. files: what can be fetched; page, put: else where it is, and what to put where."""

    name: str
    citation: str
    licence: str
    files: tuple[Entry, ...]
    page: str | None
    put: str | None
    bytes: int


def registry(file: Path = REGISTRY) -> dict[str, DataSet]:
    """Every data set that is known, by name."""
    found = {}
    for name, entry in json.loads(file.read_text(encoding="utf-8")).items():
        files = tuple(Entry(**one) for one in entry.get("files", ()))
        origin = ORIGINS.get(name)
        told = (entry.get("citation") or origin.citation, entry.get("licence") or origin.licence)
        size = entry.get("bytes") or sum(one.bytes for one in files)
        found[name] = DataSet(name, *told, files, entry.get("page"), entry.get("put"), size)
    return found


def fetch(name: str, out: Path | None = None, progress: bool = True, known: dict[str, DataSet] | None = None) -> Path:
    """Put a data set's files below `out` (the repository's data/cache by default), each checked by its SHA-256.

    What is there already, or in the mirror, is not downloaded again. Returns the data set's folder. Raises ValueError for
    an unknown name, for a data set that cannot be fetched (the message says how to get it) and for content that is not
    what the registry says; OSError where the net or the disk fails. Files that were finished are kept.
    """
    known, out = known or registry(), Path(out or paths.DATA / "cache")
    if name not in known:
        raise ValueError(f"unknown data set {name!r}; there are: {', '.join(known)}")
    data = known[name]
    if not data.files:
        raise ValueError(
            f"{name} cannot be fetched by a program: get it at {data.page} ({data.bytes / 2**30:.0f} GB), unpack {data.put} "
            f"into a folder {name}, and name that folder, or set {VARIABLE} to the one around it"
        )
    for entry in tqdm(data.files, desc=f"fetch {name}", disable=not progress, unit="file"):
        target = out / entry.path
        if _checked(target, entry) is not None:
            continue
        content = _from_mirror(entry)
        content = _download(entry) if content is None else content
        if target.suffix == ".gz":
            content = gzip.compress(content, mtime=0)
        write_bytes_atomically(target, content)
    return out / name


def _from_mirror(entry: Entry) -> bytes | None:
    root = os.environ.get(VARIABLE)
    return _checked(Path(root) / entry.path, entry) if root else None


def _checked(file: Path, entry: Entry) -> bytes | None:
    """The file's content as its authors ship it, None where it is not there or something else."""
    try:
        content = file.read_bytes()
        content = gzip.decompress(content) if file.suffix == ".gz" else content
    except (OSError, EOFError):
        return None
    return content if hashlib.sha256(content).hexdigest() == entry.sha256 else None


def _download(entry: Entry) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = pooch.retrieve(entry.url, f"sha256:{entry.sha256}", "file", folder, progressbar=False)
        except ValueError as error:  # pooch's word for a wrong hash
            raise ValueError(
                f"{entry.url} is not the file of the registry (SHA-256 {entry.sha256[:12]}...): it was changed or cut "
                f"short; try again, or get it from another place ({error})"
            ) from error
        except OSError as error:
            raise OSError(
                f"cannot fetch {entry.url}: {error}; what was fetched before is kept, run it again"
            ) from error
        return Path(file).read_bytes()
