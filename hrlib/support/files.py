"""Files: read where they are regular and of a sensible size, written whole or not at all; names that are safe to print."""

import errno
import gzip
import io
import json
import math
import os
import re
import secrets
import socket
import stat
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ModuleNotFoundError:  # Windows, which refuses to remove a file that is open: the lock is not needed there
    fcntl = None

MOST_BYTES = 2**32  # of a file that is read into memory: no frame, model or table comes near it


# -- names ----------------------------------------------------------------------------------------------------------------


def printable(text: object) -> str:
    r"""Text without what would act on a terminal or break a line: such characters and odd bytes become \x1b and the like."""
    return "".join(c if c.isprintable() or c == " " else _escaped(c) for c in str(text))


def _escaped(c: str) -> str:
    if unicodedata.category(c) == "Cs":  # a byte of a file's name that is no UTF-8
        return f"\\x{ord(c) & 0xFF:02x}"
    return c.encode("unicode_escape").decode("ascii")


# -- reading --------------------------------------------------------------------------------------------------------------


def read_whole(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file, or of one that a link leads to.

    Args:
        path: the file.
        most: bytes it may have.

    Raises:
        OSError: it cannot be read.
        ValueError: it is a folder, pipe or device, on which reading may wait for ever, or too large.
    """
    # a pipe without a writer would block here
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
        status = os.fstat(file.fileno())
        check_regular(path, status.st_mode)
        content = file.read(most + 1) if status.st_size <= most else None
    if content is None or len(content) > most:
        raise ValueError(f"{path} has more than {most:,} bytes, which nothing of its kind needs; remove it")
    return content


def check_regular(path: str | Path, mode: int | None = None) -> None:
    """Raise ValueError for a folder, pipe or device; `mode` is known where the file is open."""
    if mode is None and os.path.islink(path) and not os.path.exists(path):
        raise FileNotFoundError(f"{path} is a link to {os.readlink(path)}, which is missing; mend or remove it")
    mode = os.stat(path).st_mode if mode is None else mode
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is no regular file but a {_kind(mode)}; name a file")


def unzipped(content: bytes, most: int, name: object = "the file") -> bytes:
    """Gzipped bytes, unpacked.

    Args:
        content: gzipped.
        most: bytes that may come of it.
        name: of the file, for messages.

    Raises:
        ValueError: damaged, or larger than `most`.
    """
    try:
        with gzip.open(io.BytesIO(content)) as file:
            plain_bytes = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} is no whole gzip file ({error}); copy or fetch it again") from error
    if len(plain_bytes) > most:
        raise ValueError(f"{name} unpacks to more than {most:,} bytes, which nothing of its kind needs; remove it")
    return plain_bytes


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


# -- writing --------------------------------------------------------------------------------------------------------------


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

    Folders are made, links are followed, permissions are kept. The content goes to temporary files beside them, at
    `file.name`; those that killed processes left there are removed. Raises OSError, which names the file, where one cannot
    be opened or finished, or is a folder, device or pipe.
    """
    files, targets, partial = {}, {}, {}
    try:
        for path in paths:
            with naming(path):
                mode = _writable(path)
                targets[path] = target = Path(os.path.realpath(path))
                target.parent.mkdir(parents=True, exist_ok=True)
                remove_leftovers(target)
                files[path], partial[path] = _temporary(target, mode)
        yield list(files.values())
        for path, file in files.items():
            with naming(path):
                file.flush()
                os.fsync(file.fileno())
                if fcntl is None:  # Windows replaces no open file
                    file.close()
        for path in files:
            with naming(path):
                os.replace(partial[path], targets[path])
    finally:
        for file in files.values():
            with suppress(OSError):  # on a full disk the rest of the buffer cannot be written: it is given up
                file.close()
        for temporary in partial.values():
            temporary.unlink(missing_ok=True)


def require_own(path: str | Path, begins: bytes, kind: str) -> None:
    """Refuse an output that would replace what this program did not write: a model, a camera's file, anything typed by mistake.

    Args:
        path: where the output goes; nothing, or an empty file, may be there.
        begins: the first bytes of what may be replaced.
        kind: what such files are called.

    Raises:
        ValueError: something else is there.
        OSError: it is no regular file, or cannot be read.
    """
    path = Path(path)
    with naming(path):
        if _writable(path) is None:
            return
        with open(path, "rb") as file:
            found = file.read(len(begins))
    if found and found != begins:
        raise ValueError(
            f"{path} holds something else than {kind}, which would be lost; name another file, or remove it"
        )


def _writable(path: Path) -> int | None:
    """The permissions of the file there; None without one. Raises OSError for what is no regular file."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, f"that is a {_kind(mode)}; name a file")
    return stat.S_IMODE(mode)


def _temporary(target: Path, mode: int | None) -> tuple[BinaryIO, Path]:
    """A new file beside `target`, locked until it is closed or this process dies.

    Host and number of the process do not make its name unique (two containers may share both); the random part does.
    """
    host = re.sub(r"[^\w-]", "", socket.gethostname())[:20]
    while True:
        name = f"{_stem(target)}{host}-{os.getpid()}-{secrets.token_hex(6)}.partial"
        file = open(path := target.with_name(name), "xb")
        lock(file.fileno())
        if fcntl is None or os.fstat(file.fileno()).st_nlink:  # else another process took it for a leftover
            break
        file.close()
    if mode is not None:
        os.chmod(path, mode)
    return file, path


def _stem(target: Path) -> str:
    """How the names of all temporary files of `target` begin; shorter than what file systems allow."""
    return f".{target.name[:100]}."


def remove_leftovers(target: Path) -> None:
    """Remove the temporary files of `target` whose process died: nobody holds their lock."""
    with suppress(OSError):
        for entry in os.scandir(target.parent):
            if entry.name.startswith(_stem(target)) and entry.name.endswith(".partial"):
                _remove_if_unused(entry.path)


def _remove_if_unused(path: str):
    with suppress(OSError):
        if fcntl is None:
            os.unlink(path)
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        finally:
            os.close(descriptor)


def lock(descriptor: int) -> bool:
    """Take the lock of an open file or folder; false where another process has it. Some network drives know no locks."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


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
