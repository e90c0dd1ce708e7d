"""Record3D (iPhone, iPad): its .r3d files, and the folders that it exports. Depth is in metres, float32.

An .r3d is a zip of metadata (JSON) and rgbd/0.depth, rgbd/0.jpg ...; each .depth is one image, compressed as LZFSE. The
intrinsic matrix K is that of the colour images, of w x h px, which show the same as the smaller depth images.
"""

import os
import zipfile
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from ...support.decoding import MOST_IMAGE_BYTES, MOST_PIXELS, needed, read_pixels, readable
from ...support.files import check_regular, read_whole
from ..camera import Camera
from ..listing import Place, frames_at, in_order, stack
from .folders import resized
from .recording import MOST_TEXT_BYTES, Recording, as_object, camera_of, read_text

REMEDY = "export it from Record3D again"


def archive(path: Path) -> Recording:
    """An .r3d file. Raises ValueError and OSError that name it."""
    check_regular(path)
    with readable(path, "an .r3d of Record3D", REMEDY):
        names, told = _opened(path, path.stat().st_mtime_ns, os.getpid())[1:]
    shape = read_archived(path, 0).shape
    return Recording(
        "a Record3D file",
        stack(path, path.stem, len(names)),
        _camera(told, shape, path),
        1000.0,
        "its metadata",
        read_archived,
    )


def read_archived(path: Path, page: int | None) -> Float[np.ndarray, "H W"]:
    """An image of an .r3d, m. Raises ValueError and OSError that name the file."""
    with readable(path, "an .r3d of Record3D", REMEDY):
        file, names, told = _opened(path, path.stat().st_mtime_ns, os.getpid())
        entry = file.getinfo(names[page or 0])
        if entry.file_size > MOST_IMAGE_BYTES:
            raise ValueError(f"{entry.filename} has {entry.file_size:,} bytes")
        content = file.read(entry)
    return _image(content, told, path)


def export(root: Path) -> Recording | None:
    """A folder of EXR (or PNG) depth images that Record3D exports: depth/0.exr ..., metadata.json."""
    if (root / "EXR_RGBD" / "depth").is_dir():
        root = root / "EXR_RGBD"
    told = _metadata(root)
    if told is None or not (root / "depth").is_dir() or not (places := frames_at(root / "depth")):
        return None
    first = next(iter(places.values()))
    camera = _camera(told, read_pixels(first.path, first.page).shape, root / "metadata.json")
    unit_mm = 1000.0 if first.path.suffix.lower() == ".exr" else None
    return Recording("a Record3D folder", places, camera, unit_mm, "its metadata")


def unzipped(folder: Path) -> Recording | None:
    """An .r3d that was unzipped: metadata and rgbd/0.depth ..."""
    told = _metadata(folder)
    names, _ = in_order(path.name for path in (folder / "rgbd").glob("*.depth"))
    if told is None or not names:
        return None
    shape = read_loose(folder / "rgbd" / names[0]).shape
    places = {name: Place(folder / "rgbd" / name) for name in names}
    return Recording(
        "an unzipped Record3D file", places, _camera(told, shape, folder), 1000.0, "its metadata", read_loose
    )


def read_loose(path: Path, page: int | None = None) -> Float[np.ndarray, "H W"]:
    """A .depth file in the folder rgbd beside its metadata, m. Raises ValueError and OSError that name the file."""
    return _image(read_whole(path, MOST_IMAGE_BYTES), _metadata(path.parent.parent) or {}, path)


@lru_cache(maxsize=2)
def _opened(path: Path, changed: int, process: int) -> tuple[zipfile.ZipFile, list[str], dict]:
    """The zip, its depth images in order, and what it tells; of one process, since forked ones would share its position."""
    file = zipfile.ZipFile(path)
    names, _ = in_order(name for name in file.namelist() if PurePosixPath(name).suffix == ".depth")
    entry = file.getinfo("metadata")
    if not names or entry.file_size > MOST_TEXT_BYTES:
        raise ValueError("no .depth image in it" if not names else f"metadata of {entry.file_size:,} bytes")
    return file, names, as_object(file.read(entry), path)


def _metadata(folder: Path) -> dict | None:
    for path in (folder / "metadata.json", folder / "metadata"):
        if path.is_file():
            told = as_object(read_text(path), path)
            return told if {"K", "w", "h"} <= told.keys() else None
    return None


def _image(content: bytes, told: dict, path: Path) -> np.ndarray:
    decompress = needed("lzfse", path).decompress
    with readable(path, "a depth image of Record3D", REMEDY):
        metres = np.frombuffer(decompress(content), "<f4")
        if not 0 < metres.size <= MOST_PIXELS:
            raise ValueError(f"{metres.size:,} pixels")
        return metres.reshape(_shape(metres.size, told))


def _shape(pixels: int, told: dict) -> tuple[int, int]:
    """Height and width: as they are told, or as the colour image has them, made smaller."""
    height, width = told.get("dh"), told.get("dw")
    if height and width and height * width == pixels:
        return height, width
    smaller = (pixels / (told["w"] * told["h"])) ** 0.5
    return round(told["h"] * smaller), round(told["w"] * smaller)


def _camera(told: dict, shape: tuple[int, int], path: Path) -> Camera:
    try:
        numbers, size = [told["K"][i] for i in (0, 4, 6, 7)], (float(told["w"]), float(told["h"]))  # K by columns
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its metadata has no {error}; {REMEDY}") from error
    return resized(camera_of(numbers, path), size, shape[1::-1])
