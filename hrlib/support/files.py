"""Files, whole or not at all."""

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Around what writes `path`: an OSError inside is raised again with the file's name and the remedy."""
    try:
        yield
    except OSError as error:
        remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend that"
        text = (
            f"cannot write {path}: {error.strerror or error}; {remedy} and run it again. What was there before is kept"
        )
        raise OSError(error.errno, text) from error


@contextmanager
def whole_files(*paths: Path) -> Iterator[list[BinaryIO]]:
    """Open files, in binary, that all get their new content when the block ends; after any error all keep their old one.

    Folders are made. Raises OSError, which names the file, where one cannot be opened or finished.
    """
    partial = {path: path.with_name(f".{path.name}.{os.getpid()}.partial") for path in paths}
    files = {}
    try:
        for path in paths:
            with naming(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "that is a folder; name a file in it")
                files[path] = open(partial[path], "wb")
        yield list(files.values())
        for path, file in files.items():
            with naming(path):
                file.flush()
                os.fsync(file.fileno())
                file.close()
        for path in paths:
            with naming(path):
                os.replace(partial[path], path)
    finally:
        for file in files.values():
            with suppress(OSError):  # on a full disk the rest of the buffer cannot be written: it is given up
                file.close()
        for temporary in partial.values():
            with suppress(NotADirectoryError):  # of a path below a file
                temporary.unlink(missing_ok=True)


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write all files, or (no space, no permission) none: then all keep their old content."""
    with whole_files(*files) as opened:
        for (path, data), file in zip(files.items(), opened, strict=True):
            with naming(path):
                file.write(data)


def write_bytes_atomically(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` (folders are made). On any failure the old file stays as it was."""
    write_together({Path(path): data})


def write_json(path: str | Path, data: Any) -> None:
    """Write `data` (of the types that `plain` takes) as JSON, atomically. Raises the ValueError of `plain`."""
    write_bytes_atomically(path, json_bytes(plain(data, Path(path).stem)))


def json_bytes(data: Any) -> bytes:
    """JSON text of plain values, as all files of this project have it."""
    return (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def plain(value: Any, name: str) -> Any:
    """Dicts, lists, numbers, strings, dataclasses, numpy and torch values in JSON's own types; of a path only its name.

    Args:
        value: what to convert.
        name: its address in the file, for error messages.

    Raises:
        ValueError: names the entry that is not finite (JSON has no NaN) or of another type.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}: results must be finite; leave the entry out or find the cause")
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(entry, f"{name}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry, f"{name}[{i}]") for i, entry in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value), name)
    if isinstance(value, Path):
        return value.name  # where it lay on this computer is nobody's business
    if hasattr(value, "tolist"):  # numpy and torch
        return plain(value.tolist(), name)
    raise ValueError(f"{name} must be a number, string, list, dict or dataclass, got {type(value).__name__}")
