"""ROS bags with depth images: RealSense recordings (.bag of librealsense, .db3 of its newer versions), and those of ROS 1
and 2 (.bag, .db3, .mcap) that any camera's driver published.

The package rosbags opens them; the few messages that matter are decoded here, since those of RealSense are not quite as ROS
has them. ROS 1 writes values one after another, ROS 2 (CDR) each at a multiple of its size.
"""

import os
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from ...support.decoding import MOST_PIXELS, decoded, needed, readable
from ..camera import Camera
from ..listing import stack
from .recording import Recording, camera_of, unit_of

ENDINGS = (".bag", ".db3", ".mcap")
REMEDY = "record it again, or copy it again"
IMAGE, PACKED, INFO = (f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo"))
DTYPES = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}  # encodings of depth
CONFIG_BYTES = 12  # before the PNG of compressedDepth


@dataclass(frozen=True)
class _Bag:
    """An open bag and its depth images."""

    reader: Any
    depth: Any  # their connection
    times: list[int]  # ns
    cdr: bool  # of ROS 2


def folder(path: Path) -> Recording | None:
    """A bag of ROS 2: metadata.yaml and files beside it."""
    files = (name for ending in ENDINGS for name in path.glob(f"*{ending}"))
    return bag(path) if (path / "metadata.yaml").is_file() and any(files) else None


def bag(path: Path) -> Recording:
    """A bag. Raises ValueError and OSError that name it."""
    with readable(path, "a ROS bag with depth images", REMEDY):
        opened = _opened(path, path.stat().st_mtime_ns, os.getpid())
        topic = opened.depth.topic
        first = read_bag(path, 0)
        camera, unit_mm = _camera(opened, path), unit_of(_unit_mm(opened, first.dtype), path)
    kind = "a RealSense recording" if topic.startswith("/device_") else f"a ROS bag ({topic})"
    places = stack(path, path.stem, len(opened.times))
    return Recording(kind, places, camera, unit_mm, "its camera_info", read_bag)


def read_bag(path: Path, page: int | None) -> Shaped[np.ndarray, "H W"]:
    """A depth image of a bag in its counts. Raises ValueError and OSError that name the file."""
    with readable(path, "a ROS bag with depth images", REMEDY):
        opened, page = _opened(path, path.stat().st_mtime_ns, os.getpid()), page or 0
        time = opened.times[page]
        same = page - opened.times.index(time)  # images of equal times
        messages = opened.reader.messages([opened.depth], time, time + 1)
        message = [raw for _, _, raw in messages][same]
        return (_packed if opened.depth.msgtype == PACKED else _image)(_Values(message, opened.cdr))


@lru_cache(maxsize=1)  # of one process: forked ones would share a position in the file
def _opened(path: Path, changed: int, process: int) -> _Bag:
    ros1 = path.suffix.lower() == ".bag"
    reader = needed("rosbags.rosbag1" if ros1 else "rosbags.rosbag2", path).Reader(path)
    reader.open()
    depth = _depth_of(reader.connections)
    if ros1:
        times = [entry.time for entry in reader.indexes[depth.id]]
    else:
        times = [time for _, time, _ in reader.messages([depth])]
    if not times:
        raise ValueError(f"{depth.topic} has no image")
    return _Bag(reader, depth, times, not ros1)


def _depth_of(connections):
    """The connection with depth as the sensor has it, if there are several."""
    images = [c for c in connections if c.msgtype in (IMAGE, PACKED) and "depth" in c.topic.lower()]
    images = [c for c in images if c.msgtype == IMAGE or "compressedDepth" in c.topic]
    if not images:
        topics = ", ".join(c.topic for c in connections if c.msgtype in (IMAGE, PACKED)) or "none"
        raise ValueError(f"no topic of depth images; its images: {topics}")
    return min(images, key=lambda c: ("aligned" in c.topic, c.msgtype == PACKED, c.topic))


def _camera(bag: _Bag, path: Path) -> Camera | None:
    """The camera of the topic that shares most of its name with the images'."""
    topic = bag.depth.topic
    infos = [c for c in bag.reader.connections if c.msgtype == INFO]
    infos.sort(key=lambda c: len(os.path.commonprefix([c.topic, topic])), reverse=True)
    for _, _, raw in bag.reader.messages(infos[:1]) if infos else ():
        values = _Values(raw, bag.cdr)
        values.header()
        values.take("I"), values.take("I"), values.text()
        values.array("d")
        matrix = [values.take("d") for _ in range(9)]
        return camera_of([matrix[i] for i in (0, 4, 2, 5)], path)
    return None


def _unit_mm(bag: _Bag, dtype: np.dtype) -> float:
    """Metres for floats, mm for counts, as ROS has it (REP 118), unless RealSense tells its own unit, in metres."""
    if dtype.kind == "f":
        return 1000.0
    units = [c for c in bag.reader.connections if c.topic.endswith("/option/Depth_Units/value")]
    for connection, _, raw in bag.reader.messages(units) if units else ():
        values = _Values(raw, bag.cdr)
        metres = float(values.text()) if connection.msgtype.endswith("String") else values.take("f")
        return round(metres * 1000, 6)
    return 1.0


# -- messages -------------------------------------------------------------------------------------------------------------


def _image(values: "_Values") -> np.ndarray:
    values.header()
    height, width, encoding = values.take("I"), values.take("I"), values.text()
    big, step = values.take("B"), values.take("I")
    if encoding not in DTYPES:
        raise ValueError(f"images of {encoding}; wanted {', '.join(DTYPES)}")
    dtype = np.dtype((">" if big else "<") + DTYPES[encoding])
    content = values.array("B")
    if height * width > MOST_PIXELS or step < width * dtype.itemsize or len(content) < height * step:
        raise ValueError(f"an image of {width} x {height} px in {len(content)} bytes")
    return np.ndarray((height, width), dtype, content, strides=(step, dtype.itemsize))


def _packed(values: "_Values") -> np.ndarray:
    values.header()
    form, content = values.text(), values.array("B")
    if not form.startswith("16UC1") or "png" not in form and "compressedDepth" not in form:
        raise ValueError(f"depth compressed as {form!r}; wanted 16UC1, png")
    return np.asarray(decoded(content[CONFIG_BYTES:], "PNG"))


class _Values:
    """The values of a message, one after another."""

    def __init__(self, raw: bytes, cdr: bool):
        self.raw, self.cdr, self.begin = bytes(raw), cdr, 4 * cdr
        self.at = self.begin

    def _align(self, size: int) -> None:
        if self.cdr:
            self.at += -(self.at - self.begin) % size

    def take(self, form: str) -> Any:
        size = struct.calcsize(form)
        self._align(size)
        (value,) = struct.unpack_from(f"<{form}", self.raw, self.at)
        self.at += size
        return value

    def array(self, form: str) -> bytes:
        count, size = self.take("I"), struct.calcsize(form)
        if count:
            self._align(size)
        content = self.raw[self.at : self.at + count * size]
        if len(content) < count * size:
            raise ValueError("a message is cut short")
        self.at += count * size
        return content

    def text(self) -> str:
        return self.array("B").rstrip(b"\0").decode()

    def header(self) -> None:
        for _ in range(2 if self.cdr else 3):  # the sequence number of ROS 1, seconds, nanoseconds
            self.take("I")
        self.text()
