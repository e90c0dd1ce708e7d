"""A pool of hands that the finder found in whole scenes (`synthetic.found_hands`), drawn once: drawing one takes 0.1 s."""

from pathlib import Path

import torch
from safetensors.torch import save
from tqdm import tqdm

from ..frames.crops import Crops
from ..support.files import write_bytes_atomically
from ..support.tensor_files import read_tensors
from ..synthetic.found_hands import found_hands
from ..synthetic.frames import SyntheticBatch, joined

SHARD = 200  # frames of a file
TRUTH = ("rotations", "wrist_mm", "joints_mm", "bones_mm", "shape")


def found_pool(folder: Path, frames: int, seed: int, progress: bool = True) -> SyntheticBatch:
    """At least `frames` of them without points, from the files in `folder`; draws and keeps those that are missing.

    Their images are in float16. Raises ValueError for a damaged file, OSError if one cannot be written.
    """
    bar = tqdm(range(-(-frames // SHARD)), desc="hands in scenes", unit="file", disable=not progress)
    return joined(*(_shard(folder / f"{seed}-{number:04d}.safetensors", (seed, number)) for number in bar))


def _shard(path: Path, seed: tuple[int, int]) -> SyntheticBatch:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        batch = found_hands(SHARD, seed[0] * 10**5 + seed[1])
        kept = {"image": batch.crops.image.half(), "centre_mm": batch.crops.centre_mm}
        kept |= {name: getattr(batch, name) for name in TRUTH}
        write_bytes_atomically(path, save({name: part.contiguous() for name, part in kept.items()}))
    _, kept = read_tensors(path)
    image = kept["image"]
    none = torch.zeros(len(image), dtype=torch.int64)
    crops = Crops(image, image.new_empty(len(image), 0, 3).float(), kept["centre_mm"], none, 250.0)
    return SyntheticBatch(crops, *(kept[name] for name in TRUTH))
