"""Files that others wrote, decoded in one place: images, arrays, tables. What they claim is checked before it is believed.

An image goes to the one decoder that its ending promises, so that no other format's decoder meets it. A header cannot ask
for more memory than the file has bytes (arrays) or than `MOST_PIXELS` (images). No pickle is read.
"""

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image

from .files import read_whole, unzipped

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}  # ending -> Pillow's decoder
MOST_PIXELS = 2**25  # of an image, just over 8K; the largest depth cameras have a third of it
MOST_IMAGE_BYTES = 2**28  # of an image's file: `MOST_PIXELS` in float64
MOST_TABLE_BYTES = 2**30  # of a table, unpacked
NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_image(path: Path) -> Image.Image:
    """A picture, decoded. Raises OSError where it cannot be opened, ValueError for any other fault; both name the file."""
    content, kind = read_whole(path, MOST_IMAGE_BYTES), FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: images must end in {', '.join(FORMATS)}; convert it")
    with _readable(path, f"a {kind}", "copy it again, or remove it"):
        with Image.open(io.BytesIO(content), formats=(kind,)) as image:
            _check_size(image.size)
            image.load()
        return image


def read_array(path: Path) -> Shaped[np.ndarray, "..."]:
    """The array of a .npy. Errors as `read_image`."""
    content = read_whole(path, MOST_IMAGE_BYTES)
    with _readable(path, ".npy", "save it again with numpy.save"):
        array = _array(content)
        _check_size(array.shape[-2:])
        return array


def read_arrays(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The arrays of an .npz by name. Errors as `read_image`."""
    content, arrays = read_whole(path, MOST_TABLE_BYTES), {}
    with _readable(path, ".npz", "get it again"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_TABLE_BYTES:
                raise ValueError(f"it unpacks to more than {MOST_TABLE_BYTES:,} bytes")
            for entry in archive.infolist():
                with archive.open(entry) as file:  # which unpacks no more than the size that was summed above
                    arrays[entry.filename.removesuffix(".npy")] = _array(file.read(entry.file_size))
    return arrays


def read_table(path: Path, delimiter: str | None = None) -> Float[np.ndarray, "R C"]:
    """Rows of numbers from a text file, gzipped where its name ends in .gz. Errors as `read_image`."""
    content = read_whole(path, MOST_TABLE_BYTES)
    with _readable(path, "a table of numbers", "fetch it again"):
        text = unzipped(content, MOST_TABLE_BYTES, path) if path.suffix == ".gz" else content
        return np.loadtxt(io.StringIO(text.decode("utf-8")), delimiter=delimiter, ndmin=2)


@contextmanager
def _readable(path: Path, kind: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # decoders pass on whatever they stumble over
        raise ValueError(f"{path}: cannot be read as {kind} ({error or type(error).__name__}); {remedy}") from error


def _check_size(size: tuple[int, ...]) -> None:
    if math.prod(size) > MOST_PIXELS:
        raise ValueError(f"{' x '.join(map(str, size))} px, more than any depth camera has")


def _array(content: bytes) -> np.ndarray:
    """A view of the bytes of a .npy: nothing is allocated for what its header claims."""
    file = io.BytesIO(content)
    header = NPY_HEADERS.get(np.lib.format.read_magic(file))
    if header is None:
        raise ValueError("an unknown version of the format")
    shape, by_columns, dtype = header(file)
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"an array of {dtype} and shape {shape}")
    if math.prod(shape) * dtype.itemsize > len(content) - file.tell():
        raise ValueError(f"cut short: {len(content) - file.tell()} bytes for an array of {dtype} and shape {shape}")
    return np.ndarray(shape, dtype, content, file.tell(), order="F" if by_columns else "C")
