"""ScanNet: a .sens file, as its sensorData.h writes it, and the folders that its tools export of one."""

import io
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

from ...support.decoding import MOST_PIXELS, readable
from ...support.files import check_regular
from ..camera import Camera
from ..listing import frames_at, stack
from .recording import Recording, camera_of, numbers_in, of_matrix, read_text

REMEDY = "fetch it again"
RAW, ZLIB = 0, 1  # compression of depth
BEFORE_SIZES = 64 + 16  # bytes of a frame: pose, two times
MOST_FRAMES = 10**7


def export(root: Path) -> Recording | None:
    """What SensReader exports: depth/0.png ... with intrinsic/intrinsic_depth.txt; or frame-000000.depth.pgm with _info.txt."""
    if (root / "_info.txt").is_file() and (found := _of_info(root)):
        return found
    for name in ("intrinsic/intrinsic_depth.txt", "intrinsics/intrinsic_depth.txt", "intrinsic_depth.txt"):
        if (root / name).is_file() and (root / "depth").is_dir():
            camera = of_matrix(read_text(root / name), root / name)
            return Recording("a ScanNet folder", frames_at(root / "depth"), camera, 1.0, Path(name).name)
    return None


def _of_info(root: Path) -> Recording | None:
    lines = (line.partition("=") for line in read_text(root / "_info.txt").splitlines())
    told = {key.strip(): value for key, _, value in lines}
    if "m_calibrationDepthIntrinsic" not in told:
        return None
    shift = numbers_in(told.get("m_depthShift", "1000"))[0]
    places = {name: place for name, place in frames_at(root).items() if ".depth." in name}
    camera = of_matrix(told["m_calibrationDepthIntrinsic"], root / "_info.txt")
    return Recording("a ScanNet folder", places, camera, 1000.0 / shift, "_info.txt")


# -- .sens ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sens:
    """Where the depth images of a .sens lie."""

    camera: Camera
    unit_mm: float
    size: tuple[int, int]  # (width, height) px
    compression: int
    depths: list[tuple[int, int]]  # (offset, bytes)


def sens(path: Path) -> Recording:
    """A .sens file. Raises ValueError and OSError that name it."""
    head = _opened(path, path.stat().st_mtime_ns)
    places = stack(path, path.stem, len(head.depths))
    return Recording("a ScanNet .sens", places, head.camera, head.unit_mm, "its header", read_sens)


def read_sens(path: Path, page: int | None) -> UInt16[np.ndarray, "H W"]:
    """A depth image of a .sens in its counts. Raises ValueError and OSError that name the file."""
    head = _opened(path, path.stat().st_mtime_ns)
    width, height = head.size
    with readable(path, "a .sens", REMEDY), open(path, "rb") as file:
        offset, size = head.depths[page or 0]
        file.seek(offset)
        content = file.read(size)
        if head.compression == ZLIB:
            content = zlib.decompressobj().decompress(content, 2 * width * height)
        return np.frombuffer(content, "<u2", width * height).reshape(height, width)


@lru_cache(maxsize=2)
def _opened(path: Path, changed: int) -> _Sens:
    check_regular(path)
    with readable(path, "a .sens", REMEDY), open(path, "rb") as file:
        end = file.seek(0, io.SEEK_END)
        file.seek(0)
        version, name = _take(file, "<IQ")
        if version != 4 or name > 1000:
            raise ValueError(f"version {version}, wanted 4")
        file.seek(name, io.SEEK_CUR)
        intrinsic = np.reshape(_take(file, "<64f")[32:48], (4, 4))
        compression, *size, shift, count = _take(file, "<4xi8xIIfQ")
        if compression not in (RAW, ZLIB):
            raise ValueError(f"depth is compressed as {compression}, which only ScanNet's own tools read; export PNGs")
        if size[0] * size[1] > MOST_PIXELS or count > MOST_FRAMES or not shift > 0:
            raise ValueError(f"{count:,} frames of {size[0]} x {size[1]} px, {shift} counts a metre")
        depths = []
        while len(depths) < count and file.tell() + BEFORE_SIZES + 16 <= end:  # a recording may be cut off
            file.seek(BEFORE_SIZES, io.SEEK_CUR)
            colour, depth = _take(file, "<QQ")
            start = file.tell() + colour
            if start + depth > end:
                break
            depths.append((start, depth))
            file.seek(start + depth)
        if not depths:
            raise ValueError("no frame in it")
    camera = camera_of((intrinsic[0, 0], intrinsic[1, 1], intrinsic[0, 2], intrinsic[1, 2]), path)
    return _Sens(camera, 1000.0 / shift, tuple(size), compression, depths)


def _take(file, layout: str) -> tuple:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
