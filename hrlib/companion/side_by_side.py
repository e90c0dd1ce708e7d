"""Calls side by side, each in a process of its own that has its share of the cores, and that Ctrl-C stops."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from ..support.stops import end_with_parent

MOST = 4  # processes: each may take 2 GB, and the longest notebook takes a quarter of the time of all
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PATIENCE_S = 20  # for a process that was asked to stop; a notebook's kernel needs some seconds


@dataclass(frozen=True)
class Lost:
    """The result of a process that ended without one."""

    status: int  # minus the signal that killed it

    def __str__(self) -> str:
        why = f"signal {-self.status}, maybe for want of memory" if self.status < 0 else f"status {self.status}"
        return f"its process ended by {why}; OMP_NUM_THREADS=1 runs one notebook at a time"


def cores_allowed() -> int:
    """How many threads this program may keep busy: the cores, or OMP_NUM_THREADS. Torch says the same, but takes seconds."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if wanted.isdigit() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def side_by_side(
    function: Callable, calls: Sequence[tuple], at_once: int, preload: Sequence[str] = ()
) -> Iterator[tuple[int, Any]]:
    """Call `function` with the arguments of each call; yield a call's number and result when it ends.

    Args:
        function: a function of a module; like its arguments and results, it is pickled.
        calls: the arguments of each call; they begin in this order.
        at_once: so many run at a time. Each has its share of the threads, unless the environment sets them.
        preload: modules that the function imports: one process imports them for all.

    Yields:
        Number and result of a call; a result is `Lost` where the process ended without one. When the loop over them is left
        early, or by Ctrl-C, the processes that run are stopped.
    """
    threads = str(max(1, cores_allowed() // at_once))
    environment = dict.fromkeys(THREADS, threads) | os.environ
    context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    context.set_forkserver_preload(list(preload))
    todo, running = iter(enumerate(calls)), {}
    try:
        while True:
            while len(running) < at_once and (call := next(todo, None)) is not None:
                number, arguments = call
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_call, args=(theirs, function, arguments, environment))
                process.start()
                theirs.close()
                running[ours] = number, process
            if not running:
                return
            for ended in wait(list(running)):
                number, process = running.pop(ended)
                yield number, _result(ended, process)
    finally:
        _stop([process for _, process in running.values()])


def _result(connection: Connection, process) -> Any:
    try:
        return connection.recv()
    except EOFError:
        process.join()
        return Lost(process.exitcode)
    finally:
        connection.close()
        process.join()


def _stop(processes: Sequence) -> None:
    for process in processes:
        os.kill(process.pid, signal.SIGINT)
    for process in processes:
        process.join(PATIENCE_S)
        process.kill()


def _call(connection: Connection, function: Callable, arguments: tuple, environment: Mapping[str, str]) -> None:
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # a terminal's Ctrl-C is for the first process, which passes it on: twice would interrupt the ending
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)  # of this moment: the process that all are copies of may be older
    try:
        connection.send(function(*arguments))
    except KeyboardInterrupt:
        pass
