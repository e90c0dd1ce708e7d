"""Functions that numba compiles and keeps on disk, wherever this computer lets it, and compiles anew where they are damaged."""

import os
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache, cached_property
from multiprocessing import parent_process
from pathlib import Path
from threading import Lock
from types import FunctionType

import numba
from numba.core.caching import IndexDataCacheFile

MANY_CALLERS = ("omp", "tbb")  # layers of numba's threads that several threads of a program may call at once


def compiled(**options) -> Callable[[Callable], Callable]:
    """A decorator as `numba.njit`, with its options and a cache.

    numba keeps the machine code beside the source, or else in the user's cache folder (NUMBA_CACHE_DIR names another). Where
    neither can be written, a folder of this user's below the system's temporary one is taken, and at last none.
    With parallel=True see `Threaded`.

    A kernel that assigns an array to a part of another one, as in a[:] = b or a[i] = 1, 2, compiles for seconds longer: numba
    brings the text of an error with it. Loops over numbers are as fast and compile at once.
    """

    def decorate(function: Callable) -> Callable:
        return Threaded(function, options) if options.get("parallel") else _compiled(function, options)

    return decorate


def _compiled(function: Callable, options: dict) -> Callable:
    try:
        return _cached(function, options)
    except RuntimeError:  # "cannot cache function: no locator available"
        with suppress(RuntimeError, OSError):
            numba.config.CACHE_DIR = _own_temporary()
            return _cached(function, options)
    return numba.njit(**options)(function)


class Threaded:
    """A kernel in several threads, wherever numba's threads can run; Python calls it, other kernels cannot.

    GNU's OpenMP ends a process that was forked from one that had used it. There the kernel runs in one thread. Without OpenMP,
    numba ends a program of which two threads call kernels at once. There they wait for each other.
    """

    forked, lock = False, Lock()

    def __init__(self, function: Callable, options: dict):
        self._function, self._options = function, options
        self._threaded = _compiled(function, options)

    def __call__(self, *arguments: object) -> object:
        if Threaded.forked:
            return self._alone(*arguments)
        if _layer() in MANY_CALLERS:
            return self._threaded(*arguments)
        with Threaded.lock:
            return self._threaded(*arguments)

    @cached_property
    def _alone(self) -> Callable:
        """The same in one thread, under another name: numba's cache tells functions apart by theirs."""
        own = self._function
        function = FunctionType(
            own.__code__, own.__globals__, f"{own.__name__}_alone", own.__defaults__, own.__closure__
        )
        function.__qualname__ = f"{own.__qualname__}_alone"
        return _compiled(function, {name: value for name, value in self._options.items() if name != "parallel"})

    @property
    def signatures(self) -> list:
        """Of the arguments so far."""
        return self._threaded.signatures


def _layer() -> str | None:
    """What numba's threads are made of; None before the first kernel."""
    try:
        return numba.threading_layer()
    except ValueError:
        return None


def _after_fork() -> None:
    if "torch" in sys.modules:  # its threads are not in a forked process: what waits for them waits for ever
        sys.modules["torch"].set_num_threads(1)
    Threaded.lock = Lock()
    Threaded.forked = Threaded.forked or _layer() == "omp"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _cached(function: Callable, options: dict) -> Callable:
    made = numba.njit(cache=True, no_cfunc_wrapper=True, **options)(function)  # no C code calls kernels
    made._cache._cache_file.__class__ = _Forgiving
    return made


class _Forgiving(IndexDataCacheFile):
    """A cache that is only a cache: damaged files are compiled anew, and what cannot be kept is not."""

    def load(self, key):
        try:
            kept = super().load(key)
        except Exception:  # pickle passes on whatever it stumbles over
            with suppress(OSError):
                self.flush()
            kept = None
        if kept is None:
            _tell()
        return kept

    def save(self, key, data):
        with suppress(Exception):  # a full disk, or the damaged index again
            super().save(key, data)


@cache
def _tell() -> None:
    """Say once why the first call takes so long: to who sits at a terminal, and not from each of several processes."""
    if sys.stderr.isatty() and parent_process() is None:
        print("hrlib: compiling for this computer, once; some seconds", file=sys.stderr, flush=True)


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
