"""The hand in depth images in memory, for other programs: `predict` for some, `Tracker` for a camera's as they come."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from ..frames.camera import Camera
from ..frames.crops import Crops
from ..frames.find import GAP, JUMP_MM, crop_frame, crop_where
from ..frames.folder import camera_for, mirrored
from ..frames.frame import Frame
from ..frames.intrinsics import AnyCamera, as_camera
from ..frames.quality import largest_mark, measurements, only_negative, without_gaps
from ..frames.segment import NoHandFound
from ..hand.joints import POINT_NAMES
from ..hand.posed import PosedHand, pose_hand
from ..hand.rig import HandRig
from ..method import wrist_position
from ..network.model import PoseModel
from ..network.recorded import recorded
from ..refine.gauss_newton import FitSettings
from ..refine.saved import NETWORK, TRAINED, load_model
from ..support.autograd import for_every_use
from ..support.checks import SIDES, require_one_of
from ..support.decoding import time_last
from .check import LEAST_DEPTH_MM, MOST_DEPTH_MM
from .first_look import FirstLook, first_look
from .track import Tracked, from_mirror, track, tracked

LOOKED = (1, 5, 20)  # after so many frames with a hand, side and shape are told anew, the last time for good
EVERYWHERE = 15  # so often a whole frame is searched; the others first where the hand was, which takes half the time
QUICK_FIT = FitSettings(steps=8, more_steps=4)  # 3 % worse on the development people, and 3 ms faster
METRES = 20.0  # if nothing is farther away than so many "millimetres", they are metres
IN_PYTHON = {"--side": "side", "--camera": "camera", "--unit-mm": "depth_mm"}  # doubts speak of the command's options

Numbers = Real[np.ndarray, "..."] | Real[Tensor, "..."] | Sequence  # rows of numbers, too


@dataclass(frozen=True, eq=False)
class HandSeen:
    """What is seen of the hand in one frame. Millimetres in the camera frame: x right, y down, z forward."""

    joints_mm: Float[np.ndarray, "21 3"]  # in the order of `joint_names`; NaN if no hand is found
    confidence: float  # how far to trust it, in [0, 1]; 0 if no hand is found
    side: str  # "right" or "left"
    doubts: tuple[str, ...]  # what to tell the user: of the side, the hand's size, the camera's numbers
    rotations: Float[np.ndarray, "16 4"]  # theta, unit quaternions xyzw; of a left hand that of its mirror image
    wrist_mm: Float[np.ndarray, "3"]
    hand: HandRig = field(repr=False)  # the rig that is posed, in the shape that is seen
    why: str = ""  # no hand is found

    joint_names = tuple(POINT_NAMES)

    @property
    def found(self) -> bool:
        """Whether there is a hand."""
        return not self.why

    @cached_property
    def posed(self) -> PosedHand:
        """The hand's mesh, points and joints as arrays; `pose_hand` of what was seen."""
        return pose_hand(self.hand, self.rotations, self.wrist_mm, self.side)


def predict(
    depth_mm: Numbers | Sequence[Numbers] | Iterator[Numbers],
    camera: AnyCamera,
    side: str | None = None,
    model: str | Path | None = None,
    fit: bool = True,
) -> HandSeen | list[HandSeen] | Iterator[HandSeen]:
    """The hand in one depth image, in each of several, or in a stream of them: `hrlib predict` for frames in memory.

    >>> seen = hrlib.predict(depth_mm, camera)
    >>> seen.joints_mm.shape, seen.side, seen.joint_names[8]
    ((21, 3), 'right', 'index_tip')

    Args:
        depth_mm: an image [H, W] of any kind of numbers, 0 or NaN where nothing was measured; images [T, H, W] or a list of
            images of one hand; or an iterator, whose frames go through a `Tracker` as they come.
        camera: a `Camera`, (fx, fy, cx, cy) in px, (fx, fy) about the image's centre, its matrix [3, 3], a dictionary with
            such numbers, or the file that has them.
        side: which hand it is, "right" or "left"; None asks the model, or else the frames.
        model: folder that `hrlib refine` or `hrlib pretrain` has written, or a checkpoint; None takes the base model.
        fit: fit each predicted pose to its frame, about 10 ms a frame; without it, joints are a third worse.

    Returns:
        `HandSeen` of an image; a list of several, in which frames without a hand have `found` False; an iterator of a stream.

    Raises:
        NoHandFound: (a ValueError) no hand, and why.
        ValueError: no depth image, metres instead of millimetres, or numbers that are no camera's.
        FileNotFoundError: the folder holds no model.
    """
    if isinstance(depth_mm, Iterator):
        return map(Tracker(camera, side, model, fit), depth_mm)
    images = _images(depth_mm)
    if images is not None:
        with _apart():
            return _of_one_hand(images, camera, side, model, fit)
    seen = Tracker(camera, side, model, fit)(depth_mm)
    if seen.found:
        return seen
    with _apart():
        return _of_one_hand([as_depth(depth_mm)], camera, side, model, fit)[0]  # which says what to doubt


