"""Damage files at random, and look whether every reader says so in one sentence.

    python benchmarks/fuzz.py                  # ten minutes; writes results/fuzz.json
    python benchmarks/fuzz.py --seconds 30 --seed 7 --only png npy

Good files of each kind are damaged: bits are flipped, bytes replaced by numbers at the edge of what fits, parts cut out or
doubled, ends cut off; text loses, gains and exchanges words. A reader must return, or raise ValueError or OSError with the
file's name in the message, within `LONGEST_S` and without asking for much memory. All else is a crash. What crashed is kept in
build/fuzz. The same seed gives the same files.
"""

import argparse
import gzip
import json
import random
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load, save
from scipy.io import savemat
from tqdm import tqdm

from hrlib.companion import results
from hrlib.datasets.fetch import registry
from hrlib.datasets.icvl import ICVL
from hrlib.datasets.msra import MSRA
from hrlib.datasets.nyu import NYU
from hrlib.frames.folder import DepthFolder, read_depth
from hrlib.frames.masked import MaskedFolder
from hrlib.hand.files import as_glb
from hrlib.hand.gltf import load_gltf
from hrlib.hand.joints import JOINT_NAMES
from hrlib.hand.rig import asset_tensors, load_hand
from hrlib.network.checkpoint import load_network, save_network
from hrlib.network.posenet import NetworkSettings, PoseNet
from hrlib.support import paths
from hrlib.support.decoding import read_arrays, read_table
from hrlib.support.state_files import read_state, write_state
from hrlib.support.tensor_files import DIGEST

LONGEST_S = 20.0  # for one file of some kilobytes, on a busy machine
MOST_MB = 3000  # of memory above what the good files take
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**40, 2**63 - 1)


@dataclass(frozen=True)
class Kind:
    """Files of one format and what reads them."""

    make: Callable[[Path], Path]  # writes a good file below a folder, and returns it
    read: Callable[[Path], object]  # reads it from its path
    text: bool = False  # damaged by words, too


# -- good files -----------------------------------------------------------------------------------------------------------

DEPTH = (np.add.outer(np.arange(24), np.arange(32)) * 11 + 400).astype(np.uint16)


def png(folder: Path) -> Path:
    Image.fromarray(DEPTH).save(folder / "a.png")
    return folder / "a.png"


def npy(folder: Path) -> Path:
    np.save(folder / "a.npy", DEPTH.astype(np.float32))
    return folder / "a.npy"


def npz(folder: Path) -> Path:
    np.savez_compressed(folder / "a.npz", joints_mm=np.ones((2, 21, 3)), names=np.array(["a", "b"]))
    return folder / "a.npz"


