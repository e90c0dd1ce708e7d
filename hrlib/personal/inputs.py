"""What to doubt about the files of a folder as such: their order, and what was done to the depth in them."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from statistics import median

from ..frames.camera import Camera
from ..frames.frame import Frame
from ..frames.listing import shown_twice
from ..frames.quality import coarse_step_mm
from ..support.decoding import CAMERA_SIZES
from ..support.files import printable
from .doubt import Doubt
from .stream import some_frames

# of width to height, as cameras and programs have them: 4:3, 16:9, 16:10, 5:4, 3:2, 1:1, and those of known depth cameras
SHAPES = {4 / 3, 16 / 9, 16 / 10, 5 / 4, 3 / 2, 1.0, *(width / height for width, height in CAMERA_SIZES)}
OTHER_SHAPE = 0.01  # difference of such ratios that is not rounding
OTHER_CAMERA = 0.02  # difference of focal lengths; cameras of one kind differ by about 0.01
LOOKS = 5  # frames of a folder that are alike in this


def file_doubts(frames: Sequence[Frame], looked: Sequence[Frame] = ()) -> Iterator[Doubt]:
    """Doubts, a line each.

    Args:
        frames: a folder.
        looked: some frames of it that have been read; else a few are.
    """
    yield from _against_recorder(frames)
    for one, other in getattr(frames, "equal", ())[:1]:
        yield Doubt(
            f"{one} and {other} have the same number", "they are taken in this order", "rename one, or see --files"
        )
    if twice := shown_twice(getattr(frames, "names", ())):
        yield Doubt(
            f"{printable(twice[0])} and {printable(twice[1])} look like one frame, and so do others",
            "they are read one after the other, as twice the frames",
            "name the folder of one kind, or see --files",
        )
    with suppress(ValueError):  # no file can be read: there is more to tell than doubts
        looked = looked[:: max(1, len(looked) // LOOKS)] or some_frames(frames, LOOKS)
    yield from _odd_shape(frames, looked)
    steps = [step for frame in looked if (step := coarse_step_mm(frame.depth_mm))]
    if len(steps) > len(looked) / 2:
        yield Doubt(
            f"the depths are steps of {median(steps):.1f} mm",
            "depth was saved with 8 bits on the way",
            "export it as 16-bit PNG or .npy",
        )
    filled = median(frame.filled for frame in looked) if looked else 0.0
    if filled > 0:
        yield Doubt(
            f"{filled:.0%} of the pixels between measured ones are empty, and were filled",
            "depth was put onto a larger image, or the sensor misses many",
            "take depth as its sensor measures it, with the numbers of its own camera",
        )


def _odd_shape(frames: Sequence[Frame], looked: Sequence[Frame]) -> Iterator[Doubt]:
    """Images of no camera's shape, whose middle is taken for the principal point as nothing else is said."""
    if not looked or not isinstance(getattr(frames, "camera", None), tuple) or getattr(frames, "recording", None):
        return
    height, width = looked[0].depth_mm.shape
    if min(abs(max(width, height) / min(width, height) / shape - 1) for shape in SHAPES) > OTHER_SHAPE:
        yield Doubt(
            f"no depth camera has images of {width} x {height} px",
            "they were cropped, padded or squashed, and --camera FX FY takes their middle for the principal point",
            "say --camera FX FY CX CY, with the numbers changed as the images were",
        )


def _against_recorder(frames: Sequence[Frame]) -> Iterator[Doubt]:
    """Where the user's numbers are not those of the recorder's own files."""
    told = getattr(frames, "recording", None)
    if told is None:
        return
    if told.camera is not None:
        focal = (frames.camera.fx, frames.camera.fy) if isinstance(frames.camera, Camera) else frames.camera
        if any(
            abs(own / given - 1) > OTHER_CAMERA
            for own, given in zip((told.camera.fx, told.camera.fy), focal, strict=True)
        ):
            yield Doubt(
                f"--camera says focal lengths of {focal[0]:g} and {focal[1]:g} px",
                f"{told.told_by} says {told.camera.fx:g} and {told.camera.fy:g}",
                "leave --camera out, unless the images were resized",
            )
    if told.unit_mm is not None and abs(told.unit_mm / frames.unit_mm - 1) > OTHER_CAMERA:
        yield Doubt(
            f"--unit-mm says {frames.unit_mm:g}",
            f"the files of {told.kind} say {told.unit_mm:g}",
            "leave --unit-mm out",
        )
