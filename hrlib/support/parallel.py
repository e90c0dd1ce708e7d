"""What a long training needs of its surroundings: processes that share it, and a stop that breaks no step."""

import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import numba
import torch
import torch.distributed as dist
from torch import Tensor


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
def finish_the_step() -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM only fill the yielded list, so that a step is never left half done."""
    interrupted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # only the main thread hears of signals
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: interrupted.append(number)) for number in signals]
    try:
        yield interrupted
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def cores() -> int:
    """How many processes or threads this program may keep busy: as many as torch takes, which OMP_NUM_THREADS limits."""
    return torch.get_num_threads()


def in_processes(function: Callable, items: Iterable, processes: int) -> Iterator:
    """function(item) of each item, in their order.

    Args:
        function: is pickled once a process. Each process imports the main program, which must guard what it does by
            `if __name__ == "__main__"`.
        items: what it is called with; like its results, they are pickled.
        processes: each has a core of its own; 1: the calls are made in this process.
    """
    if processes <= 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (pickle.dumps(function),)) as pool:
        # as bytes: each tensor that a pool hands over takes a file descriptor
        yield from map(pickle.loads, pool.map(_call, items))


def _begin(packed: bytes):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process, which then stops the others
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    _begin.function = pickle.loads(packed)


def _call(item) -> bytes:
    return pickle.dumps(_begin.function(item))
