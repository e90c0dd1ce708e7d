"""Unlabelled frames of one user to refine on, and others of the same user to look at afterwards, in the order of time.

Real frames where they are on this computer, else frames of a simulated user: never mixed, and named for what they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..datasets.fetch import dataset_folder
from ..datasets.fingerspelling import LETTERS, Fingerspelling, letter_of
from ..frames.crops import Crops
from ..frames.find import crop_frames
from ..hand.rig import HandRig
from ..synthetic.people import USERS, SimulatedUser


@dataclass(frozen=True)
class Recording:
    """Cropped frames of one user. sequence: for each frame the piece of uninterrupted recording that it belongs to;
    letters: what real frames show, None for simulated ones; joints_mm [B, 21, 3]: the truth, None for real frames.
    Letters and truth are for evaluation only."""

    crops: Crops
    names: list[str]
    sequence: list[int]
    left_out: dict[str, str]
    letters: list[str] | None = None
    joints_mm: Tensor | None = None

    def __len__(self):
        return len(self.names)


@dataclass(frozen=True)
class OneUser:
    """kind: "real" or "simulated"; source: in words; data: what was read, for the record; seed: of the simulation."""

    kind: str
    source: str
    train: Recording
    test: Recording
    data: dict[str, Path] = field(default_factory=dict)
    seed: int | None = None


def one_user(
    template: HandRig,
    frames_a_letter: int | None,
    test_letters: str = LETTERS,
    letters: str = LETTERS,
    simulated: int | None = None,
) -> OneUser:
    """Who spells the ASL alphabet, or, where those frames are not on this computer, simulated user D.

    frames_a_letter: how many training frames in a row of each of `letters` (from their middle), None for all of them.
    The simulated user gets `simulated` frames; None: as many in all, 50 a letter instead of None, since they are drawn in
    memory. The test frames are 12 in a row of each of `test_letters`.
    """
    try:
        folder = dataset_folder("asl_fingerspelling")
    except FileNotFoundError as error:
        print(f"simulated frames instead of real ones: {error}")
        return _simulated(
            template, USERS["D"], simulated or (frames_a_letter or 50) * len(letters), 12 * len(test_letters)
        )
    source = "ASL Finger Spelling A, Kinect v1, one user"
    every = Fingerspelling("train", letters)
    picked = range(len(every)) if frames_a_letter is None else _middles(every.names, frames_a_letter)
    train, test = _real([every[i] for i in picked]), _real(list(Fingerspelling("test", test_letters)))
    return OneUser("real", source, train, test, {"asl_fingerspelling": folder / "split.json"})


def pieces(names: Sequence[str]) -> list[int]:
    """For each frame the number of the uninterrupted piece it belongs to: names in one folder that count up by one."""
    found: list[int] = []
    for i, name in enumerate(names):
        follows = i > 0 and _place(name) == (_place(names[i - 1])[0], _place(names[i - 1])[1] + 1)
        found.append(0 if i == 0 else found[-1] + (not follows))
    return found


def picked(recording: Recording, letters: str, count: int) -> list[int]:
    """`count` frames to look at: the middle one of each of these letters as far as there are any, others evenly."""
    found = []
    for letter in letters if recording.letters else "":
        of = [i for i, shown in enumerate(recording.letters) if shown == letter]
        found += [of[len(of) // 2]] if of else []
    evenly = [(2 * i + 1) * len(recording) // (2 * count) for i in range(count)]
    rest = [i for i in [*evenly, *range(len(recording))] if i not in found]
    return found[:count] + list(dict.fromkeys(rest))[: count - len(found[:count])]


def _place(name: str) -> tuple[str, int]:
    digits = Path(name).stem.split("_")[-1]
    if not digits.isdigit():
        raise ValueError(f"frames must be named by a number, as A/a/depth_0_0001.png is, got {name!r}")
    return str(Path(name).parent), int(digits)


def _middles(names: Sequence[str], count: int) -> list[int]:
    """The middle `count` frames of each letter."""
    if count < 1:
        raise ValueError(f"frames_a_letter must be at least 1, got {count}")
    by_letter: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        by_letter.setdefault(letter_of(name), []).append(i)
    starts = {letter: max(0, (len(of) - count) // 2) for letter, of in by_letter.items()}
    return [i for letter, of in by_letter.items() for i in of[starts[letter] : starts[letter] + count]]


def _real(frames: list) -> Recording:
    crops, kept, left_out = crop_frames(frames)
    names = [frame.name for frame in kept]
    return Recording(crops, names, pieces(names), left_out, [letter_of(name) for name in names])


def _simulated(template: HandRig, user: SimulatedUser, train: int, test: int) -> OneUser:
    made = []
    for split, count in (("train", train), ("test", test)):
        crops, kept, left_out = crop_frames(user.frames(template, count, split))
        names = [frame.name for frame in kept]
        joints = torch.from_numpy(np.stack([frame.truth.joints_mm for frame in kept]))
        made.append(Recording(crops, names, pieces(names), left_out, None, joints))
    return OneUser("simulated", f"simulated user {user.name}: {user.description}", *made, seed=user.seed)
