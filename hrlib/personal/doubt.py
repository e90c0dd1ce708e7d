"""What to doubt about a folder, in one place: check, predict and refine tell the same. A wrong result may look like a good one.

`gather` collects what frames, camera and model say (`Evidence`); `doubts` draws the conclusions.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import atan, degrees
from typing import Self

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..frames.camera import Camera
from ..frames.crops import Crops, evenly, in_mirror
from ..frames.find import LEAST_HAND
from ..frames.finder import SURE, find_hand, places
from ..frames.frame import Frame
from ..hand.rig import HandRig
from ..network.known import knows_many, seen_shape, told
from ..network.model import PoseModel
from ..network.predict import predict
from ..refine.confidence import confidence
from .side import LOOKS, Sides, compare_sides, settle_side
from .size import apparent_size, fitting_unit
from .stream import crops_of

DEPTHS = 11  # every so many of a frame's depths are enough for a median
TWO_LOOKS = 5  # frames in which another hand is looked for
FEWEST_TOLD = 5  # frames: what is seen of a hand's shape in fewer is too much of the pose

# Bounds of what is usual. Those of the camera leave out no depth camera that we know the numbers of; those of the hand were
# chosen on users A-D and on hands of the population (benchmarks/bench_doubt.py), and three (the greatest and least size, parts
# of images) moved a little after real frames of SR305 and ASL had been warned or not
SQUARE = 1.25  # ratio of the focal lengths: pixels are nearly square
# of the principal point from the image's middle, as shares of width and height. Azure Kinect's lies 0.085 of its height off
MIDDLE = 0.06, 0.09
FIELD_DEG = 40.0, 105.0  # horizontal field of view: 57 (Kinect v1) to 91 (Azure Kinect, undistorted wide field)
PART_DEG = 25.0  # images with a narrower one are parts of larger ones, which a data set of hands has on purpose
SAME_FACTOR = 0.05  # difference of a resized image's two factors
FACTORS = (0.125, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.5, 2.0, 2.5, 3.0, 4.0)  # that images are resized by
SHARES = 3.0  # four numbers below are no pixels
# apparent size, of the template, which has the length of an average woman's hand; 150 mm look like 0.75 to 0.8, 216 like 1.1.
# Where the model explains the frames badly in any size, hands look smaller than they are, and only what is far outside counts
SMALLEST, LARGEST = 0.775, 1.25
FAR_SMALLER, EXPLAINED = 0.53, 0.4
SHRUNK = 1.5  # made smaller by this, usual hands look like 0.63 to 0.78, and those of 1.8 to 2.2 like 1.17 to 1.29
LARGE, MOST_TIMES = 1.1, 3  # of the template: from here on a hand is measured again, in a larger cube, at most so often
LEAST_FOUND = 0.5  # share of the frames that show something of a hand's size
LEAST_LIKENESS = 0.35  # median; what is no hand has 0.1. Small adults' hands have 0.47 and more
LEAST_CONFIDENCE = 0.2  # median: folders of a smaller one are more than 25 mm off
UNSURE = 0.5  # standard errors between the two hands: with fewer the side is a guess
LEAST_MASKED = 0.5  # median share of the finder's hand that lies within the masks
MOST_TWO = 0.5  # share of the frames in which another hand is no chance
APART_MM = 120.0  # of two hands' centres
LEAST_DEPTH_MM, MOST_DEPTH_MM = 150.0, 3000.0  # median of all depths: outside, the unit is probably wrong
NEAR_MM, FAR_MM = 250.0, 1000.0  # of the hand; the base model has learnt from hands 350 to 950 mm away


class Doubt(str):
    """One line for the user, made of its parts."""

    what: str  # is doubtful
    because: str  # of what was seen
    remedy: str  # what to do

    def __new__(cls, what: str, because: str, remedy: str) -> Self:
        line = super().__new__(cls, f"{what}: {because}; {remedy}")
        line.what, line.because, line.remedy = what, because, remedy
        return line


@dataclass(frozen=True)
class Evidence:
    """What doubts rest on. What is None was not measured, mostly since no hand was found."""

    camera: Camera
    image: tuple[int, int]  # (H, W) px
    side: str = "right"  # as which the frames are to be read
    given: str | None = None  # the side as the user says it
    model: str | None = None  # the side of which a personal model is
    found: float = 1.0  # share of the frames that show something of a hand's size
    sides: Sides | None = None  # how well both hands explain the frames
    size: float | None = None  # the hand's apparent one, as a factor of the template
    shape: Float[Tensor, "8"] | None = None  # `HandShape.numbers` that the network sees, if it is to be told any
    confidence: float | None = None  # median of predictions by the model that knows the shape
    likeness: float | None = None  # to a hand, median
    distance_mm: float | None = None  # of the hand along z, median
    masked: float | None = None  # median share of the finder's hand within the masks, where there are masks
    depth_mm: float | None = None  # median of all depths
    other_unit: float | None = None  # factor of the unit with which a hand is found, where none is without
    hands: float = 0.0  # share of the frames that show more than one hand


@dataclass(frozen=True)
class KnownSide:
    """What is known of a hand's side before its frames are looked at."""

    read_as: str = "right"  # the side as which the frames were read
    given: str | None = None  # as the user says it, if at all
    model: str | None = None  # of which a personal model is; None for the base model


