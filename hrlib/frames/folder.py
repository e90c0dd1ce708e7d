"""A folder of depth images as frames: PNG, TIFF, PGM, .npy or .npz, one or many in a file. Each is read when asked for."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image

from ..support.checks import SIDES, require_one_of
from ..support.decoding import read_pixels
from ..support.files import check_regular, printable
from .camera import Camera
from .encodings import ENCODINGS, PACKED, refuse_colours, unpacked
from .frame import Frame
from .intrinsics import AnyCamera, as_camera
from .listing import DEPTH_ENDINGS, MOST_NAMED, endings_below, frames_at, in_order
from .quality import FARTHEST_MM, largest_mark, measurements, only_negative, without_gaps
from .recordings import recording_at
from .recordings.recording import Recording

ARRAYS = (".npy", ".npz")
LOOKS = 5  # frames of a folder that tell the size of most


class DepthFolder(Sequence):
    """Every depth image below a folder as a `Frame` named by its relative path, in the order of their numbers (2 before 10).

    A file of many frames (an array [T, H, W], a TIFF of many pages) gives frames named by its stem and their number: seq:000.
    Sparse grids are filled (`quality.without_gaps`). A file that cannot be used raises ValueError when its frame is asked for;
    the message names the file and the remedy.

    Args:
        folder: the depth images, or one file of them; also what a recorder left (`recordings`).
        camera: a Camera, or what other libraries have of one (`intrinsics.as_camera`). Of (fx, fy) alone, in px, each image's
            centre is the principal point. None: as the recorder says.
        unit_mm: millimetres per count of the file (1 for the Kinect, 0.125 for Intel SR305, 1000 for .npy in metres). None: as
            the recorder says, or else 1.
        encoding: "depth" (one channel), or how a colour image packs depth: one of `encodings.PACKED`.
        side: "left" mirrors every frame and its principal point into a right hand. Mirror results back by negating x.
    """

    def __init__(
        self,
        folder: str | Path,
        camera: AnyCamera | None = None,
        unit_mm: float | None = None,
        encoding: str = "depth",
        side: str = "right",
    ):
        self.folder, self.encoding, self.side = Path(folder), encoding, side
        camera = None if camera is None else as_camera(camera)
        if unit_mm is not None and not (isinstance(unit_mm, int | float | np.number) and 0 < unit_mm < np.inf):
            raise ValueError(f"unit_mm must be a finite number > 0 (millimetres per count), got {unit_mm!r}")
        require_one_of(ENCODINGS, encoding=encoding)
        require_one_of(SIDES, side=side)
        if not self.folder.exists():
            raise FileNotFoundError(f"{self.folder} is no folder: name the folder that holds the depth images")
        if not self.folder.is_dir():
            check_regular(self.folder)
        self.recording = recording_at(self.folder)
        told = self.recording or Recording("a folder", frames_at(self.folder))
        self.places, self.camera, self.unit_mm = told.places, camera or told.camera, unit_mm or told.unit_mm or 1.0
        if self.camera is None:
            raise ValueError(
                f"{self.folder} does not tell its camera: say camera=(fx, fy) in px (--camera FX FY [CX CY])"
            )
        self.names, equal = in_order(self.places)
        self.equal = [tuple(map(printable, pair)) for pair in equal]  # names whose numbers do not tell their order
        if not self.names:
            there = ", ".join(sorted(endings_below(self.folder))[:MOST_NAMED]) or "no file"
            raise ValueError(
                f"{self.folder} holds no {', '.join(DEPTH_ENDINGS)} file, in no folder below it either; it has {there}"
            )

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        name = self.names[index]
        depth_mm = self._depth_mm(name)
        if isinstance(self.camera, Camera) and depth_mm.shape != self._usual[1]:
            (height, width), (other, (other_height, other_width)) = depth_mm.shape, self._usual
            raise ValueError(
                f"{self.places[name].path}: {width}x{height} px, but {other} has {other_width}x{other_height}, and one "
                "principal point cannot fit both: split the folder by size, or leave the principal point out (then each "
                "image's centre is taken)"
            )
        depth_mm, filled = without_gaps(depth_mm)
        frame = Frame(printable(name), depth_mm, camera_for(depth_mm.shape, self.camera), filled=filled)
        return mirrored(frame) if self.side == "left" else frame

    def _depth_mm(self, name: str) -> np.ndarray:
        place = self.places[name]
        read = read_pixels if self.recording is None else self.recording.read
        return in_mm(read(place.path, place.page), place.path, self.unit_mm, self.encoding)

    @cached_property
    def _usual(self) -> tuple[str, tuple[int, int]]:
        """The shape of most frames, judged by `LOOKS` evenly taken ones that can be read, and the first name that has it."""
        shapes: dict[tuple[int, int], list[str]] = {}
        some = self.names[:: max(1, len(self.names) // LOOKS)]
        for name in (*some, *self.names):
            if sum(map(len, shapes.values())) >= min(LOOKS, len(some)):
                break
            with suppress(ValueError, OSError):
                shapes.setdefault(self._depth_mm(name).shape, []).append(name)
        if not shapes:
            raise ValueError(f"{self.folder}: none of its {len(self.names)} images can be read")
        shape = max(shapes, key=lambda shape: len(shapes[shape]))
        return shapes[shape][0], shape


def camera_for(shape: tuple[int, int], camera: Camera | tuple[float, float]) -> Camera:
    """A Camera as it is; (fx, fy) with the centre of an image of shape (H, W) as principal point."""
    return camera if isinstance(camera, Camera) else Camera(*camera, (shape[1] - 1) / 2, (shape[0] - 1) / 2)


def mirrored(frame: Frame) -> Frame:
    """The frame as a mirror shows it: a left hand becomes a right one, x becomes -x."""
    if frame.truth is not None:
        raise ValueError(f"{frame.name}: a frame with known truth cannot be mirrored; simulate the other hand instead")
    width = frame.depth_mm.shape[1]
    camera = Camera(frame.camera.fx, frame.camera.fy, width - 1 - frame.camera.cx, frame.camera.cy)
    mask = None if frame.mask is None else np.ascontiguousarray(frame.mask[:, ::-1])
    return replace(frame, depth_mm=np.ascontiguousarray(frame.depth_mm[:, ::-1]), camera=camera, mask=mask)


def read_depth(
    path: str | Path, unit_mm: float = 1.0, encoding: str = "depth", page: int | None = None
) -> Float[np.ndarray, "H W"]:
    """One depth image as float32 in mm, 0 = no measurement: so is all that `quality.measurements` leaves out.

    Args:
        path: the file.
        unit_mm, encoding: see `DepthFolder`.
        page: number of the frame in a file of many.

    Raises:
        ValueError: names the file and the remedy.
    """
    return in_mm(read_pixels(Path(path), page), Path(path), unit_mm, encoding)


def in_mm(
    counts: Shaped[np.ndarray, "H W *channels"], path: Path, unit_mm: float, encoding: str = "depth"
) -> Float[np.ndarray, "H W"]:
    """What a file holds as `read_depth` returns it.

    Args:
        counts: of the file.
        path: of the file, for messages.
        unit_mm, encoding: see `DepthFolder`.

    Raises:
        ValueError: that is no depth; names the file and the remedy.
    """
    most = largest_mark(counts.dtype)
    if counts.ndim == 3:
        if encoding == "depth" or counts.dtype != np.uint8:
            refuse_colours(counts, path)
        most = 256 ** len(PACKED[encoding][0]) - 1
        counts = unpacked(counts, encoding, path)
    elif encoding != "depth":
        raise ValueError(
            f"{path}: encoding {encoding} wants colours, got one channel of {counts.dtype}; leave --encoding out"
        )
    elif counts.dtype.kind not in "uif":
        raise ValueError(f"{path}: wanted numbers, got dtype {counts.dtype}; save depth as uint16 or float32")
    elif counts.dtype == np.uint8 and path.suffix.lower() not in ARRAYS:
        raise ValueError(
            f"{path}: 8-bit: depth was probably lost when it was exported; export it as 16-bit PNG or .npy"
        )
    if counts.dtype.kind in "if" and only_negative(counts):
        raise ValueError(f"{path}: all depths are negative, as along an axis towards the viewer; save -depth")
    with np.errstate(over="ignore"):
        depth_mm = np.multiply(counts, np.float32(unit_mm), dtype=np.float32, casting="unsafe")
    if counts.dtype.kind == "u" and counts.max(initial=0) < most and depth_mm.max(initial=0) < FARTHEST_MM:
        return depth_mm  # as most cameras save: nothing to look for
    return measurements(np.where(counts < most, depth_mm, np.float32(0)))


def write_folder(
    frames: Iterable[Frame], folder: str | Path, camera: Camera, size: tuple[int, int], unit_mm: float = 1.0
) -> None:
    """Write frames as one camera would have recorded them: 16-bit PNGs.

    A frame that shows a part of the image, with its own principal point, is put in its place to the nearest pixel.
    Raises ValueError for another focal length, or for depths beyond 16 bits.

    Args:
        frames: as `camera` sees them, or parts of it.
        folder: made if missing; the images are 00000.png and so on.
        camera: of all images.
        size: (H, W) of all images, px.
        unit_mm: millimetres per count.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        if abs(frame.camera.fx - camera.fx) > 0.5 or abs(frame.camera.fy - camera.fy) > 0.5:
            raise ValueError(f"{frame.name} was taken with a focal length of {frame.camera.fx} px, not {camera.fx}")
        counts = np.round(frame.depth_mm / unit_mm)
        if counts.max(initial=0) > 65535:
            raise ValueError(
                f"{frame.name} is up to {frame.depth_mm.max():.0f} mm deep: take a larger unit_mm than {unit_mm}"
            )
        image, (height, width) = np.zeros(size, np.uint16), counts.shape
        top, left = round(camera.cy - frame.camera.cy), round(camera.cx - frame.camera.cx)
        shown = image[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
        shown[:] = counts[max(-top, 0) :, max(-left, 0) :][: shown.shape[0], : shown.shape[1]]
        Image.fromarray(image).save(Path(folder) / f"{number:05d}.png")
