"""Azure Kinect's recordings (.mkv, of k4arecorder or its SDK), read without the SDK, which few systems have.

Matroska is a tree of elements: an identifier, a length, a value. Depth is the track of 16-bit counts, the highest byte first
(b16g), in mm. The attachment calibration.json has the sensor's own numbers, of which those of the mode are made as the SDK
makes them (transformation_get_mode_specific_camera_calibration). Images are undistorted: a pinhole camera is what comes out.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

from ...support.decoding import readable
from ...support.files import check_regular
from ..camera import Camera
from ..listing import stack
from .recording import MOST_TEXT_BYTES, Recording, as_object

REMEDY = "record it again with k4arecorder"
SEGMENT, CLUSTER, TRACKS, TRACK, ATTACHMENTS, ATTACHED = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0x1941A469, 0x61A7
NAME, NUMBER, VIDEO, WIDTH, HEIGHT, CODEC, FILE_NAME, FILE_DATA = 0x536E, 0xD7, 0xE0, 0xB0, 0xBA, 0x63A2, 0x466E, 0x465C
BLOCK_GROUP, BLOCK, SIMPLE_BLOCK = 0xA0, 0xA1, 0xA3
# (width, height) of a mode's images -> side of the square that the sensor's numbers are for, after binning, and what is
# cut off at its left and top, px
MODES = {(640, 576): (1024, 192, 180), (320, 288): (512, 96, 90), (512, 512): (512, 0, 0), (1024, 1024): (1024, 0, 0)}


@dataclass(frozen=True)
class _Opened:
    """A recording's depth track."""

    data: mmap.mmap
    size: tuple[int, int]  # (width, height) px
    frames: list[int]  # where their counts begin
    camera: Camera
    seen_at: (
        np.ndarray
    )  # [H, W] pixel of the recorded image, counted from its first, for each of the undistorted one; or -1


def azure_kinect(path: Path) -> Recording:
    """An .mkv of an Azure Kinect. Raises ValueError and OSError that name the file."""
    opened = _opened(path, path.stat().st_mtime_ns)
    places = stack(path, path.stem, len(opened.frames))
    return Recording(
        "an Azure Kinect recording", places, opened.camera, 1.0, "its calibration, undistorted", read_azure_kinect
    )


def read_azure_kinect(path: Path, page: int | None) -> UInt16[np.ndarray, "H W"]:
    """An undistorted depth image, mm. Raises ValueError and OSError that name the file."""
    opened = _opened(path, path.stat().st_mtime_ns)
    (width, height), start = opened.size, opened.frames[page or 0]
    with readable(path, "an Azure Kinect recording", REMEDY):
        counts = np.frombuffer(opened.data[start : start + 2 * width * height], ">u2")
        return np.where(opened.seen_at < 0, 0, counts[opened.seen_at]).astype(np.uint16)


@lru_cache(maxsize=2)
def _opened(path: Path, changed: int) -> _Opened:
    check_regular(path)
    with readable(path, "an Azure Kinect recording", REMEDY), open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        segment = next((span for kind, *span in _elements(data, 0, len(data)) if kind == SEGMENT), None)
        if segment is None:
            raise ValueError("it is no Matroska file")
        track, calibration, clusters = None, None, []
        for kind, *span in _elements(data, *segment):
            if kind == TRACKS:
                track = _depth_track(data, span)
            elif kind == ATTACHMENTS:
                calibration = _calibration(data, span)
            elif kind == CLUSTER:
                clusters.append(span)
        if track is None or calibration is None:
            raise ValueError("it has no " + ("track of depth" if track is None else "calibration.json"))
        number, size = track
        frames = [start for span in clusters for start in _blocks(data, span, number, 2 * size[0] * size[1])]
        if not frames:
            raise ValueError("it has no depth image")
        camera, distortion = mode_of(as_object(calibration, path), size)
        return _Opened(data, size, frames, camera, _seen_at(camera, distortion, size))


# -- elements -------------------------------------------------------------------------------------------------------------


