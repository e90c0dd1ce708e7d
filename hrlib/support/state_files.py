"""The state of a long run on disk, with which a stopped run goes on: a .pt file of tensors and plain values."""

import errno
import io
import pickle
from pathlib import Path

import torch

from .files import write_bytes_atomically


def read_state(path: Path, run: str, device: str | torch.device = "cpu") -> dict:
    """What `write_state` wrote to `path`: a dict with the settings of its run under "config".

    Args:
        path: the file.
        run: what the state belongs to, for the error message, such as "a training".
        device: where the tensors are put.

    Raises:
        ValueError: the file is damaged or holds something else.
    """
    try:
        state = torch.load(path, device, weights_only=True)
        if not isinstance(state["config"], dict):
            raise TypeError("its config is no dict")
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no state of {run} ({error!r}); delete it to begin anew") from error
    return state


def write_state(path: Path, state: dict) -> None:
    """Write a dict of tensors and plain values to `path`, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes_atomically(path, buffer.getvalue())


def cannot_save(error: OSError, run: str, kept: str) -> OSError:
    """The error to raise instead of `error`: `run` could not be saved, but `kept` is still on disk."""
    # `files.naming` adds the file's name and a remedy, which would be said twice
    reason = error.__cause__ if isinstance(error.__cause__, OSError) else error
    remedy = "Free space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Mend that"
    text = (
        f"cannot save {run}: {reason.strerror or reason}. {remedy} and run the same again; {kept} is kept and goes on"
    )
    return OSError(error.errno, text)