def gather(
    net: PoseModel, hand: HandRig, frames: Sequence[Frame], crops: Crops | None, known: KnownSide = KnownSide()
) -> Evidence:
    """What some frames of a folder say.

    Args:
        net, hand: the model that is to predict.
        frames: some of the folder, at least one.
        crops: of these, or of others of the folder; None if there is no hand.
        known: of the side.
    """
    read_as, given, model = known.read_as, known.given, known.model
    of_all = Evidence(frames[0].camera, frames[0].depth_mm.shape, given or model or "right", given, model)
    some = [frames[i] for i in evenly(len(frames), LOOKS).tolist()]
    right, masked = finder_says(some)
    depths = np.concatenate([frame.depth_mm[frame.depth_mm > 0][::DEPTHS] for frame in some])
    of_all = replace(of_all, masked=masked, depth_mm=float(np.median(depths)) if len(depths) else None)
    if crops is None:
        return replace(of_all, found=0.0, other_unit=fitting_unit(net, hand, some))
    of_all = replace(
        of_all, hands=float(np.mean([_shows_two(frame) for frame in some[:: max(1, len(some) // TWO_LOOKS)]]))
    )
    right = right if right is None or read_as == "right" else 1 - right
    size = whole_size(net, hand, frames, crops)
    sides = replace(compare_sides(net, hand, crops, read_as, size), finder=right)
    side = settle_side(given, model, sides)
    crops = crops if side == read_as else in_mirror(crops)
    tells_shape = knows_many(net) and net.known is None and len(crops) >= FEWEST_TOLD
    shape = seen_shape(net, crops) if tells_shape else None
    (net, hand), some = told(net, hand, shape), crops[evenly(len(crops), LOOKS)]
    sure = confidence(predict(net, some), hand, some).median().item()
    seen = {"side": side, "sides": sides, "size": size, "shape": shape, "confidence": sure}
    return replace(of_all, **seen, distance_mm=crops.centre_mm[:, 2].median().item())


def whole_size(net: PoseModel, hand: HandRig, frames: Sequence[Frame], crops: Crops) -> float:
    """`apparent_size` of a hand of any size. One of twice the template's may look usual: the crop's cube holds a part of it."""
    size = apparent_size(net, hand, crops)
    if 1 <= size < LARGE:
        beyond = _size_of(net, hand, frames, SHRUNK)
        size = size if beyond < 1 else SHRUNK * beyond
    return size if size < LARGE else size * larger(net, hand, frames, size)


def _size_of(net: PoseModel, hand: HandRig, frames: Sequence[Frame], smaller: float) -> float:
    """The size in some of the frames, made smaller by a factor; 0 where no hand is found in them."""
    crops = crops_of(replace(f, depth_mm=f.depth_mm / np.float32(smaller)) for f in frames[: LOOKS // 2])
    return 0.0 if crops is None else apparent_size(net, hand, crops)


def larger(net: PoseModel, hand: HandRig, frames: Sequence[Frame], size: float) -> float:
    """How many times `size` a large hand is: the crop's cube has cut it, which the same frames in another unit have not."""
    factor = 1.0
    for _ in range(MOST_TIMES):
        beyond = _size_of(net, hand, frames, size * factor) or 1.0
        factor *= beyond
        if beyond < LARGE:
            break
    return factor


def _shows_two(frame: Frame) -> bool:
    """Whether the finder is sure of hands in two places of a frame without a mask."""
    if frame.mask is not None:
        return False
    depth_mm = np.ascontiguousarray(frame.depth_mm, np.float32)
    seen = [find_hand(depth_mm, frame.camera, place, side=False) for place in places(depth_mm, frame.camera)]
    hands = [frame.camera.cloud(frame.depth_mm, found.mask) for found in seen if found.hand > SURE]
    centres = np.array([points.mean(0) for points in hands if len(points)])
    return len(centres) > 1 and float(np.linalg.norm(centres - centres[:1], axis=1).max()) > APART_MM


def finder_says(frames: Iterable[Frame]) -> tuple[float | None, float | None]:
    """What the hand finder, which knows both hands and no masks, says of frames; None where it sees no hand.

    Returns:
        The mean probability of a right hand in frames without masks, and the median share of the hand within the masks of the
        others.
    """
    right, masked = [], []
    for frame in frames:
        seen = find_hand(frame.depth_mm, frame.camera)
        if seen is None or seen.hand < LEAST_HAND:
            continue
        if frame.mask is None:
            right.append(seen.right)
        elif seen.mask.any():
            masked.append(frame.mask[seen.mask].mean())
    return float(np.mean(right)) if right else None, float(np.median(masked)) if masked else None


def doubts(e: Evidence) -> tuple[Doubt, ...]:
    """All that is doubtful, a line each."""
    camera = tuple(camera_doubts(e.camera, e.image, parts=e.size is not None))
    if any("would fit" in doubt.remedy for doubt in camera):  # a unit that fits the wrong numbers is wrong itself
        e = replace(e, other_unit=None)
    return (*camera, *side_doubts(e.side, e.given, e.model, e.sides), *_hand_doubts(e))


def _hand_doubts(e: Evidence) -> Iterator[Doubt]:
    if e.masked is not None and e.masked < LEAST_MASKED:
        yield Doubt(
            "the masks do not fit the frames",
            f"{1 - e.masked:.0%} of the hand that is seen without them lies outside of them",
            "masks are 0 except on the hand: invert them, or see that each has the name of its own depth image",
        )
    if e.size is None:
        if e.other_unit is not None:
            yield Doubt(
                "no hand is found, but there is one in the same frames made smaller or larger",
                "the unit or the focal lengths are wrong",
                f"try --unit-mm times {e.other_unit:.3g}, or focal lengths times {1 / e.other_unit:.3g}; if near is large in "
                "the files, they hold disparities: depth = focal length x baseline / disparity",
            )
        elif e.depth_mm and not LEAST_DEPTH_MM < e.depth_mm < MOST_DEPTH_MM:
            yield unit_doubt(e.depth_mm)
        return
    if e.hands > MOST_TWO:
        yield Doubt(
            f"two hands are in view in {e.hands:.0%} of the frames",
            "the clearest one is taken, in each frame anew",
            "keep the other out of the image, or mark the one with --masks",
        )
    if e.found < LEAST_FOUND:
        yield Doubt(
            f"a hand is found in {e.found:.0%} of the frames only",
            "the others have nothing of a hand's size and distance",
            "check --unit-mm and --camera, and that one hand is held towards the camera",
        )
    if not NEAR_MM < e.distance_mm < FAR_MM:
        yield Doubt(
            f"the hand is {e.distance_mm:.0f} mm away",
            "300 to 900 mm is what the base model knows best",
            "check --unit-mm, or record again",
        )
    if _odd_size(e):  # then all the rest may follow from it
        yield size_doubt(e.size)
    elif e.likeness is not None and e.likeness < LEAST_LIKENESS:
        yield Doubt(
            "what is found does not look like a hand",
            f"its median likeness is {e.likeness:.2f}, hands have 0.5 and more",
            "check that the hand is what is nearest to the camera, --camera and --unit-mm",
        )
    elif e.confidence < LEAST_CONFIDENCE:
        yield Doubt(
            "the joints are probably wrong in most frames",
            f"the median confidence is {e.confidence:.2f}",
            "check --camera, --unit-mm, --side, and that the images are upright; hrlib refine --check-only tells more",
        )


def _odd_size(e: Evidence) -> bool:
    explained = max(e.sides.right, e.sides.left) >= EXPLAINED
    return not (SMALLEST if explained else FAR_SMALLER) <= e.size <= LARGEST


def unit_doubt(depth_mm: float) -> Doubt:
    """Of frames without a hand, half of whose depths are beyond or below `depth_mm`."""
    side = "beyond" if depth_mm > MOST_DEPTH_MM else "below"
    units = "1 for Kinect, 0.125 for SR305, 0.2 for TUM, 0.25 for L515, 1000 for files in metres"
    return Doubt(
        "the unit is probably wrong", f"half of all depths are {side} {depth_mm:.0f} mm", f"check --unit-mm ({units})"
    )


def size_doubt(size: float) -> Doubt:
    """Of a hand that is `size` times as large as the template, with the factor that would make it usual."""
    who = "a child's hand, or the camera's numbers are wrong" if size < 1 else "the camera's numbers are probably wrong"
    remedy = f"--unit-mm times {1 / size:.2f}, or focal lengths times {size:.2f}, would make it usual"
    return Doubt(f"the hand looks {size:.2f} times as large as an adult's", who, remedy)


# -- the side -------------------------------------------------------------------------------------------------------------


def side_doubts(side: str, given: str | None, model: str | None, sides: Sides | None) -> Iterator[Doubt]:
    """About the side as which frames are read; arguments as in `Evidence`."""
    if given and model and given != model:
        yield Doubt(
            f"the model is of a {model} hand, and --side {given} overrules it",
            "each hand has a model of its own",
            f"leave --side out, or take a model of the {given} hand",
        )
    if sides and sides.sure and sides.side != side:
        what = f"the frames show a {sides.side} hand and are taken for a {side} one"
        yield Doubt(what, str(sides), f"see --side {sides.side}, and whether the camera saves mirror images")
    if sides and not (given or model) and sides.strength < UNSURE:
        yield Doubt(f"the frames tell the side badly and are taken for a {side} hand", str(sides), "say it with --side")


# -- the camera -----------------------------------------------------------------------------------------------------------


def camera_doubts(camera: Camera, image: tuple[int, int], parts: bool = True) -> Iterator[Doubt]:
    """About a camera's four numbers, which may be in another order, or of another image.

    Args:
        camera: as the user gives it.
        image: (H, W) px.
        parts: whether images may be small parts of larger ones; they may not if no hand is found in them.
    """
    height, width = image
    numbers = camera.fx, camera.fy, camera.cx, camera.cy
    far_off = max(camera.fx / camera.fy, camera.fy / camera.fx) > SQUARE
    if not far_off and camera.fx != camera.cx and _in_middle(camera, image):
        yield from _field_doubts(camera, width, PART_DEG if parts else 0.0)
        return
    what = f"the numbers of --camera do not fit an image of {width} x {height} px"
    reordered = [Camera(*some) for some in permutations(numbers) if min(some[:2]) > 0]
    fits = [some for some in reordered if some != camera and _in_middle(some, image) and _usual(some, width)]
    if far_off:
        because = f"the focal lengths, {camera.fx:g} and {camera.fy:g} px, are far apart"
    elif 0 <= camera.cx < width and 0 <= camera.cy < height:
        middle = f"({(width - 1) / 2:g}, {(height - 1) / 2:g})"
        because = f"the principal point, ({camera.cx:g}, {camera.cy:g}), is far from its middle, {middle}"
        because = because if camera.fx != camera.cx else "the principal point CX equals the focal length FX"
    else:
        because = f"the principal point, ({camera.cx:g}, {camera.cy:g}), is outside of the image"
    yield Doubt(what, because, _camera_remedy(camera, image, fits))


def _camera_remedy(camera: Camera, image: tuple[int, int], fits: list[Camera]) -> str:
    """The numbers that would fit, if any do."""
    order = "the order of --camera is FX FY CX CY"
    if fits:
        best = min(fits, key=lambda some: abs(np.log(some.fx / some.fy)))
        turned = " (or the images are turned by 90 degrees)" if {best.fx, best.fy} == {camera.fx, camera.fy} else ""
        return f"{order}, and {best.fx:g} {best.fy:g} {best.cx:g} {best.cy:g} would fit{turned}"
    if max(camera.fx, camera.fy, camera.cx, camera.cy) < SHARES:
        return "they look like shares of the image's size: FX and CX times its width, FY and CY times its height, in pixels"
    if camera.cx > 0 and camera.cy > 0:
        across, down = image[1] / (2 * camera.cx + 1), image[0] / (2 * camera.cy + 1)
        if abs(np.log(across / down)) < SAME_FACTOR < abs(np.log(across)):
            factor = next((f for f in FACTORS if abs(np.log(across / f)) < SAME_FACTOR), across)
            was = f"{image[1] / factor:.0f} x {image[0] / factor:.0f}"
            return f"if the images were resized from {was} px, all four numbers go with them: times {factor:.3g}"
    return (
        f"{order}; CX and CY go with images that were cropped or padded; without them the image's middle is taken. Where "
        "images are parts of larger ones, it may be right"
    )


def _in_middle(camera: Camera, image: tuple[int, int]) -> bool:
    (height, width), (aside, above) = image, MIDDLE
    off = abs(camera.cx - (width - 1) / 2) / width, abs(camera.cy - (height - 1) / 2) / height
    return off[0] <= aside and off[1] <= above


def _usual(camera: Camera, width: int) -> bool:
    narrow, wide = FIELD_DEG
    return max(camera.fx / camera.fy, camera.fy / camera.fx) < SQUARE and narrow <= _field_deg(camera, width) <= wide


def _field_deg(camera: Camera, width: int) -> float:
    return 2 * degrees(atan(width / 2 / camera.fx))


def _field_doubts(camera: Camera, width: int, part_deg: float) -> Iterator[Doubt]:
    field, (narrow, wide) = _field_deg(camera, width), FIELD_DEG
    if field > wide or part_deg < field < narrow:
        covers = f"with FX {camera.fx:g} px, {width} px cover {field:.0f} degrees, and depth cameras {narrow:.0f} to {wide:.0f}"
        remedy = (
            "check FX and FY, which go with the images' size. Where images are parts of larger ones, they may be right"
        )
        yield Doubt("the focal length is unusual", covers, remedy)
