"""Files that others wrote, decoded in one place: images, arrays, tables. What they claim is checked before it is believed.

An image goes to the one decoder that its ending promises, so that no other format's decoder meets it. A header cannot ask
for more memory than the file has bytes (arrays) or than `MOST_PIXELS` (images). No pickle is read.
"""

import io
import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, ImageFileDirectory_v2

from .files import check_regular, read_whole, unzipped

# ending -> Pillow's decoder
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP"}
FORMATS |= {".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pbm": "PPM"}
MOST_PIXELS = 2**25  # of an image, just over 8K; the largest depth cameras have a third of it
MOST_IMAGE_BYTES = 2**28  # of an image's file: `MOST_PIXELS` in float64
# of depth cameras, px, the longer side first: they tell which side of a stack of images is time
CAMERA_SIZES = (
    "160x120 256x144 256x192 320x240 320x288 424x240 480x270 512x424 512x512 640x360 640x400 640x480 640x576 848x480"
)
CAMERA_SIZES += " 960x720 1024x768 1024x1024 1280x720 1280x800 1280x960 1920x1080"
CAMERA_SIZES = {tuple(map(int, size.split("x"))) for size in CAMERA_SIZES.split()}
# how files begin, and the endings that say so
STARTS = {
    b"\x89PNG": (".png",),
    b"II*\0": (".tif", ".tiff"),
    b"MM\0*": (".tif", ".tiff"),
    b"\xff\xd8\xff": (".jpg", ".jpeg"),
}
STARTS |= {b"GIF8": (".gif",), b"P5": (".pgm", ".ppm"), b"P6": (".ppm",), b"P4": (".pbm",)}
STARTS |= {b"\x93NUMPY": (".npy",), b"PK\3\4": (".npz",), b"\x76\x2f\x31\x01": (".exr",), b"\x1f\x8b": (".gz",)}
LEAST_SIDE = 32  # px of a depth image
MOST_TABLE_BYTES = 2**30  # of a table, unpacked
# of several arrays in an .npz, the one is a depth image, or a mask, that has the first of these words in its name
DEPTH_WORDS, MASK_WORDS = ("depth",), ("mask", "seg", "label")
NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_image(path: Path, page: int = 0) -> Image.Image:
    """A picture, decoded, or a page of a TIFF.

    Raises OSError where it cannot be opened, ValueError for any other fault; both name the file.
    """
    kind = FORMATS.get(_ending(path))
    if kind is None:
        raise ValueError(f"{path}: images must end in {', '.join(FORMATS)}; convert it")
    check_regular(path)
    # of a TIFF's many pages one is read
    file = path if kind == "TIFF" else io.BytesIO(read_whole(path, MOST_IMAGE_BYTES))
    with readable(path, f"a {kind}", "copy it again, or remove it"):
        try:
            return decoded(file, kind, page)
        except UnidentifiedImageError as error:
            if kind == "TIFF" and (bits := _tiff_bits(path)) > 32:
                raise ValueError(
                    f"{path}: has {bits} bits a pixel; save it with 32: image.astype('float32')"
                ) from error
            raise ValueError("it is cut short, or something else") from error


def decoded(content: bytes | io.BytesIO | Path, kind: str, page: int = 0) -> Image.Image:
    """A picture of Pillow's format `kind`. Raises whatever the decoder stumbles over."""
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=(kind,)) as image:
        image.seek(page)
        _check_size(image.size)
        image.load()
    return image


def needed(name: str, path: Path) -> ModuleType:
    """A module that only some files need, of the extra `recorders`. Raises ValueError that names file, package and remedy."""
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ValueError(
            f"{path}: needs the package {package} ({error}): pip install {package}, or pip install -e '.[recorders]' in the "
            "repository"
        ) from error


# -- frames: pictures and arrays, one in a file or many -------------------------------------------------------------------


def read_pixels(
    path: Path, page: int | None = None, words: tuple[str, ...] = DEPTH_WORDS
) -> Shaped[np.ndarray, "H W *channels"]:
    """The pixels of an image or array as they are stored: [H, W], or [H, W, 3 or 4] in colour. Errors as `read_image`.

    Args:
        path: ends as one of `PIXELS`.
        page: of a file of many frames (`count_pages`).
        words: of an .npz with several arrays, the one is read that has the first of these in its name.
    """
    reader = (PIXELS | {".npz": partial(_npz, words=words)}).get(_ending(path))
    if reader is None:
        raise ValueError(f"{path}: frames must end in {', '.join(PIXELS)}; convert it")
    pixels = reader(path, page)
    whole = _tiff_shape(path) if page is None and _ending(path) in (".tif", ".tiff") else _frames_shape(pixels.shape)
    if time_last(whole):
        raise ValueError(
            f"{path}: shape {whole} looks like [H, W, T]; save frames as [T, H, W]: numpy.moveaxis(array, -1, 0)"
        )
    if len(_frames_shape(pixels.shape)) != 2:
        raise ValueError(f"{path}: wanted an image [H, W] or a stack [T, H, W] of them, got shape {pixels.shape}")
    return pixels


