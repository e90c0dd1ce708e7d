"""What `faults.py` and `kill.py` share: the processes in which things go wrong, and how often that was survived."""

import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hrlib.companion import results
from hrlib.support.stops import STOPS


def forked(said: Path, run: Callable[[], int]) -> int:
    """The number of a new process that ends with the status that `run` returns; what it says goes to the file `said`.

    Signals wait until `run` has called `take_signals`.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    child = os.fork()
    if child:
        take_signals()
        return child
    status = 1
    try:
        with open(said, "wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = (io.TextIOWrapper(open(n, "wb", 0), write_through=True) for n in (1, 2))
        for number in STOPS:  # a shell's background job ignores some
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        status = run()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


def take_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def counted(rows: Collection[Mapping[str, Any]]) -> dict[str, int]:
    """ "tried", "survived" and "lost" of all rows, of which each lists what it has lost."""
    counts = {key: sum(row[key] for row in rows) for key in ("tried", "survived")}
    return counts | {"lost": sum(len(row["lost"]) for row in rows)}


def write(out: Path, name: str, counts: Mapping[str, int], parts: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """The result file, with the share that was survived as its claim."""
    values = {f"{name}-survived": counts["survived"] / max(counts["tried"], 1)}
    results.write_result(out, name, {**counts, **parts}, values, made, "full")
