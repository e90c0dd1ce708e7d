"""The state of a long run on disk, with which a stopped run goes on: a .pt file of tensors and plain values."""

import errno
import hashlib
import io
from pathlib import Path

import torch

from .files import read_whole, write_bytes_atomically

MARK = b"hrlib SHA-256 of what is before:"  # 32 bytes, then the digest; older files have neither


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
        content = read_whole(path)
        if content[-len(MARK) - 32 : -32] == MARK:
            if hashlib.sha256(content[:-32]).digest() != content[-32:]:
                raise ValueError("it was changed after it was written: its SHA-256 differs")
            content = content[: -len(MARK) - 32]
        state = torch.load(io.BytesIO(content), device, weights_only=True)
        if not isinstance(state["config"], dict):
            raise TypeError("its config is no dict")
    except OSError:
        raise
    except Exception as error:  # torch passes on whatever it stumbles over in damaged files
        raise ValueError(f"{path} is no state of {run} ({error!r}); delete it to begin anew") from error
    return state


def write_state(path: Path, state: dict) -> None:
    """Write a dict of tensors and plain values to `path`, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.write(MARK)
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
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