class Tracker:
    """The hand in the frames of a camera, one after the other: `tracker(depth_mm)` is `HandSeen`, with or without a hand.

    It loads the model once. In its first frames it sees which hand it is, and its shape; what is not given is settled after
    the 20th frame with a hand. A frame is first searched where the hand was; where it is not surely there, as a whole.

    >>> tracker = hrlib.Tracker(camera)
    >>> [tracker(image).found for image in (depth_mm, 0 * depth_mm)]
    [True, False]

    Args:
        camera, side, model, fit: as in `predict`.
        quick: see each frame once, not from five turned views, and fit it in two thirds of the steps.

    Raises:
        ValueError, FileNotFoundError: see `predict`.
    """

    def __init__(
        self,
        camera: AnyCamera,
        side: str | None = None,
        model: str | Path | None = None,
        fit: bool = True,
        quick: bool = False,
    ):
        require_one_of((*SIDES, None), side=side)
        self.camera, self.given = as_camera(camera), side
        self.fit, self.quick = QUICK_FIT if fit and quick else fit, quick
        self._net, self._hand, self._of = _model(model)
        self.reset()

    def reset(self) -> None:
        """Forget the frames so far: another hand comes."""
        self._count = 0
        self._size: tuple[int, ...] | None = None
        self._frames: list[Frame] | None = []
        self._look, self._known = FirstLook(self.given or self._of or "right", (), 0), (self._net, self._hand)
        self._place_mm: np.ndarray | None = None
        self._lost = 0

    @property
    def side(self) -> str:
        """Which hand is tracked, as far as is known."""
        return self._look.side

    def __call__(self, depth_mm: Numbers) -> HandSeen:
        """The hand in the next frame [H, W]; see `predict` for its numbers."""
        depth = as_depth(depth_mm)
        self._size = self._size or depth.shape
        _check_size(self.camera, depth.shape, self._size)
        self._count += 1
        frame = _frame(f"{self._count}", depth, self.camera)
        with _apart():
            crop, why = self._crop(frame)
            if crop is not None and self._looked_again(frame):
                crop, why = self._crop(frame)  # as the other hand
            if crop is None:
                return _lost(_with_unit(why, depth), self._look, self._known[1])
            shot = tracked(*self._known, crop, [frame.name], self.fit, self.quick)
            return _seen(shot, self._look, self._known[1])[0]

    def _crop(self, frame: Frame) -> tuple[Crops | None, str]:
        frame, place_mm = mirrored(frame) if self.side == "left" else frame, self._place_mm
        crop, why = None, ""
        if place_mm is not None and self._count % EVERYWHERE:
            crop = crop_where(frame, place_mm)
        if crop is None:
            crop, why = crop_frame(frame)
            if place_mm is not None and (crop is None or _apart_mm(crop, place_mm) > JUMP_MM):
                again, _ = crop_frame(frame, near_mm=place_mm)
                crop = crop if again is None else again
        self._lost = self._lost + 1 if crop is None else 0
        if crop is not None:
            self._place_mm = crop.centre_mm[0].numpy()
        elif self._lost > GAP:
            self._place_mm = None
        return crop, why

    def _looked_again(self, frame: Frame) -> bool:
        """Look at the frames so far, if it is time to; whether they show another hand than was thought."""
        if self._frames is None:  # all is settled
            return False
        self._frames.append(frame)
        if len(self._frames) not in LOOKED:
            return False
        before = self.side
        self._look = first_look(self._frames, self._net, self._hand, self.given, self._of)
        self._known = self._look.told(self._net, self._hand)
        if len(self._frames) == LOOKED[-1]:
            self._frames, (net, hand) = None, self._known
            self._known = recorded(net), hand  # nothing changes any more
        if self.side != before:
            self._place_mm = None  # seen in a mirror
        return self.side != before


