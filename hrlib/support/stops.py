"""What asks a program to stop, and where it stops: at once, or when a step of a training is done."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

# Ctrl-C, a system that shuts down, a terminal that closes (not on Windows)
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# signals so far, also those that waited for a step's end: the first is the command's exit status
_arrived: list[int] = []


@contextmanager
def signals_as_ctrl_c() -> Iterator[list[int]]:
    """Let SIGTERM (of a system that shuts down) and SIGHUP (of a closed terminal) raise KeyboardInterrupt, as Ctrl-C does.

    Yields a list that the signal's number goes to. A signal that is ignored, as nohup asks for, stays so.
    """
    _arrived.clear()

    def stop(number, _):
        _arrived.append(number)
        raise KeyboardInterrupt

    with _handled(stop):
        yield _arrived


@contextmanager
def _handled(handler: Callable) -> Iterator[None]:
    """The signals that stop a program go to `handler`; only the main thread hears of signals."""
    heard = threading.current_thread() is threading.main_thread()
    numbers = [number for number in STOPS if heard and signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


@contextmanager
def finish_the_step() -> Iterator[list[int]]:
    """Let Ctrl-C, SIGTERM and SIGHUP only fill the yielded list, so that a step is never left half done."""
    interrupted: list[int] = []

    def remember(number, _):
        interrupted.append(number)
        _arrived.append(number)

    with _handled(remember):
        yield interrupted


def stopped_by() -> tuple[int, str]:
    """Exit status and name of what asked this program to stop: the first signal that arrived, else Ctrl-C."""
    number = _arrived[0] if _arrived else signal.SIGINT
    return 128 + number, "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def end_with_parent() -> None:
    """Wait for the process that began this one, and end with it: a first process that was killed cannot stop the others."""
    parent_process().join()
    os._exit(1)
