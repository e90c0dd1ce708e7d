"""Files, whole or not at all."""

import errno
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any


def write_bytes_atomically(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` (folders are made). On any failure the old file stays as it was."""
    _write_together({Path(path): data})


def _write_together(files: Mapping[Path, bytes]) -> None:
    """All files get their new content, or (no space, no permission) all keep their old one."""
    partial = {path: path.with_name(f".{path.name}.{os.getpid()}.partial") for path in files}
    try:
        for path, data in files.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(partial[path], "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend that"
                raise OSError(
                    error.errno,
                    f"cannot write {path} ({len(data) / 1e6:.1f} MB): {error.strerror}; {remedy} and run it again. "
                    "What was there before is kept",
                ) from error
        for path in files:
            os.replace(partial[path], path)
    finally:
        for temporary in partial.values():
            temporary.unlink(missing_ok=True)


def write_json(path: str | Path, data: Any) -> None:
    """Write `data` (dicts, lists, numbers, strings, dataclasses, numpy and torch values) as JSON, atomically.

    ValueError names the entry that is not finite (JSON has no NaN) or of no such type.
    """
    write_bytes_atomically(path, _json_bytes(_plain(data, Path(path).stem)))


def _json_bytes(plain: Any) -> bytes:
    return (json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _plain(value: Any, name: str) -> Any:
    """`value` in JSON's types; `name` is its address for error messages."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}: results must be finite; leave the entry out or find the cause")
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, f"{name}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, f"{name}[{i}]") for i, entry in enumerate(value)]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value), name)
    if isinstance(value, Path):
        return value.name  # where it lay on this computer is nobody's business
    if hasattr(value, "tolist"):  # numpy and torch
        return _plain(value.tolist(), name)
    raise ValueError(f"{name} must be a number, string, list, dict or dataclass, got {type(value).__name__}")