def as_depth(depth_mm: Numbers) -> Float[np.ndarray, "H W"]:
    """One depth image in float32, 0 where nothing was measured (`quality.measurements`).

    Raises:
        ValueError: no image [H, W] of numbers, or one of metres or of 8 bits.
    """
    if isinstance(depth_mm, Tensor):
        depth_mm = depth_mm.detach().cpu()
        depth_mm = (depth_mm.float() if depth_mm.is_floating_point() else depth_mm).numpy()
    image = np.ma.filled(depth_mm, 0) if isinstance(depth_mm, np.ma.MaskedArray) else np.asarray(depth_mm)
    image = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    if image.ndim != 2 or image.dtype.kind not in "uif" or not image.size:
        single = image.dtype == object and not image.ndim
        kind = type(depth_mm).__name__ if single else f"{list(image.shape)} of {image.dtype}"
        raise ValueError(
            f"depth_mm must be an image [H, W] of numbers, got {kind}; hrlib.predict also takes images [T, H, W], and of a "
            "folder [frame.depth_mm for frame in hrlib.DepthFolder(...)]"
        )
    if image.dtype == np.uint8:
        raise ValueError(
            "depth_mm is of 8 bits, which hold no hand's depth in mm: take depth as the camera measures it"
        )
    if only_negative(image):
        raise ValueError("depth_mm is negative everywhere, as along an axis towards the viewer; give -depth_mm")
    image = measurements(np.where(image < largest_mark(image.dtype), image, 0).astype(np.float32))
    if 0 < (farthest := image.max()) < METRES:
        picture = "; is it a picture of depth, as a crop is?" if farthest <= 1 else ""
        raise ValueError(
            f"depth_mm looks like metres: nothing is farther away than {farthest:.3g}; give depth_mm * 1000{picture}"
        )
    return image


def _images(depth_mm: Numbers | Sequence[Numbers]) -> list[Float[np.ndarray, "H W"]] | None:
    """The images of a batch, or None for a single one."""
    if isinstance(depth_mm, list | tuple):
        single = bool(depth_mm) and np.ndim(depth_mm[0]) == 1  # rows of numbers
    else:
        single = np.ndim(depth_mm) != 3 or np.shape(depth_mm)[-1] == 1
        if not single and np.shape(depth_mm)[-1] in (3, 4):
            raise ValueError(f"depth_mm must be [H, W] or [T, H, W], got {list(np.shape(depth_mm))}: is it in colour?")
        if not single and time_last(np.shape(depth_mm)):
            raise ValueError(
                f"depth_mm must be [T, H, W], got {list(np.shape(depth_mm))}, which looks like [H, W, T]: give "
                "numpy.moveaxis(depth_mm, -1, 0)"
            )
    return None if single else [as_depth(image) for image in depth_mm]


def _of_one_hand(
    images: list[np.ndarray], camera: AnyCamera, side: str | None, model: str | Path | None, fit: bool
) -> list[HandSeen]:
    net, hand, of = _model(model)
    require_one_of((*SIDES, None), side=side)
    numbers = as_camera(camera)
    if not images:
        raise ValueError("depth_mm must hold at least one image, got none")
    for image in images:
        _check_size(numbers, image.shape, images[0].shape)
    frames = [_frame(f"{i}", image, numbers) for i, image in enumerate(images)]
    look = first_look(frames, net, hand, side, of)
    net, hand = look.told(net, hand)
    read = [mirrored(frame) for frame in frames] if look.side == "left" else frames
    found: dict[str, HandSeen] = {}
    for shots, left_out in track(net, hand, read, fit=fit):
        if shots is not None:
            found |= zip(shots.names, _seen(shots, look, hand), strict=True)
        found |= {name: _lost(why, look, hand) for name, why in left_out.items()}
    if not any(seen.found for seen in found.values()):
        why = "; ".join((found["0"].why, *found["0"].doubts))
        raise NoHandFound(f"no hand in any of {len(frames)} frames; {why}")
    return [found[frame.name] for frame in frames]


