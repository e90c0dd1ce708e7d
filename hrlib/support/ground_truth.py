"""Which ground truth was read, and by which code: noted where it is handed out, so that a result records what happened.

Whatever holds truth calls `note` when it is asked for it: a simulated user's frames, the labels of a data set, the letters of
signs. The reader is the nearest code on the call stack that is not itself a holder. `record` goes into every result file. The
labels of synthetic frames that a training draws for itself are nobody's truth, and are not noted.
"""

import sys
from pathlib import Path
from typing import ClassVar

# these hand truth over from one to the other; who asked them is the reader
HOLDERS = ("hrlib.support", "hrlib.synthetic", "hrlib.datasets", "hrlib.frames", "hrlib.companion.example_frames")
Record = dict[str, list[str]]  # "simulated user A, test: joints_mm" -> modules that read it

_read: dict[str, set[str]] = {}


def note(source: str, what: str) -> None:
    """Record that the calling code reads `what` (joints_mm, letters, ...) of `source` (a user and split, a data set)."""
    _read.setdefault(f"{source}: {what}", set()).add(_reader())


def record() -> Record:
    """All that this process has read so far, each with its readers. Empty: no ground truth was read anywhere."""
    return {name: sorted(_read[name]) for name in sorted(_read)}


def merge(other: Record) -> None:
    """Add what another process read, whose numbers this one takes over."""
    for name, readers in other.items():
        _read.setdefault(name, set()).update(readers)


def forget() -> None:
    """Begin an empty record: for tests, and for a process that makes several results of different data."""
    _read.clear()


def in_words(read: Record | str) -> str:
    """The record in one line. A string, as older results have it, stays what it is."""
    if isinstance(read, str):
        return read
    return "; ".join(f"{name} (by {', '.join(readers)})" for name, readers in read.items()) or "none"


class Noted:
    """A class whose fields `TRUTH` are truth: reading one notes it, under the name in the field `source`.

    `vars(self)` hands the fields over without a note, to a holder that notes its own readers.
    """

    TRUTH: ClassVar[tuple[str, ...]] = ()

    def __getattribute__(self, name):
        value = super().__getattribute__(name)
        if name in type(self).TRUTH and value is not None:
            note(vars(self)["source"], name)
        return value


def _reader() -> str:
    """The module of the nearest caller that is ours and no holder; a script's file name, or "notebook"."""
    frame = sys._getframe(2)
    while frame is not None:
        name, file = frame.f_globals.get("__name__", ""), Path(frame.f_code.co_filename)
        if name.startswith("hrlib."):
            if not name.startswith(HOLDERS):
                return name
        elif name == "__main__":
            return "notebook" if "ipykernel" in file.parent.name or file.name.startswith("<") else file.stem
        elif file.parent.name == "benchmarks" or file.stem.startswith("test_"):
            return file.stem
        frame = frame.f_back
    return "unknown"
