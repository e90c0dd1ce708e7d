"""A folder of depth images as frames: 16-bit PNG, .npy, or NYU's RGB-packed PNG. Each is read when it is asked for."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float
from natsort import natsorted, ns
from PIL import Image

from ..support.decoding import read_array, read_image
from ..support.files import printable
from .camera import Camera
from .frame import Frame

ENCODINGS = ("depth", "nyu")


class DepthFolder(Sequence):
    """Every .png and .npy below a folder as a `Frame` named by its relative path, in natural order (2 before 10).

    A file that cannot be used raises ValueError when its frame is asked for; the message names the file and the remedy.

    Args:
        folder: the depth images.
        camera: a Camera, or (fx, fy) in px: then each image's centre is its principal point.
        unit_mm: millimetres per count of the file (1 for the Kinect, 0.125 for Intel SR305, 1000 for .npy in metres).
        encoding: "depth" (one channel), or "nyu" (RGB PNG, depth = G * 256 + B).
        side: "left" mirrors every frame and its principal point into a right hand. Mirror results back by negating x.
    """

    def __init__(
        self,
        folder: str | Path,
        camera: Camera | tuple[float, ...],
        unit_mm: float = 1.0,
        encoding: str = "depth",
        side: str = "right",
    ):
        self.folder, self.unit_mm, self.encoding, self.side = Path(folder), unit_mm, encoding, side
        self.camera = camera
        if not isinstance(camera, Camera) and len(camera) != 2:
            raise ValueError(f"camera must be a Camera or (fx, fy) in px, got {camera!r}")
        if not unit_mm > 0:
            raise ValueError(f"unit_mm must be a number > 0 (millimetres per count), got {unit_mm!r}")
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding must be one of {ENCODINGS}, got {encoding!r}")
        if side not in ("left", "right"):
            raise ValueError(f'side must be "left" or "right", got {side!r}')
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder} is no folder: name the folder that holds the depth images")
        self.names = natsorted(_images_below(self.folder), alg=ns.PRESORT)
        if not self.names:
            raise ValueError(f"{self.folder} holds no .png and no .npy file, in no folder below it either")

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        path = self.folder / self.names[index]
        depth_mm = read_depth(path, self.unit_mm, self.encoding)
        if isinstance(self.camera, Camera) and depth_mm.shape != self._first[1]:
            (height, width), (first, (first_height, first_width)) = depth_mm.shape, self._first
            raise ValueError(
                f"{path}: {width}x{height} px, but {first} has {first_width}x{first_height}, and one principal "
                "point cannot fit both: split the folder by size, or leave the principal point out (then each image's "
                "centre is taken)"
            )
        frame = Frame(printable(self.names[index]), depth_mm, camera_for(depth_mm.shape, self.camera))
        return mirrored(frame) if self.side == "left" else frame

    @cached_property
    def _first(self) -> tuple[str, tuple[int, int]]:
        """Name and shape of the first frame that can be read."""
        for name in self.names:
            with suppress(ValueError, OSError):
                return name, read_depth(self.folder / name, self.unit_mm, self.encoding).shape
        raise ValueError(f"{self.folder}: none of its {len(self.names)} images can be read")


def _images_below(folder: Path) -> Iterator[str]:
    """Relative paths of the images in a folder and those below it; what cannot be listed is an error, not left out."""

    def fail(error: OSError):
        raise ValueError(f"{error.filename}: cannot be listed ({error.strerror}); allow reading, or move it away")

    seen = {os.path.realpath(folder)}  # a link may lead back
    for place, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        below = {os.path.realpath(Path(place) / name): name for name in sorted(folders) if not name.startswith(".")}
        folders[:] = [name for real, name in below.items() if real not in seen]
        seen |= set(below)
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in (".png", ".npy"):
                yield (Path(place) / name).relative_to(folder).as_posix()


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
    return Frame(frame.name, np.ascontiguousarray(frame.depth_mm[:, ::-1]), camera, mask)


def read_depth(path: str | Path, unit_mm: float = 1.0, encoding: str = "depth") -> Float[np.ndarray, "H W"]:
    """One depth image as float32 in mm, 0 = no measurement. ValueError names the file and the remedy."""
    path = Path(path)
    if path.suffix.lower() == ".npy":
        counts = _counts_of_array(path, read_array(path))
    else:
        counts = _counts_of_image(path, read_image(path), encoding)
    return counts.astype(np.float32) * np.float32(unit_mm)


def _counts_of_image(path, image, encoding):
    if encoding == "nyu":
        if image.mode != "RGB":
            raise ValueError(f'{path}: encoding "nyu" wants an RGB PNG, got mode {image.mode}; use encoding "depth"')
        rgb = np.asarray(image).astype(np.uint16)
        return rgb[..., 1] * 256 + rgb[..., 2]
    if image.mode in ("RGB", "RGBA"):
        raise ValueError(
            f"{path}: a colour image: export depth as 16-bit grey PNG, or, for frames packed as NYU packs them "
            '(depth = G * 256 + B), use encoding "nyu"'
        )
    if not image.mode.startswith("I"):
        raise ValueError(
            f"{path}: 8-bit: depth was probably lost when it was exported (mode {image.mode}); export it as 16-bit PNG "
            "or .npy"
        )
    return np.asarray(image)


def _counts_of_array(path, depth):
    if getattr(depth, "ndim", None) != 2:  # an .npz of that name is no array
        raise ValueError(f"{path}: wanted one image [H, W], got shape {np.shape(depth)}; save one file per frame")
    if depth.dtype.kind not in "uif":
        raise ValueError(f"{path}: wanted numbers, got dtype {depth.dtype}; save depth as uint16 or float32")
    if not np.isfinite(depth).all() or (depth < 0).any():
        raise ValueError(f"{path}: holds NaN, infinite or negative values; mark missing measurements with 0")
    return depth


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