def _number(data, at: int, keep_marker: bool) -> tuple[int, int]:
    """A number of variable length, whose first byte's leading zeros tell how long it is; and where it ends."""
    length = 9 - data[at].bit_length()
    if length > 8:
        raise ValueError(f"no element at byte {at}")
    value = int.from_bytes(data[at : at + length])
    return value if keep_marker else value & ((1 << 7 * length) - 1), at + length


def _elements(data, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Identifier, start and end of each element within a span. One cut off, or of unknown length, goes on to the end."""
    while start < end - 1:
        kind, at = _number(data, start, keep_marker=True)
        size, begin = _number(data, at, keep_marker=False)
        unknown = size == (1 << 7 * (begin - at)) - 1
        start = end if unknown else min(begin + size, end)
        yield kind, begin, start


def _values(data, span) -> dict[int, bytes]:
    return {kind: data[start:end] for kind, start, end in _elements(data, *span)}


def _depth_track(data, span) -> tuple[int, tuple[int, int]] | None:
    """Number and (width, height) of the track of depth."""
    for kind, *inside in _elements(data, *span):
        told = _values(data, inside) if kind == TRACK else {}
        if told.get(NAME, b"").rstrip(b"\0") == b"DEPTH":
            if b"b16g" not in told.get(CODEC, b""):
                raise ValueError("its depth is compressed")
            video = _values(told[VIDEO], (0, len(told[VIDEO])))
            size = tuple(int.from_bytes(video[side]) for side in (WIDTH, HEIGHT))
            if size not in MODES:
                raise ValueError(f"depth of {size[0]} x {size[1]} px, which is no mode of an Azure Kinect")
            return int.from_bytes(told[NUMBER]), size
    return None


def _calibration(data, span) -> bytes | None:
    for kind, *inside in _elements(data, *span):
        if kind == ATTACHED and inside[1] - inside[0] <= MOST_TEXT_BYTES:
            told = _values(data, inside)
            if told.get(FILE_NAME, b"").rstrip(b"\0") == b"calibration.json":
                return told.get(FILE_DATA, b"").rstrip(b"\0")
    return None


def _blocks(data, span, track: int, size: int) -> Iterator[int]:
    """Where the images of a track begin within a cluster."""
    for kind, start, end in _elements(data, *span):
        if kind == BLOCK_GROUP:
            yield from _blocks(data, (start, end), track, size)
        elif kind in (BLOCK, SIMPLE_BLOCK):
            number, at = _number(data, start, keep_marker=False)
            at += 3  # time and flags
            if number == track and end - at == size:
                yield at


# -- the camera -----------------------------------------------------------------------------------------------------------


def mode_of(calibration: dict, size: tuple[int, int]) -> tuple[Camera, list[float]]:
    """The pinhole camera of a mode, and the fourteen numbers of the sensor's lens."""
    cameras = calibration["CalibrationInformation"]["Cameras"]
    (depth,) = [camera for camera in cameras if camera["Location"] == "CALIBRATION_CameraLocationD0"]
    lens = [float(number) for number in depth["Intrinsics"]["ModelParameters"]]
    side, left, top = MODES[size]
    cx, cy, fx, fy = (number * side for number in lens[:4])
    return Camera(fx, fy, cx - left - 0.5, cy - top - 0.5), lens


def _seen_at(camera: Camera, lens: list[float], size: tuple[int, int]) -> np.ndarray:
    """For each pixel of the pinhole camera, which one of the recorded image shows the same; -1 outside of it.

    Brown and Conrady's model with a rational radial part, as the SDK has it; the numbers 5 to 10 are k1 to k6, and the last
    two p2 and p1.
    """
    width, height = size
    x, y = np.meshgrid((np.arange(width) - camera.cx) / camera.fx, (np.arange(height) - camera.cy) / camera.fy)
    k1, k2, k3, k4, k5, k6, _, _, p2, p1 = lens[4:14]
    r = x * x + y * y
    radial = (1 + r * (k1 + r * (k2 + r * k3))) / (1 + r * (k4 + r * (k5 + r * k6)))
    u = np.rint((x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x)) * camera.fx + camera.cx).astype(int)
    v = np.rint((y * radial + 2 * p2 * x * y + p1 * (r + 2 * y * y)) * camera.fy + camera.cy).astype(int)
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    return np.where(inside, v * width + u, -1)
