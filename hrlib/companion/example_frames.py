"""The frames that notebooks run on: real ones where they are on this computer, simulated ones always; never mixed.

`simulated_examples` and `real_examples` are single frames. `one_user` has one user's frames to refine on and others of the
same user to look at afterwards, in the order of time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..datasets.fetch import dataset_folder
from ..datasets.fingerspelling import LETTERS, Fingerspelling, letter_of
from ..datasets.real_joints import REAL_SETS, RealJoints
from ..frames.camera import Camera
from ..frames.crops import Crops
from ..frames.find import crop_frames
from ..frames.folder import DepthFolder
from ..frames.frame import Frame
from ..hand.rig import HandRig
from ..method import true_prediction
from ..network.posenet import Prediction
from ..support.ground_truth import Noted, note
from ..synthetic.people import USERS, SimulatedUser
from ..synthetic.poses import read_tracked_poses

ASL, ASL_SOURCE = "asl_fingerspelling", "ASL Finger Spelling A, Kinect v1, one user"
ASL_TEST_FRAMES = 12  # in a row of each letter
# other cameras' real frames: data set, and how `DepthFolder` reads it
SENSORS = {
    "SR305": ("sr305", {"camera": Camera(476.007, 476.007, 313.683, 242.755), "unit_mm": 0.125}),
    "NYU": ("nyu_frame", {"camera": Camera(588.03, 587.07, 320, 240), "encoding": "nyu"}),
}


@dataclass(frozen=True)
class Examples(Noted):
    """Cropped frames of one source. Letters and truth are for evaluation only; readings of them are noted."""

    TRUTH: ClassVar = ("joints_mm", "rotations", "wrist_mm")
    kind: str  # "simulated" or "real"
    source: str  # in words
    crops: Crops
    names: list[str]  # of the frames
    left_out: dict[str, str]  # frame -> why it has no usable hand
    frames: list[Frame] | None = None  # uncropped, where they are few
    joints_mm: Float[Tensor, "B 21 3"] | None = None  # the truth, None for real frames, as in the next two
    rotations: Float[Tensor, "B 16 4"] | None = None
    wrist_mm: Float[Tensor, "B 3"] | None = None
    user: SimulatedUser | None = None  # who was simulated
    data: dict[str, Path] = field(default_factory=dict)  # what was read, for the record

    def __len__(self):
        return len(self.names)

    @property
    def letters(self) -> list[str] | None:
        """What real frames show."""
        if self.kind != "real":
            return None
        note(self.source, "letters")
        return self._signs()

    def _signs(self) -> list[str]:
        return [letter_of(name) for name in self.names] if self.kind == "real" else []

    @property
    def labels(self) -> list[str]:
        """A word for each frame: its letter, or its number from 1."""
        return [letter.upper() for letter in self._signs() or map(str, range(1, len(self) + 1))]

    @property
    def sequence(self) -> list[int]:
        """For each frame the piece of uninterrupted recording that it belongs to."""
        return pieces(self.names)

    @property
    def seed(self) -> int | None:
        """Of the simulation."""
        return self.user and self.user.seed

    def index_of(self, label: str | int) -> int:
        """The place of the frame with this label (an int counts frames); 0 if there is no such frame."""
        wanted, labels = str(label + 1) if isinstance(label, int) else label, self.labels
        return labels.index(wanted) if wanted in labels else 0

    def true_prediction(self, hand: HandRig) -> Prediction:
        """The true pose as a perfect network would predict it (simulated frames only)."""
        if vars(self)["rotations"] is None:
            raise ValueError("these frames are real: nobody knows their true pose")
        return true_prediction(self.rotations, self.wrist_mm, hand, self.crops)


def simulated_examples(template: HandRig, count: int, user: SimulatedUser = USERS["C"]) -> Examples:
    """Test frames of a simulated user, every fiftieth of the recordings, with exact truth.

    The hand is cut out of them at the wrist, for which the user of the paper wore a dark wristband: these
    experiments are about a single frame's pose or shape, not about segmentation.
    """
    user = replace(user, camera=replace(user.camera, forearm_mm=2.0))
    frames = user.frames(template, count, "test", every=50)
    return _simulated(user, [replace(frame, mask=frame.depth_mm > 0) for frame in frames], keep=True)


def real_examples(count: int = 24) -> Examples:
    """Real Kinect frames of the ASL test split: the middle frame of each letter first, then others evenly.

    Raises:
        FileNotFoundError: the data set is not on this computer; says what to do.
    """
    frames = Fingerspelling("test")
    rounds = -(-count // len(LETTERS))
    # k-th of `rounds` frames of each letter, evenly over its consecutive frames
    by_letter = _by_letter(frames.names).values()
    chosen = [of[(2 * k + 1) * len(of) // (2 * rounds)] for k in range(rounds) for of in by_letter][:count]
    return _real([frames[i] for i in sorted(chosen)], keep=True)


def available_examples(template: HandRig, count: int, user: str = "C") -> list[Examples]:
    """Simulated examples of a user, and real ones if they are on this computer; prints a line if they are not."""
    real = real_examples_if_any(count)
    return [simulated_examples(template, count, USERS[user]), *([] if real is None else [real])]


def real_examples_if_any(count: int = 24) -> Examples | None:
    """`real_examples`, or None (and a line that says why) where they are not on this computer."""
    return None if _folder(ASL, "simulated frames only") is None else real_examples(count)


def available_tracked_poses() -> Float[Tensor, "K 16 4"] | None:
    """Real tracked poses, or None (and a line that says why) where they are not on this computer."""
    folder = _folder("poses", "without tracked poses")
    return folder and read_tracked_poses(folder / "animbank.pose.gz", folder / "model_hand.json")


def sensor_frames(sensor: str) -> DepthFolder:
    """Real frames of another camera, one of `SENSORS`, read by the general reader.

    Raises:
        FileNotFoundError: they are not on this computer; says what to do.
    """
    name, options = SENSORS[sensor]
    return DepthFolder(dataset_folder(name), **options)


def available_sensors() -> dict[str, DepthFolder]:
    """The `sensor_frames` of those that are on this computer; a line for each that is not."""
    folders = {sensor: _folder(name, f"without {sensor} frames") for sensor, (name, _) in SENSORS.items()}
    return {sensor: sensor_frames(sensor) for sensor, folder in folders.items() if folder}


def real_joints_if_any() -> dict[str, RealJoints] | None:
    """The real sets with joints by what is done with them, or None (and a line that says why) where they are not here.

    In one of them the hand is not found. So the frames of its free hands are there again, with the hand's pixels given.
    """
    if any(_folder(name, "without real joints") is None for name in REAL_SETS):
        return None
    table = "d435_table"
    given = {f"{table}, free hands, true place given": RealJoints(table, free_hand=True, given=True)}
    return {name: RealJoints(name) for name in REAL_SETS} | given


def one_user(
    template: HandRig,
    frames_a_letter: int | None,
    test_letters: str = LETTERS,
    letters: str = LETTERS,
    simulated: int | None = None,
) -> tuple[Examples, Examples]:
    """Frames to refine on and frames to judge by, of who spells the ASL alphabet; or of simulated user D.

    Args:
        frames_a_letter: how many training frames in a row of each of `letters`, from their middle; None: all.
        test_letters: letters of the test frames, 12 frames in a row of each.
        letters: of the training frames.
        simulated: training frames if the user is simulated; None: as many in all as real ones, 50 a letter at most.
    """
    if _folder(ASL, "simulated frames instead of real ones") is None:
        counts = {"train": simulated or (frames_a_letter or 50) * len(letters)}
        counts["test"] = ASL_TEST_FRAMES * len(test_letters)
        train, test = (_simulated(USERS["D"], USERS["D"].frames(template, n, split)) for split, n in counts.items())
        return train, test
    every = Fingerspelling("train", letters)
    if frames_a_letter is not None:
        note(ASL_SOURCE, "letters, to choose the middle frames of each")
    chosen = range(len(every)) if frames_a_letter is None else _middles(every.names, frames_a_letter)
    return _real([every[i] for i in chosen]), _real(list(Fingerspelling("test", test_letters)))


def pieces(names: Sequence[str]) -> list[int]:
    """For each frame the number of the uninterrupted piece it belongs to: names in one folder that count up by one."""
    piece, before = [], None
    for place in map(_place, names):
        piece.append(0 if before is None else piece[-1] + (place != (before[0], before[1] + 1)))
        before = place
    return piece


def picked(examples: Examples, letters: str, count: int) -> list[int]:
    """`count` frames to look at: the middle one of each of these letters as far as there are any, others evenly."""
    by_letter = _by_letter(examples.names) if examples.kind == "real" else {}
    middles = [by_letter[letter][len(by_letter[letter]) // 2] for letter in letters if letter in by_letter]
    evenly = [(2 * i + 1) * len(examples) // (2 * count) for i in range(count)]
    rest = [i for i in dict.fromkeys([*evenly, *range(len(examples))]) if i not in middles]
    return (middles[:count] + rest)[:count]


def _folder(name: str, without: str) -> Path | None:
    """The data set's folder, or None and a line that says why."""
    try:
        return dataset_folder(name)
    except FileNotFoundError as error:
        print(f"{without}: {error}")
        return None