def count_pages(path: Path, words: tuple[str, ...] = DEPTH_WORDS) -> int | None:
    """How many frames a stack holds: a TIFF of many pages, an array [T, H, W]. None for one frame, or a damaged file.

    words: as `read_pixels`.
    """
    with suppress(Exception):  # reading the frame will tell what is wrong
        counters = {
            ".npy": _npy_shape,
            ".npz": partial(_npz_shape, words=words),
            ".tif": _tiff_shape,
            ".tiff": _tiff_shape,
        }
        counter = counters.get(_ending(path))
        shape = () if counter is None else counter(path)
        return shape[0] or None if len(shape) == 3 and not time_last(shape) else None
    return None


def _ending(path: Path) -> str:
    return path.suffix.lower()


def _picture(path: Path, page: int | None) -> np.ndarray:
    image = read_image(path, page or 0)
    if image.mode == "LA" or "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(
        image if image.mode in ("1", "L", "F", "RGB", "RGBA") or image.mode[0] == "I" else image.convert("RGB")
    )


def _grey_map(path: Path, page: int | None) -> np.ndarray:
    """A .pgm, by the netpbm format's own page. Pillow stretches counts to 16 bits wherever the largest is not 65535."""
    content = read_whole(path, MOST_IMAGE_BYTES)
    with readable(path, "a PGM", "copy it again, or remove it"):
        space = rb"(?:\s|#[^\n]*\n)+"
        head = re.match(rb"P([25])" + 3 * (space + rb"(\d{1,9})") + rb"(?:#[^\n]*\n)?\s", content)
        if head is None:
            raise ValueError("no header of a grey map")
        kind, width, height, most = map(int, head.groups())
        _check_size((height, width))
        if kind == 2:
            counts = np.array(content[head.end() :].split(), int)[: width * height]
            return counts.astype(np.uint8 if most < 256 else np.uint16).reshape(height, width)
        dtype = np.dtype(">u2" if most > 255 else "u1")
        return np.frombuffer(content, dtype, width * height, head.end()).reshape(height, width)


def _exr(path: Path, page: int | None) -> np.ndarray:
    """The one channel of an OpenEXR image, or R of several that are equal."""
    check_regular(path)
    exr = needed("OpenEXR", path)
    with readable(path, "an OpenEXR image", "export it again"):
        with exr.File(str(path), header_only=True) as file:
            low, high = file.header()["dataWindow"]
            _check_size(tuple(high.astype(int) - low + 1))
        with exr.File(str(path), separate_channels=True) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
        first = channels.get("R", next(iter(channels.values())))
        if any(not np.array_equal(first, other, equal_nan=True) for other in channels.values()):
            raise ValueError(f"channels {', '.join(channels)}, wanted one of depth")
        return first


def _npy(path: Path, page: int | None) -> np.ndarray:
    return _squeezed(read_array(path)) if page is None else np.array(_squeezed(_mapped(path))[page])


