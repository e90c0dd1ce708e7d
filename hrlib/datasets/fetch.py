"""Where a data set lies on this computer, and `hrlib fetch`, which gets the public ones.

The registry names each data set's source and licence, and for every file its address, size and SHA-256, uncompressed; tables
are kept compressed. Large archives, and data sets behind a form, are listed with their page and what to unpack where.
"""

import gzip
import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pooch

from ..support import paths
from ..support.checks import require_one_of
from ..support.files import read_whole, unzipped, write_bytes_atomically
from ..support.progress import tqdm

PATIENCE_S = 60.0  # without a word from the server


@dataclass(frozen=True)
class Entry:
    """A file of a data set."""

    path: str  # below the folder of the data sets
    url: str
    sha256: str  # before compression
    bytes: int  # before compression

    def __post_init__(self):
        place = PurePosixPath(self.path)
        if not isinstance(self.bytes, int) or not isinstance(self.sha256, str) or not isinstance(self.url, str):
            raise TypeError(f"the entry of {self.path} lacks size, SHA-256 or address")
        if place.is_absolute() or ".." in place.parts or "\\" in self.path or ":" in self.path:
            raise ValueError(f"the registry puts a file at {self.path!r}, outside of the folder; restore the registry")


@dataclass(frozen=True)
class DataSet:
    """A data set of the registry."""

    name: str
    citation: str
    licence: str
    bytes: int
    files: tuple[Entry, ...] = ()  # what can be fetched
    page: str | None = None  # otherwise where to get it
    put: str | None = None  # and what to unpack


def registry() -> dict[str, DataSet]:
    """Every known data set, by name. Raises ValueError for a damaged file."""
    known, file = {}, paths.REGISTRY
    try:
        for name, entry in json.loads(read_whole(file)).items():
            files = tuple(Entry(**one) for one in entry.get("files", ()))
            known[name] = DataSet(name, **{"bytes": sum(one.bytes for one in files)} | entry | {"files": files})
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no registry of data sets ({error}); restore it, or install hrlib again") from error
    return known


def dataset_folder(name: str) -> Path:
    """The folder of a data set: below the folder that HRLIB_DATA_MIRROR names, or where `hrlib fetch` put it.

    Raises:
        ValueError: no data set of the registry.
        FileNotFoundError: it is in neither place; the message says what it is and what to do.
    """
    known, variable = registry(), paths.MIRROR_VARIABLE
    require_one_of(known, dataset=name)
    root = os.environ.get(variable)
    for folder in ([Path(root) / name] if root else []) + [paths.FETCHED / name]:
        if folder.is_dir():
            return folder
    looked = f"{Path(root) / name} is no folder" if root else f"{variable} is not set"
    how = (
        f"`hrlib fetch {name}` has not fetched it" if known[name].files else f"it comes by hand from {known[name].page}"
    )
    raise FileNotFoundError(
        f"data set {name} not found: {looked}, and {how}. Set {variable} to the folder "
        f"that holds {name}/. It is: {known[name].citation}; licence: {known[name].licence}."
    )


def fetch(name: str, out: Path | None = None, progress: bool = True, known: dict[str, DataSet] | None = None) -> Path:
    """Put a data set's files below a folder, each checked by its SHA-256, and return the data set's own folder.

    A file that is there already, or in the mirror, is not downloaded again. After an error, finished files are kept.

    Args:
        out: the folder, by default data/cache in the repository (without it, the cache folder of this user).
        known: data sets by name, by default those of the registry.
    Raises:
        ValueError: an unknown name, a data set that cannot be fetched (the message says how to get it), or content that
            differs from the registry's.
        OSError: the net or the disk fails.
    """
    known, out = known or registry(), Path(out or paths.FETCHED)
    if name not in known:
        raise ValueError(f"unknown data set {name!r}; there are: {', '.join(known)}")
    data, root = known[name], os.environ.get(paths.MIRROR_VARIABLE)
    if not data.files:
        raise ValueError(
            f"{name} cannot be fetched by a program: get it at {data.page} ({data.bytes / 2**30:.0f} GB), unpack {data.put} "
            f"into a folder {name}, and name that folder, or set {paths.MIRROR_VARIABLE} to the one around it"
        )
    for entry in tqdm(data.files, desc=f"fetch {name}", disable=not progress, unit="file"):
        target = out / entry.path
        if _checked(target, entry) is not None:
            continue
        content = _checked(Path(root) / entry.path, entry) if root else None
        content = _download(entry) if content is None else content
        write_bytes_atomically(target, gzip.compress(content, mtime=0) if target.suffix == ".gz" else content)
    return out / name


def _checked(file: Path, entry: Entry) -> bytes | None:
    """The file's content, uncompressed; None if it is missing or not the registry's."""
    try:
        content = read_whole(file, 2 * entry.bytes + 1024)  # compressed noise is a little larger
        content = unzipped(content, entry.bytes, file) if file.suffix == ".gz" else content
    except (OSError, ValueError):
        return None
    return content if hashlib.sha256(content).hexdigest() == entry.sha256 else None


def _download(entry: Entry) -> bytes:
    """The content of an address, which may not be larger than the registry says."""
    content = _Bounded(entry)
    try:
        pooch.HTTPDownloader(timeout=PATIENCE_S)(entry.url, content, None)
    except OSError as error:
        raise OSError(f"cannot fetch {entry.url}: {error}; what was fetched before is kept, run it again") from error
    if hashlib.sha256(content.getvalue()).hexdigest() != entry.sha256:
        raise ValueError(_changed(entry))
    return content.getvalue()


def _changed(entry: Entry) -> str:
    return (
        f"{entry.url} is not the file of the registry (SHA-256 {entry.sha256[:12]}..., {entry.bytes:,} bytes): it was changed "
        "or cut short; try again, or get it from another place"
    )


class _Bounded(io.BytesIO):
    """Takes the bytes of a file up to the number that the registry names."""

    def __init__(self, entry: Entry):
        super().__init__()
        self._entry = entry

    def write(self, data: bytes) -> int:
        if self.tell() + len(data) > self._entry.bytes:
            raise ValueError(_changed(self._entry))
        return super().write(data)