def _place(name: str) -> tuple[str, int]:
    digits = Path(name).stem.split("_")[-1]
    if not digits.isdecimal():
        raise ValueError(f"frames must be named by a number, as A/a/depth_0_0001.png is, got {name!r}")
    return str(Path(name).parent), int(digits)


def _by_letter(names: Sequence[str]) -> dict[str, list[int]]:
    by_letter: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        by_letter.setdefault(letter_of(name), []).append(i)
    return by_letter


def _middles(names: Sequence[str], count: int) -> list[int]:
    """The middle `count` frames of each letter."""
    if count < 1:
        raise ValueError(f"frames_a_letter must be at least 1, got {count}")
    starts = [(of, max(0, (len(of) - count) // 2)) for of in _by_letter(names).values()]
    return [i for of, start in starts for i in of[start : start + count]]


def _real(frames: list[Frame], keep: bool = False) -> Examples:
    crops, kept, left_out = crop_frames(frames)
    data = {ASL: dataset_folder(ASL) / "split.json"}
    names = [frame.name for frame in kept]
    return Examples("real", ASL_SOURCE, crops, names, left_out, kept if keep else None, data=data)


def _simulated(user: SimulatedUser, frames: Sequence[Frame], keep: bool = False) -> Examples:
    crops, kept, left_out = crop_frames(frames)
    joints, rotations, wrist = (
        torch.from_numpy(np.stack([vars(frame.truth)[key] for frame in kept]))  # handed over, not read
        for key in Examples.TRUTH
    )
    source, names = f"simulated user {user.name}: {user.description}", [frame.name for frame in kept]
    return Examples("simulated", source, crops, names, left_out, kept if keep else None, joints, rotations, wrist, user)