def _mapped(path: Path) -> np.ndarray:
    check_regular(path)
    with readable(path, ".npy", "save it again with numpy.save"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        _check_size(array.shape[-2:])
        return array


def _npz(path: Path, page: int | None, words: tuple[str, ...] = DEPTH_WORDS) -> np.ndarray:
    array = _squeezed(_npz_array(path, path.stat().st_mtime_ns, words))
    return array if page is None else array[page]


@lru_cache(maxsize=1)  # the frames of a stack are asked for one after another
def _npz_array(path: Path, changed: int, words: tuple[str, ...]) -> np.ndarray:
    arrays = read_arrays(path, alone=words)
    if len(arrays) != 1:
        raise ValueError(
            f"{path}: holds {', '.join(arrays) or 'nothing'}; wanted one array, or one named {' or '.join(words)}, or alike"
        )
    return next(iter(arrays.values()))


def _npy_shape(path: Path) -> tuple[int, ...]:
    return _frames_shape(_mapped(path).shape)


def _npz_shape(path: Path, words: tuple[str, ...]) -> tuple[int, ...]:
    check_regular(path)
    with zipfile.ZipFile(path) as archive:
        with archive.open((_named(archive, words) or archive.infolist())[0]) as file:
            return _frames_shape(NPY_HEADERS[np.lib.format.read_magic(file)](file)[0])


def _named(archive: zipfile.ZipFile, words: tuple[str, ...]) -> list[zipfile.ZipInfo]:
    """The array of the first word in any case, or else the only one that has it in its name, as depth_mm; or none."""
    entries = {entry.filename.lower().removesuffix(".npy"): entry for entry in archive.infolist()}
    for word in words:
        alike = [entry for key, entry in entries.items() if word in key]
        if word in entries or len(alike) == 1:
            return [entries.get(word, alike[0])]
    return []


def _squeezed(array: np.ndarray) -> np.ndarray:
    return np.squeeze(array) if array.ndim > 2 else array


def _frames_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[T, H, W] of a stack, [H, W] of one image: without sides of 1 and colours."""
    sides = tuple(side for side in shape if side != 1 or len(shape) <= 2)
    return sides[:-1] if len(sides) > 2 and sides[-1] in (3, 4) else sides


def time_last(shape: tuple[int, ...]) -> bool:
    """Whether three sides are those of [H, W, T]: the first two are an image's, the last two are not."""
    if len(shape) != 3:
        return False
    narrow = shape[2] < LEAST_SIDE <= min(shape[:2])
    return narrow or (_camera_size(shape[:2]) and not _camera_size(shape[1:]))


def _camera_size(shape: tuple[int, ...]) -> bool:
    return tuple(sorted(shape, reverse=True)) in CAMERA_SIZES


def _tiff_shape(path: Path) -> tuple[int, ...]:
    check_regular(path)
    with readable(path, "a TIFF", "export it again"), Image.open(path, formats=("TIFF",)) as image:
        return (image.n_frames, *image.size[::-1]) if image.n_frames > 1 else image.size[::-1]


def _tiff_bits(path: Path) -> int:
    """Bits a pixel by a TIFF's directory; 0 where there is none."""
    with open(path, "rb") as file:
        tags = ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        return max(tags[BITSPERSAMPLE]) if BITSPERSAMPLE in tags else 0


# ending -> reader(path, page)
PIXELS = dict.fromkeys(FORMATS, _picture) | {".pgm": _grey_map, ".exr": _exr, ".npy": _npy, ".npz": _npz}

# -- arrays and tables ----------------------------------------------------------------------------------------------------


def read_array(path: Path) -> Shaped[np.ndarray, "..."]:
    """The array of a .npy. Errors as `read_image`."""
    content = read_whole(path, MOST_IMAGE_BYTES)
    with readable(path, ".npy", "save it again with numpy.save"):
        array = _array(content)
        _check_size(array.shape[-2:])
        return array


def read_arrays(path: Path, alone: tuple[str, ...] = ()) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The arrays of an .npz by name; only the one of the first word in `alone`, if there is one. Errors as `read_image`."""
    content, arrays = read_whole(path, MOST_TABLE_BYTES), {}
    with readable(path, ".npz", "get it again"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = _named(archive, alone) or archive.infolist()
            if sum(entry.file_size for entry in entries) > MOST_TABLE_BYTES:
                raise ValueError(f"it unpacks to more than {MOST_TABLE_BYTES:,} bytes")
            for entry in entries:
                with archive.open(entry) as file:  # which unpacks no more than the size that was summed above
                    arrays[entry.filename.removesuffix(".npy")] = _array(file.read(entry.file_size))
    return arrays


def read_table(path: Path, delimiter: str | None = None) -> Float[np.ndarray, "R C"]:
    """Rows of numbers from a text file, gzipped where its name ends in .gz. Errors as `read_image`."""
    content = read_whole(path, MOST_TABLE_BYTES)
    with readable(path, "a table of numbers", "fetch it again"):
        text = unzipped(content, MOST_TABLE_BYTES, path) if path.suffix == ".gz" else content
        return np.loadtxt(io.StringIO(text.decode("utf-8")), delimiter=delimiter, ndmin=2)


@contextmanager
def readable(path: Path, kind: str, remedy: str) -> Iterator[None]:
    """Around what decodes a file: an error inside becomes a ValueError that names the file, its kind and a remedy."""
    try:
        yield
    except Exception as error:  # decoders pass on whatever they stumble over
        if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):  # it says all that already
            raise
        mended = _wrong_ending(path) or f"cannot be read as {kind} ({error or type(error).__name__}); {remedy}"
        raise ValueError(f"{path}: {mended}") from error


def _wrong_ending(path: Path) -> str | None:
    """What to say of a file that is not of the kind that its ending says."""
    with suppress(OSError), open(path, "rb") as file:
        start = file.read(8)
        endings = next((endings for bytes_, endings in STARTS.items() if start.startswith(bytes_)), None)
        if not start:
            return "is empty; copy it again, or remove it"
        if endings is not None and _ending(path) in PIXELS and _ending(path) not in endings:
            return f"ends in {path.suffix}, but its content is that of a {endings[0]}; rename it"
    return None


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
    if dtype.hasobject:
        raise ValueError(
            f"an array of {dtype} and shape {shape}, as of None or of images of several sizes; save a file for each image, "
            "or numpy.stack(images)"
        )
    if min(shape, default=0) < 0:
        raise ValueError(f"an array of {dtype} and shape {shape}")
    if math.prod(shape) * dtype.itemsize > len(content) - file.tell():
        raise ValueError(f"cut short: {len(content) - file.tell()} bytes for an array of {dtype} and shape {shape}")
    return np.ndarray(shape, dtype, content, file.tell(), order="F" if by_columns else "C")