def _check_size(camera: Camera | tuple[float, float], shape: tuple[int, ...], first: tuple[int, ...]) -> None:
    if isinstance(camera, Camera) and shape != first:
        (height, width), (first_height, first_width) = shape, first
        raise ValueError(
            f"depth_mm is {width}x{height} px, but the first frame was {first_width}x{first_height}, and one principal point "
            "cannot fit both: give each size its own camera (a Tracker's reset() begins anew)"
        )


def _frame(name: str, image: np.ndarray, camera: Camera | tuple[float, float]) -> Frame:
    depth_mm, filled = without_gaps(image)
    return Frame(name, depth_mm, camera_for(depth_mm.shape, camera), filled=filled)


def _seen(shots: Tracked, look: FirstLook, hand: HandRig) -> list[HandSeen]:
    places = shots.joints_mm, wrist_position(shots.prediction, hand, shots.crops)
    joints_mm, wrist_mm = (from_mirror(place, look.side).detach().numpy() for place in places)
    rotations, sure = shots.prediction.rotations.detach().numpy(), shots.confidence.tolist()
    rows = zip(joints_mm, sure, rotations, wrist_mm, strict=True)
    return [HandSeen(j, c, look.side, _doubts(look), q, wrist, hand) for j, c, q, wrist in rows]


def _lost(why: str, look: FirstLook, hand: HandRig) -> HandSeen:
    nowhere = [np.full(shape, np.nan, np.float32) for shape in ((21, 3), (16, 4), 3)]
    return HandSeen(nowhere[0], 0.0, look.side, _doubts(look), nowhere[1], nowhere[2], hand, why)


def _doubts(look: FirstLook) -> tuple[str, ...]:
    def in_python(text: str) -> str:
        for option, argument in IN_PYTHON.items():
            text = text.replace(option, argument)
        return text

    return tuple(in_python(str(doubt)) for doubt in look.doubts)


def _with_unit(why: str, depth_mm: np.ndarray) -> str:
    """Why there is no hand, and that the unit may be wrong if the depths are no table's and no room's."""
    measured = depth_mm[depth_mm > 0]
    middle = float(np.median(measured)) if measured.size else LEAST_DEPTH_MM
    if LEAST_DEPTH_MM <= middle <= MOST_DEPTH_MM:
        return why
    return (
        f"{why} (half of all depths are {'beyond' if middle > MOST_DEPTH_MM else 'below'} {middle:.0f}: are they mm?)"
    )


def _apart_mm(crop: Crops, place_mm: np.ndarray) -> float:
    return float(np.linalg.norm(crop.centre_mm[0].numpy() - place_mm))


def _model(folder: str | Path | None) -> tuple[PoseModel, HandRig, str | None]:
    """Network, hand and side of a model, loaded once."""
    if folder is None:
        return _loaded(None, 0)
    if not isinstance(folder, str | Path):
        raise ValueError(
            f"model must be a folder or file of a model, got {type(folder).__name__}; hrlib.network.checkpoint.save_network "
            "writes one, and hrlib.network.predict takes a network itself"
        )
    path = Path(folder).resolve()
    files = [path, path / NETWORK, path / TRAINED]
    file = next((file for file in files if file.is_file()), path)
    return _loaded(str(path), file.stat().st_mtime_ns if file.is_file() else 0)


@lru_cache(4)
def _loaded(folder: str | None, changed: int) -> tuple[PoseModel, HandRig, str | None]:
    with _apart():
        return load_model(folder)


@contextmanager
def _apart() -> Iterator[None]:
    """Whatever the caller has torch do, what is computed here is the same: a fit needs gradients."""
    with ExitStack() as own:
        own.enter_context(for_every_use())
        own.enter_context(torch.enable_grad())
        yield
