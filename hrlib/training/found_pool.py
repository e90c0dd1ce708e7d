"""A pool of hands that the finder found in whole scenes (`synthetic.found_hands`), drawn once: drawing one takes 0.1 s."""

from pathlib import Path

from ..support.files import write_bytes_atomically
from ..support.progress import tqdm
from ..support.tensor_files import read_tensors, tensor_bytes
from ..synthetic.found_hands import found_hands
from ..synthetic.frames import SyntheticBatch, joined
from .step import tensors, without_points

SHARD = 200  # frames of a file
PARTS = ("image", "centre_mm", "rotations", "wrist_mm", "joints_mm", "bones_mm", "shape")  # of `step.tensors`


def found_pool(
    folder: Path, frames: int, seed: int, cube_mm: float = 250.0, begin: float = 0.0, progress: bool = True
) -> SyntheticBatch:
    """At least `frames` of them without points, from the files in `folder`; draws and keeps those that are missing.

    Their images are in float16. Several processes that begin at different shares of the files (`begin`) share the drawing.
    Raises ValueError for a damaged file, OSError if one cannot be written.
    """
    files = [folder / f"{seed}-{number:04d}.safetensors" for number in range(-(-frames // SHARD))]
    first = int(begin * len(files))
    numbers = [*range(first, len(files)), *range(first)]
    for number in tqdm(numbers, desc="hands in scenes", unit="file", disable=not progress):
        if not files[number].exists():
            _draw(files[number], seed * 10**5 + number, cube_mm)
    return joined(*(_read(file, cube_mm) for file in files))


def _draw(file: Path, seed: int, cube_mm: float) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image, *others = tensors(found_hands(SHARD, seed, cube_mm))
    write_bytes_atomically(file, tensor_bytes(dict(zip(PARTS, [image.half(), *others], strict=True)), {}))


def _read(file: Path, cube_mm: float) -> SyntheticBatch:
    kept = read_tensors(file)[1]
    return without_points([kept[name] for name in PARTS], cube_mm)
