"""Folders of depth images beside a description: hrlib record, TUM RGB-D, Open3D, OAK-D, rs-convert."""

import re
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from ...support.decoding import CAMERA_SIZES, MOST_IMAGE_BYTES, PIXELS, read_image, read_pixels, read_table
from ...support.files import read_whole
from ..camera import Camera
from ..listing import Place, frames_at
from .recording import Recording, as_object, camera_of, numbers_in, read_text, unit_of


def recorded(folder: Path) -> Recording | None:
    """What `hrlib record` writes: 00000.png ... and camera.json."""
    path = folder / "camera.json"
    if not path.is_file():
        return None
    told = as_object(read_text(path), path)
    numbers, unit_mm = told.get("camera"), told.get("unit_mm")
    if not isinstance(numbers, dict) or not {"fx", "fy", "cx", "cy"} <= numbers.keys():
        return None  # somebody else's file
    camera = camera_of([numbers[name] for name in ("fx", "fy", "cx", "cy")], path)
    unit_mm = None if unit_mm is None else unit_of(unit_mm, path)
    return Recording("a folder of hrlib record", frames_at(folder), camera, unit_mm, path.name)


# -- TUM RGB-D ------------------------------------------------------------------------------------------------------------

# The data set's page: registered by OpenNI, whose own numbers it recommends; 5,000 counts a metre
TUM_CAMERA, TUM_UNIT_MM = Camera(525.0, 525.0, 319.5, 239.5), 0.2


def tum(root: Path) -> Recording | None:
    """A folder of TUM's RGB-D benchmark, or in its form: depth.txt lists times and files. ETH3D's have calibration.txt, too."""
    path = root / "depth.txt"
    if not path.is_file():
        return None
    text = read_text(path)
    rows = [line.split() for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
    if not rows or any(len(row) != 2 or Path(row[1]).suffix.lower() not in PIXELS for row in rows):
        return None  # a depth.txt of something else
    places = {}
    for _, name in rows:
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(f"{path}: lists {name}, which is outside of {root}; mend the list")
        places["/".join(inside.parts[inside.parts[0] == "depth" :])] = Place(root / inside)
    own = next((root / name for name in ("calibration.txt", "camera.txt") if (root / name).is_file()), None)
    if own is not None and len(numbers := numbers_in(read_text(own))) >= 4:
        return Recording("a TUM RGB-D folder", places, camera_of(numbers[:4], own), TUM_UNIT_MM, own.name)
    known = "freiburg" in text[:1000] or "freiburg" in root.resolve().name
    camera, told_by = (TUM_CAMERA, "the page of TUM's data set") if known else (None, "")
    return Recording("a TUM RGB-D folder", places, camera, TUM_UNIT_MM, told_by)


# -- Open3D ---------------------------------------------------------------------------------------------------------------


def open3d(root: Path) -> Recording | None:
    """What Open3D's readers and recorders export of Azure Kinect and RealSense: depth/, and an intrinsic matrix as JSON."""
    for name in ("intrinsic.json", "camera_intrinsic.json", "intrinsics.json"):
        path = root / name
        if path.is_file() and (root / "depth").is_dir():
            told = as_object(read_text(path), path)
            matrix = told.get("intrinsic_matrix")
            if isinstance(matrix, list) and len(matrix) == 9:  # by columns
                camera = camera_of([matrix[i] for i in (0, 4, 6, 7)], path)
                scale = told.get("depth_scale", 1000.0)  # counts a metre
                unit_mm = 1000.0 / unit_of(scale, path) if isinstance(scale, int | float) else None
                return Recording("an Open3D recording", frames_at(root / "depth"), camera, unit_mm, path.name)
    return None


# -- OAK-D ----------------------------------------------------------------------------------------------------------------

RIGHT = 2  # the socket of the right camera, to which depthai aligns depth unless told otherwise
CALIBRATIONS = ("calib.json", "calibration.json")


def oak(root: Path) -> Recording | None:
    """Depth images beside the calibration of an OAK-D, calib.json, as depthai's eepromToJsonFile writes it. Counts are mm."""
    path = next((root / name for name in CALIBRATIONS if (root / name).is_file()), None)
    if path is None:
        return None
    cameras = as_object(read_text(path), path).get("cameraData")
    if not isinstance(cameras, list):
        return None
    right = next((c[1] for c in cameras if isinstance(c, list) and len(c) == 2 and c[0] == RIGHT), None)
    places = frames_at(root / "depth" if (root / "depth").is_dir() else root)
    if right is None or not places:
        return None
    first = next(iter(places.values()))
    try:
        matrix, size = right["intrinsicMatrix"], (right["width"], right["height"])
        numbers = [matrix[0][0], matrix[1][1], matrix[0][2], matrix[1][2]]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: the right camera has no {error}; write it again with eepromToJsonFile") from error
    camera = resized(camera_of(numbers, path), size, read_pixels(first.path, first.page).shape[1::-1])
    return Recording("an OAK-D folder", places, camera, 1.0, f"{path.name}, its right camera")


def resized(camera: Camera, size: tuple[float, float], to: tuple[int, int]) -> Camera:
    """The camera of an image after resizing to another width and cutting off equal parts above and below, as SDKs count it.

    Args:
        camera: of an image of `size`, (width, height) px.
        size, to: width and height before and after.
    """
    factor = to[0] / size[0]
    cut = (size[1] * factor - to[1]) / 2
    return Camera(camera.fx * factor, camera.fy * factor, camera.cx * factor, camera.cy * factor - cut)


# -- rs-convert -----------------------------------------------------------------------------------------------------------

CONVERTED = r".*_Depth_\d+(\.\d+)?\.(csv|raw|bin|png)"


def realsense_converted(folder: Path) -> Recording | None:
    """What rs-convert makes of a RealSense .bag: CSV and BIN in metres, RAW in counts. Its files do not tell the camera."""
    kinds = {}
    for path in folder.iterdir():
        if match := re.fullmatch(CONVERTED, path.name):
            kinds.setdefault(match[2], {})[path.name] = Place(path)
    for ending, unit_mm in (("csv", 1000.0), ("bin", 1000.0), ("raw", None)):
        if ending in kinds:
            read = read_rows if ending == "csv" else partial(read_bare, dtype="<f4" if ending == "bin" else "<u2")
            return Recording("an rs-convert folder", kinds[ending], None, unit_mm, read=read)
    for place in list(kinds.get("png", {}).values())[:1]:
        if read_image(place.path).mode in ("RGB", "RGBA"):
            raise ValueError(
                f"{place.path}: rs-convert's PNGs of depth are coloured pictures; name the .bag itself, or convert it "
                "with -v (CSV)"
            )
    return None


def read_rows(path: Path, page: int | None = None) -> Float[np.ndarray, "H W"]:
    """An image as a table, a line a row. Raises ValueError and OSError that name the file."""
    return read_table(path, ",")


def read_bare(path: Path, page: int | None = None, dtype: str = "<u2") -> np.ndarray:
    """An image [H, W] without a header, of a size that depth cameras have. Raises ValueError and OSError that name the file."""
    content = read_whole(path, MOST_IMAGE_BYTES)
    size = next((size for size in CAMERA_SIZES if size[0] * size[1] * np.dtype(dtype).itemsize == len(content)), None)
    if size is None:
        raise ValueError(
            f"{path}: {len(content):,} bytes are no image of a RealSense camera; convert the .bag with -v (CSV)"
        )
    return np.frombuffer(content, dtype).reshape(size[::-1])