def masks(ending: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for name in ("frames", "masks"):
            (folder / name).mkdir(exist_ok=True)
        Image.fromarray(DEPTH).save(folder / "frames" / "a.png")
        hand = np.zeros(DEPTH.shape, np.uint8)
        hand[6:18, 8:24] = 255  # a mask that marks the border is refused as inverted
        Image.fromarray(hand).save(folder / "masks" / f"a{ending}")
        return folder / "masks" / f"a{ending}"

    return make


def read_mask(path: Path) -> object:
    frames = DepthFolder(path.parent.parent / "frames", (100.0, 100.0))
    return MaskedFolder(frames, path.parent)[0]


def table(folder: Path) -> Path:
    rows = "\n".join(" ".join(f"{x:.2f}" for x in row) for row in np.random.default_rng(0).normal(size=(20, 42)))
    (folder / "a.txt.gz").write_bytes(gzip.compress(rows.encode(), mtime=0))
    return folder / "a.txt.gz"


def glb(folder: Path) -> Path:
    (folder / "a.glb").write_bytes(as_glb(load_hand()))
    return folder / "a.glb"


def gltf_names() -> dict[str, str]:
    """The bones of `as_glb`'s files."""
    return {name: name for name in JOINT_NAMES}


def hand(folder: Path) -> Path:
    tensors = asset_tensors(load_hand())  # without a digest, which would catch all damage before the other checks do
    (folder / "hand.safetensors").write_bytes(save(tensors, {"hand": json.dumps({"name": "a hand"})}))
    return folder / "hand.safetensors"


def network(folder: Path) -> Path:
    torch.manual_seed(0)
    save_network(
        folder / "net.safetensors", PoseNet(NetworkSettings(backbone="resnet")), load_hand(), {}, torch.float16
    )
    return folder / "net.safetensors"


def bare_network(folder: Path) -> Path:
    path = network(folder)
    content = path.read_bytes()
    meta = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    path.write_bytes(save(load(content), {key: value for key, value in meta.items() if key != DIGEST}))
    return path


def state(folder: Path) -> Path:
    write_state(folder / "state.pt", {"config": {"a": 1}, "step": 3, "weights": torch.arange(50.0)})
    return folder / "state.pt"


def bare_state(folder: Path) -> Path:
    torch.save({"config": {"a": 1}, "step": 3, "weights": torch.arange(50.0)}, folder / "state.pt")
    return folder / "state.pt"


def register(folder: Path) -> Path:
    (folder / "registry.json").write_bytes(paths.REGISTRY.read_bytes())
    return folder / "registry.json"


def nyu(folder: Path) -> Path:
    (folder / "test").mkdir(exist_ok=True)
    savemat(folder / "test" / "joint_data.mat", {"joint_uvd": np.ones((3, 4, 36, 3))})
    return folder / "test" / "joint_data.mat"


def icvl(folder: Path) -> Path:
    (folder / "Testing").mkdir(exist_ok=True)
    line = "seq/image_0.png " + " ".join(f"{x:.1f}" for x in np.linspace(50, 300, 48))
    for name in ("test_seq_1.txt", "test_seq_2.txt"):
        (folder / "Testing" / name).write_text(f"{line}\n{line}\n")
    return folder / "Testing" / "test_seq_1.txt"


def msra_place(folder: Path) -> Path:
    place = folder / "P0" / "1"
    place.mkdir(parents=True, exist_ok=True)
    row = " ".join(f"{x:.2f}" for x in np.linspace(-100, 100, 63))
    (place / "joint.txt").write_text(f"2\n{row}\n{row}\n")
    head = np.array([320, 240, 100, 80, 120, 100], "<i4").tobytes()
    (place / "000000_depth.bin").write_bytes(head + np.full((20, 20), 400, "<f4").tobytes())
    return place


def read_msra(path: Path) -> object:
    return MSRA(path.parent.parent.parent, ("P0",))[0]


KINDS = {
    "png": Kind(png, read_depth),
    "npy": Kind(npy, read_depth),
    "npz": Kind(npz, read_arrays),
    "mask png": Kind(masks(".png"), read_mask),
    "mask jpg": Kind(masks(".jpg"), read_mask),
    "mask bmp": Kind(masks(".bmp"), read_mask),
    "table": Kind(table, read_table),
    "glb": Kind(glb, lambda path: load_gltf(path, gltf_names(), cloud_points=16)),
    "hand": Kind(hand, load_hand),
    "network": Kind(network, lambda path: load_network(load_hand(), path)),
    "network without digest": Kind(bare_network, lambda path: load_network(load_hand(), path)),
    "state": Kind(state, lambda path: read_state(path, "a run")),
    "state without digest": Kind(bare_state, lambda path: read_state(path, "a run")),
    "registry": Kind(register, registry, text=True),
    "nyu": Kind(nyu, lambda path: NYU(path.parent.parent)),
    "icvl": Kind(icvl, lambda path: ICVL(path.parent.parent), text=True),
    "msra labels": Kind(lambda folder: msra_place(folder) / "joint.txt", read_msra, text=True),
    "msra image": Kind(lambda folder: msra_place(folder) / "000000_depth.bin", read_msra),
}

# -- damage ---------------------------------------------------------------------------------------------------------------


def damaged(content: bytes, chance: random.Random, text: bool) -> bytes:
    """The content with one to four faults."""
    if text and chance.random() < 0.7:
        return _by_words(content, chance)
    content = bytearray(content)
    head = min(len(content), 4096) if chance.random() < 0.6 else len(content)  # most that is dangerous is in heads
    for _ in range(chance.randint(1, 4)):
        if not content:
            break
        at = chance.randrange(min(head, len(content)))
        fault = chance.randrange(7)
        if fault == 0:
            content[at] ^= 1 << chance.randrange(8)
        elif fault == 1:
            size = chance.choice((1, 2, 4, 8))
            value = (chance.choice(EDGES) % 256**size).to_bytes(size, chance.choice(("little", "big")))
            content[at : at + size] = value
        elif fault == 2:
            del content[at : at + chance.randint(1, 64)]
        elif fault == 3:
            content[at:at] = content[at : at + chance.randint(1, 64)]
        elif fault == 4:
            content[at:at] = chance.randbytes(chance.randint(1, 16))
        elif fault == 5:
            content[at : at + 8] = chance.randbytes(8)
        elif chance.random() < 0.3:
            del content[at:]
    return bytes(content)


def _by_words(content: bytes, chance: random.Random) -> bytes:
    words = content.split(b" ")
    odd = (b"nan", b"inf", b"-1", b"1e400", b"", b"null", b"[]", b"{}", b'"../../x"', b"\x1b[2J", b"\xff", b"9" * 400)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(words))
        if chance.random() < 0.5:
            words[at] = chance.choice(odd)
        elif chance.random() < 0.5:
            words[at] = words[chance.randrange(len(words))]
        else:
            del words[at : at + chance.randint(1, 3)]
            words = words or [b""]
    return b" ".join(words)


