"""A folder of depth images as frames: 16-bit PNG, .npy, or NYU's RGB-packed PNG, decoded one by one when asked for."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .camera import Camera
from .frame import Frame

ENCODINGS = ("depth", "nyu")


class DepthFolder(Sequence):
    """Every .png and .npy below a folder, in natural order (2 before 10), as `Frame`s named by their relative path.

    camera: a Camera, or (fx, fy) in px: then each image's centre is its principal point.
    unit_mm: millimetres per count of the file (1 for the Kinect, 0.125 for Intel SR305, 1000 for .npy in metres).
    encoding: "depth" (one channel), or "nyu" (RGB PNG, depth = G * 256 + B).
    side: "left" mirrors every frame and its principal point, so that all that follows sees a right hand; mirror what
    comes out back by negating x.

    A file that cannot be used raises ValueError when its frame is asked for; the message names the file and the remedy.
    """

    def __init__(
        self,
        folder: str | Path,
        camera: Camera | tuple[float, float],
        unit_mm: float = 1.0,
        encoding: str = "depth",
        side: str = "right",
    ):
        self.folder, self.unit_mm, self.encoding, self.side = Path(folder), unit_mm, encoding, side
        self.camera = camera if isinstance(camera, Camera) else tuple(camera)
        if not isinstance(camera, Camera) and len(self.camera) != 2:
            raise ValueError(f"camera must be a Camera or (fx, fy) in px, got {camera!r}")
        if not unit_mm > 0:
            raise ValueError(f"unit_mm must be a number > 0 (millimetres per count), got {unit_mm!r}")
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding must be one of {ENCODINGS}, got {encoding!r}")
        if side not in ("left", "right"):
            raise ValueError(f'side must be "left" or "right", got {side!r}')
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder} is no folder: name the folder that holds the depth images")
        files = (path for path in self.folder.rglob("*") if path.suffix.lower() in (".png", ".npy"))
        relative = (path.relative_to(self.folder) for path in files if not path.name.startswith("."))
        self.names = sorted((path.as_posix() for path in relative), key=natural_order)
        if not self.names:
            raise ValueError(f"{self.folder} holds no .png and no .npy file, in no folder below it either")
        self._shape = None

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        name = self.names[index]
        path = self.folder / name
        depth_mm = read_depth(path, self.unit_mm, self.encoding)
        if isinstance(self.camera, Camera):
            self._require_one_size(path, depth_mm.shape)
        frame = Frame(name, depth_mm, camera_for(depth_mm.shape, self.camera))
        return mirrored(frame) if self.side == "left" else frame

    def _require_one_size(self, path, shape):
        if self._shape is None:
            first = self.folder / self.names[0]
            self._shape = shape if path == first else read_depth(first, self.unit_mm, self.encoding).shape
        if shape != self._shape:
            raise ValueError(
                f"{path}: {shape[1]}x{shape[0]} px, but {self.names[0]} has {self._shape[1]}x{self._shape[0]}, and one "
                "principal point cannot fit both: split the folder by size, or leave the principal point out (then "
                "each image's centre is taken)"
            )


def natural_order(name: str):
    """Sort key that reads runs of digits as numbers: frame_2 before frame_10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"([0-9]+)", name)]


def camera_for(shape: tuple[int, int], camera: Camera | tuple[float, float]) -> Camera:
    """A Camera as it is; (fx, fy) with the centre of an image of shape (H, W) as principal point."""
    if isinstance(camera, Camera):
        return camera
    return Camera(*camera, (shape[1] - 1) / 2, (shape[0] - 1) / 2)


def mirrored(frame: Frame) -> Frame:
    """The frame as a mirror shows it: a left hand becomes a right one, x becomes -x."""
    if frame.truth is not None:
        raise ValueError(f"{frame.name}: a frame with known truth cannot be mirrored; simulate the other hand instead")
    width = frame.depth_mm.shape[1]
    camera = Camera(frame.camera.fx, frame.camera.fy, width - 1 - frame.camera.cx, frame.camera.cy)
    mask = None if frame.mask is None else np.ascontiguousarray(frame.mask[:, ::-1])
    return Frame(frame.name, np.ascontiguousarray(frame.depth_mm[:, ::-1]), camera, mask)


def read_depth(path: str | Path, unit_mm: float = 1.0, encoding: str = "depth") -> np.ndarray:
    """One depth image as [H, W] float32 in mm, 0 = no measurement. ValueError names the file and the remedy."""
    path = Path(path)
    counts = _read_npy(path) if path.suffix.lower() == ".npy" else _read_png(path, encoding)
    return counts.astype(np.float32) * np.float32(unit_mm)


def _read_png(path, encoding):
    try:
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a PNG ({error}); copy it again, or remove it") from error
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


def _read_npy(path):
    try:
        depth = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as .npy ({error}); save it again with numpy.save") from error
    if getattr(depth, "ndim", None) != 2:
        raise ValueError(f"{path}: wanted one image [H, W], got shape {np.shape(depth)}; save one file per frame")
    if depth.dtype.kind not in "uif":
        raise ValueError(f"{path}: wanted numbers, got dtype {depth.dtype}; save depth as uint16 or float32")
    if not np.isfinite(depth).all() or (depth < 0).any():
        raise ValueError(f"{path}: holds NaN, infinite or negative values; mark missing measurements with 0")
    return depth


def write_folder(frames, folder: str | Path, camera: Camera, size: tuple[int, int], unit_mm: float = 1.0) -> None:
    """Frames as one camera would have recorded them: 16-bit PNGs (H, W) of `camera` in units of `unit_mm`.

    Frames that show a part of the image (with their own principal point) are put where they belong, to the nearest pixel.
    Raises ValueError for another focal length, or for depths beyond what 16 bits hold.
    """
    folder, frames = Path(folder), list(frames)
    for number, frame in enumerate(frames):
        if abs(frame.camera.fx - camera.fx) > 0.5 or abs(frame.camera.fy - camera.fy) > 0.5:
            raise ValueError(f"{frame.name} was taken with a focal length of {frame.camera.fx} px, not {camera.fx}")
        counts = np.round(frame.depth_mm / unit_mm)
        if counts.max(initial=0) > 65535:
            raise ValueError(
                f"{frame.name} is up to {frame.depth_mm.max():.0f} mm deep: take a larger unit_mm than {unit_mm}"
            )
        image, (h, w) = np.zeros(size, np.uint16), counts.shape
        v, u = round(camera.cy - frame.camera.cy), round(camera.cx - frame.camera.cx)
        top, left, bottom, right = max(v, 0), max(u, 0), min(v + h, size[0]), min(u + w, size[1])
        if top < bottom and left < right:
            image[top:bottom, left:right] = counts[top - v : bottom - v, left - u : right - u]
        path = folder / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
