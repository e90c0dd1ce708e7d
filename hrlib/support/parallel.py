"""Processes that share a long run, and the folder that it has alone."""

import errno
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numba
import torch
import torch.distributed as dist
from torch import Tensor

from .files import lock, naming
from .stops import STOPS, end_with_parent

AHEAD = 2  # items a process: one in work, one that waits

_ours: set[str] = set()  # folders that this process holds for a run


@contextmanager
def workers(device: str | torch.device | None) -> Iterator[tuple[int, int, torch.device]]:
    """Join the processes that torchrun started, if any.

    Args:
        device: of this process; None: CUDA where there is one, else the CPU.

    Yields:
        Rank of this process, number of processes (0 and 1 without torchrun), and its device.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    launched = dist.is_available() and dist.is_torchelastic_launched()
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) if launched else torch.cuda.current_device())
        torch.cuda.set_device(device)
    ours = launched and not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        several = dist.is_available() and dist.is_initialized()
        yield (dist.get_rank(), dist.get_world_size(), device) if several else (0, 1, device)
    finally:
        if ours:
            dist.destroy_process_group()


def first_process() -> bool:
    """Whether this is the first of torchrun's processes, the one that writes and tells; true without torchrun."""
    return os.environ.get("RANK", "0") == "0"


def add_gradients(parameters: Iterable[torch.Tensor], world: int) -> None:
    """Sum gradients over the `world` processes, each of which has its share of the batch."""
    if world > 1:
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)


def add_numbers(numbers: dict[str, float], world: int, like: Tensor) -> dict[str, float]:
    """Sum numbers over the `world` processes, which talk through the device of `like`."""
    if world == 1:
        return numbers
    total = torch.tensor(list(numbers.values()), device=like.device)
    dist.all_reduce(total)
    return dict(zip(numbers, total.tolist(), strict=True))


def any_of(interrupted: list[int], world: int, like: Tensor) -> bool:
    """Whether any process was asked to stop: all must stop after the same step, or one waits for the others for ever."""
    return add_numbers({"stop": float(len(interrupted))}, world, like)["stop"] > 0


@contextmanager
def alone_in(folder: str | Path) -> Iterator[None]:
    """Have an output folder, which is made, for this run alone: two in one folder would each write half of its files.

    Within a process it may be entered again. The lock ends with the process, however that ends. Of torchrun's processes the
    first one takes it. Windows cannot lock a folder.

    Raises:
        OSError: another run writes there, or the folder cannot be made.
    """
    with naming(Path(folder)):
        Path(folder).mkdir(parents=True, exist_ok=True)
    place = os.path.realpath(folder)
    if place in _ours or not first_process() or os.name == "nt":
        yield
        return
    descriptor = os.open(place, os.O_RDONLY)
    try:
        if not lock(descriptor):
            raise OSError(
                errno.EBUSY, f"another run is writing into {folder}; wait for its end, or choose another folder"
            )
        _ours.add(place)
        yield
    finally:
        _ours.discard(place)
        os.close(descriptor)


def cores() -> int:
    """How many processes or threads this program may keep busy: as many as torch takes, which OMP_NUM_THREADS limits."""
    return torch.get_num_threads()


def in_processes(function: Callable, items: Iterable, processes: int) -> Iterator:
    """function(item) of each item, in their order.

    Args:
        function: is pickled once a process. Each process imports the main program, which must guard what it does by
            `if __name__ == "__main__"`.
        items: what it is called with; like its results, they are pickled. They are asked for as they are needed, and no more
            than `AHEAD` a process are in work or wait for their turn, so that memory does not grow with their number.
        processes: each has a core of its own; 1: the calls are made in this process.
    """
    if processes <= 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (pickle.dumps(function),)) as pool:
        waiting, items = deque(), iter(items)
        try:
            while True:
                waiting += [pool.submit(_call, item) for item in islice(items, AHEAD * processes - len(waiting))]
                if not waiting:
                    return
                # as bytes: each tensor that a pool hands over takes a file descriptor
                yield pickle.loads(waiting.popleft().result())
        except BrokenProcessPool as error:
            text = "one of several processes was killed, maybe for want of memory; OMP_NUM_THREADS=1 takes one process"
            raise OSError(errno.ECHILD, f"{text}. Run it again") from error
        finally:
            for future in waiting:
                future.cancel()


def _begin(packed: bytes):
    for number in STOPS:  # a terminal sends them to all; they are for the first process, which then stops the others
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    _begin.function = pickle.loads(packed)


def _call(item) -> bytes:
    return pickle.dumps(_begin.function(item))