def verdict(kind: Kind, path: Path) -> tuple[str, str]:
    """ "read", "refused" or "crash", and what was said."""
    began = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.read(path)
        result = "read", ""
    except (ValueError, OSError) as error:
        named = path.name in str(error) or path.parent.name in str(error)
        result = ("refused", str(error)) if named else ("crash", f"names no file: {error!r}")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        result = "crash", repr(error)
    seconds = time.monotonic() - began
    return ("crash", f"took {seconds:.0f} s") if seconds > LONGEST_S else result


def memory_mb() -> float:
    """The most that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz(names: list[str], seconds: float, seed: int, keep: Path) -> tuple[dict, list[str]]:
    """Counts of each kind, and what crashed."""
    counts, crashes = {name: Counter() for name in names}, []
    with TemporaryDirectory() as folder:
        good = {}
        for number, name in enumerate(names):
            (Path(folder) / str(number)).mkdir()
            path = KINDS[name].make(Path(folder) / str(number))
            good[name] = path, path.read_bytes()
            assert verdict(KINDS[name], path)[0] == "read", f"the good file of {name} is refused"
        base_mb, began, turn = memory_mb(), time.monotonic(), 0
        with tqdm(total=round(seconds), desc="fuzz", unit="s") as bar:
            while time.monotonic() - began < seconds:
                name = names[turn % len(names)]
                path, content = good[name]
                broken = damaged(content, random.Random(f"{seed} {turn}"), KINDS[name].text)
                path.write_bytes(broken)
                said, why = verdict(KINDS[name], path)
                if said != "crash" and memory_mb() - base_mb > MOST_MB:
                    said, why, base_mb = "crash", f"took {memory_mb() - base_mb:.0f} MB", memory_mb()
                counts[name][said] += 1
                if said == "crash":
                    crashes.append(f"{name}, seed {seed}, turn {turn}: {why}")
                    tqdm.write(crashes[-1][:300])
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}-{turn}{path.suffix}").write_bytes(broken)
                path.write_bytes(content)
                turn += 1
                bar.n = round(time.monotonic() - began)
                bar.refresh()
    return {name: dict(count) for name, count in counts.items()}, crashes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", type=Path, default=paths.BENCHMARKS / "fuzz.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    counts, crashes = fuzz(arguments.only, arguments.seconds, arguments.seed, paths.BUILD / "fuzz")
    total = Counter()
    for count in counts.values():
        total.update(count)
    parameters = {"seconds": arguments.seconds, "kinds": len(counts)}
    made = results.provenance(parameters, arguments.seed, {"hand": paths.HAND_ASSET})
    metrics = {"files": total.total(), **{key: total[key] for key in ("read", "refused", "crash")}}
    results.write_result(arguments.out, "fuzz", metrics | {"kinds": counts, "crashes": crashes}, {}, made, "full")
    print(f"{total.total()} damaged files: {total['refused']} refused, {total['read']} read, {total['crash']} crashes")
    return int(total["crash"] > 0)


if __name__ == "__main__":
    sys.exit(main())
