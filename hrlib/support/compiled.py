"""Functions that numba compiles and keeps on disk, wherever this computer lets it, and compiles anew where they are damaged."""

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numba
from numba.core.caching import IndexDataCacheFile


def compiled(**options) -> Callable[[Callable], Callable]:
    """A decorator as `numba.njit`, with its options and a cache.

    numba keeps the machine code beside the source, or else in the user's cache folder (NUMBA_CACHE_DIR names another). Where
    neither can be written, a folder of this user's below the system's temporary one is taken, and at last none.
    """

    def decorate(function: Callable) -> Callable:
        try:
            return _cached(function, options)
        except RuntimeError:  # "cannot cache function: no locator available"
            with suppress(RuntimeError, OSError):
                numba.config.CACHE_DIR = _own_temporary()
                return _cached(function, options)
        return numba.njit(**options)(function)

    return decorate


def _cached(function: Callable, options: dict) -> Callable:
    made = numba.njit(cache=True, **options)(function)
    made._cache._cache_file.__class__ = _Forgiving
    return made


class _Forgiving(IndexDataCacheFile):
    """A cache that is only a cache: damaged files are compiled anew, and what cannot be kept is not."""

    def load(self, key):
        try:
            return super().load(key)
        except Exception:  # pickle passes on whatever it stumbles over
            with suppress(OSError):
                self.flush()
            return None

    def save(self, key, data):
        with suppress(Exception):  # a full disk, or the damaged index again
            super().save(key, data)


def _own_temporary() -> str:
    """A folder that only this user can write; machine code that another user could exchange is not run."""
    if os.name == "nt":
        raise OSError("no permissions as elsewhere")
    folder = Path(tempfile.gettempdir()) / f"hrlib-numba-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise OSError(f"{folder} is not this user's alone")
    return str(folder)
