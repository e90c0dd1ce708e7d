"""Damage files at random, and look whether every reader says so in one sentence.

    python benchmarks/fuzz.py                  # ten minutes; writes results/fuzz.json
    python benchmarks/fuzz.py --seconds 30 --seed 7 --only png npy
    python benchmarks/fuzz.py --seed 7 --turn 123           # one file again

Good files of each kind are damaged: bits are flipped, bytes replaced by numbers at the edge of what fits, parts cut out or
doubled, ends cut off; text loses, gains and exchanges words. A reader must return, or raise ValueError or OSError with the
file's name in the message, within `LONGEST_S` and without asking for much memory. All else is a crash. What crashed is kept in
build/fuzz. The same seed and kinds give the same files.
"""

import argparse
import gzip
import json
import os
import pickle
import random
import re
import resource
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from pygltflib import GLTF2, BufferFormat
from safetensors.torch import load, save
from scipy import sparse
from scipy.io import savemat
from tqdm import tqdm

from hrlib.companion import results
from hrlib.datasets.fetch import registry
from hrlib.datasets.icvl import ICVL
from hrlib.datasets.msra import MSRA
from hrlib.datasets.nyu import NYU
from hrlib.datasets.published import TEST_SETS, read_predictions
from hrlib.frames.folder import DepthFolder, read_depth
from hrlib.frames.intrinsics import read_camera
from hrlib.frames.masked import MaskedFolder
from hrlib.hand.files import as_glb
from hrlib.hand.from_file import hand_from_file
from hrlib.hand.gltf import load_gltf, named_bones
from hrlib.hand.rig import asset_tensors, load_hand
from hrlib.network.checkpoint import load_network, save_network
from hrlib.network.posenet import NetworkSettings, PoseNet
from hrlib.refine.saved import load_model
from hrlib.support import paths
from hrlib.support.decoding import read_arrays, read_table
from hrlib.support.inert_pickle import read_arrays as read_pickle
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


def pgm(folder: Path) -> Path:
    (folder / "a.pgm").write_bytes(b"P5 32 24 65535\n" + DEPTH.astype(">u2").tobytes())
    return folder / "a.pgm"


def tiff(folder: Path) -> Path:
    Image.fromarray(DEPTH).save(folder / "a.tif", compression="tiff_lzw")
    return folder / "a.tif"


def tiff_stack(folder: Path) -> Path:
    pages = [Image.fromarray(DEPTH.astype(np.float32) + page) for page in range(3)]
    pages[0].save(folder / "a.tiff", save_all=True, append_images=pages[1:])
    return folder / "a.tiff"


def read_frames(path: Path) -> object:
    return DepthFolder(path, (100.0, 100.0))[:5]


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


def text_table(folder: Path) -> Path:
    path = table(folder)
    (folder / "a.txt").write_bytes(gzip.decompress(path.read_bytes()))
    return folder / "a.txt"


def predictions(folder: Path) -> Path:
    """Of a published method on ICVL's first sequence, before compression, by which checksums would catch all damage."""
    (folder / "published" / "icvl").mkdir(parents=True, exist_ok=True)
    rows = np.full((TEST_SETS["icvl"].subject_frames[0], 3 * TEST_SETS["icvl"].joints), 200)
    np.savetxt(folder / "predictions.txt", rows, "%d")
    return folder / "predictions.txt"


def read_published(path: Path) -> object:
    (path.parent / "published" / "icvl" / "CVPR14_LRF_Results.txt.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
    with patch.dict(os.environ, {paths.MIRROR_VARIABLE: str(path.parent)}):
        return read_predictions("icvl", "LRF")


def camera_yaml(folder: Path) -> Path:
    numbers = "rows: 3\n   cols: 3\n   dt: d\n   data: [ 500.0, 0., 320.0, 0., 500.0, 240.0, 0., 0., 1. ]"
    (folder / "camera.yaml").write_text(f"%YAML:1.0\n---\ncamera_matrix: !!opencv-matrix\n   {numbers}\n")
    return folder / "camera.yaml"


def camera_json(folder: Path) -> Path:
    numbers = {"fx": 500.0, "fy": 501.0, "ppx": 320.0, "ppy": 240.0}
    (folder / "camera.json").write_text(json.dumps({"depth": {"width": 640, "intrinsics": numbers}, "unit": None}))
    return folder / "camera.json"


def glb(folder: Path) -> Path:
    (folder / "a.glb").write_bytes(as_glb(load_hand()))
    return folder / "a.glb"


def gltf(folder: Path) -> Path:
    """Text, with its data in it as base64."""
    file = GLTF2.load_from_bytes(as_glb(load_hand()))
    file.convert_buffers(BufferFormat.DATAURI)
    (folder / "a.gltf").write_text(file.to_json())
    return folder / "a.gltf"


def read_gltf(path: Path) -> object:
    return load_gltf(path, named_bones(path), cloud_points=16)


def bones(folder: Path) -> Path:
    """Which bone is which joint, as a user writes it down."""
    glb(folder)
    (folder / "bones.json").write_text(json.dumps(named_bones(folder / "a.glb")))
    return folder / "bones.json"


def read_bones(path: Path) -> object:
    return hand_from_file(path.parent / "a.glb", path)


def recorded(folder: Path) -> Path:
    """The description beside images that `hrlib record` writes."""
    (folder / "take").mkdir(exist_ok=True)
    Image.fromarray(DEPTH).save(folder / "take" / "00000.png")
    told = {"camera": {"fx": 100.0, "fy": 100.0, "cx": 15.5, "cy": 11.5}, "unit_mm": 0.25, "width": 32, "height": 24}
    (folder / "take" / "camera.json").write_text(json.dumps(told))
    return folder / "take" / "camera.json"


def recording(ending: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        content = gzip.decompress((paths.ROOT / "tests" / "recordings" / f"realsense{ending}.gz").read_bytes())
        (folder / f"a{ending}").write_bytes(content)
        return folder / f"a{ending}"

    return make


def mano(folder: Path) -> Path:
    parts = {"v_template": np.ones((5, 3)), "J_regressor": sparse.csc_matrix(np.eye(5)), "bs_type": "lrotmin"}
    (folder / "a.pkl").write_bytes(pickle.dumps(parts, protocol=2))
    return folder / "a.pkl"


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


def model_json(folder: Path) -> Path:
    """The metadata of a model, a key and its JSON a line; `read_model_json` puts its weights behind them."""
    path = bare_network(folder)
    content = path.read_bytes()
    meta = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    (folder / "meta.txt").write_text("\n".join(f"{key} {value}" for key, value in sorted(meta.items())))
    return folder / "meta.txt"


def read_model_json(path: Path) -> object:
    lines = path.read_bytes().decode(errors="replace").splitlines()
    model = path.parent / "net.safetensors"
    content = model.read_bytes()
    head = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:head]) | {"__metadata__": dict(line.partition(" ")[::2] for line in lines)}
    header = json.dumps(header).encode()
    broken = model.with_name("broken.safetensors")
    broken.write_bytes(len(header).to_bytes(8, "little") + header + content[head:])
    return load_model(broken)


def state(folder: Path) -> Path:
    write_state(folder / "state.pt", {"config": {"a": 1}, "step": 3, "weights": torch.arange(50.0)})
    return folder / "state.pt"


def bare_state(folder: Path) -> Path:
    torch.save({"config": {"a": 1}, "step": 3, "weights": torch.arange(50.0)}, folder / "state.pt")
    return folder / "state.pt"


def register(folder: Path) -> Path:
    (folder / "registry.json").write_bytes(paths.REGISTRY.read_bytes())
    return folder / "registry.json"


def read_registry(path: Path) -> dict:
    with patch.object(paths, "REGISTRY", path):
        return registry()


def nyu(folder: Path) -> Path:
    (folder / "test").mkdir(exist_ok=True)
    savemat(folder / "test" / "joint_data.mat", {"joint_uvd": np.ones((3, 4, 36, 3))})
    return folder / "test" / "joint_data.mat"


def nyu_image(folder: Path) -> Path:
    packed = np.stack([np.zeros_like(DEPTH), DEPTH // 256, DEPTH % 256], -1).astype(np.uint8)
    Image.fromarray(packed).save(folder / "depth_1_0000001.png")
    return folder / "depth_1_0000001.png"


def icvl(folder: Path) -> Path:
    (folder / "Testing" / "Depth" / "seq").mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.tile(DEPTH, (10, 10))).save(folder / "Testing" / "Depth" / "seq" / "image_0.png")
    line = "seq/image_0.png " + " ".join(f"{x:.1f}" for x in np.linspace(50, 300, 48))
    for name in ("test_seq_1.txt", "test_seq_2.txt"):
        (folder / "Testing" / name).write_text(f"{line}\n{line}\n")
    return folder / "Testing" / "test_seq_1.txt"


def icvl_image(folder: Path) -> Path:
    return icvl(folder).parent / "Depth" / "seq" / "image_0.png"


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
    "pgm": Kind(pgm, read_frames),
    "tiff": Kind(tiff, read_frames),
    "tiff stack": Kind(tiff_stack, read_frames),
    "npy": Kind(npy, read_frames),
    "npz": Kind(npz, read_arrays),
    "mask png": Kind(masks(".png"), read_mask),
    "mask jpg": Kind(masks(".jpg"), read_mask),
    "mask bmp": Kind(masks(".bmp"), read_mask),
    "recorded": Kind(recorded, lambda path: DepthFolder(path.parent)[0], text=True),
    "bag": Kind(recording(".bag"), lambda path: DepthFolder(path)[:5]),
    "db3": Kind(recording(".db3"), lambda path: DepthFolder(path)[:5]),
    "camera json": Kind(camera_json, read_camera, text=True),
    "camera yaml": Kind(camera_yaml, read_camera, text=True),
    "table": Kind(table, read_table),
    "table text": Kind(text_table, read_table, text=True),
    "predictions": Kind(predictions, read_published, text=True),
    "glb": Kind(glb, read_gltf),
    "gltf text": Kind(gltf, read_gltf, text=True),
    "bones": Kind(bones, read_bones, text=True),
    "mano": Kind(mano, read_pickle),
    "hand": Kind(hand, load_hand),
    "network": Kind(network, lambda path: load_network(load_hand(), path)),
    "network without digest": Kind(bare_network, lambda path: load_network(load_hand(), path)),
    "model json": Kind(model_json, read_model_json, text=True),
    "state": Kind(state, lambda path: read_state(path, "a run")),
    "state without digest": Kind(bare_state, lambda path: read_state(path, "a run")),
    "registry": Kind(register, read_registry, text=True),
    "nyu": Kind(nyu, lambda path: NYU(path.parent.parent)),
    "nyu image": Kind(nyu_image, lambda path: read_depth(path, encoding="nyu")),
    "icvl": Kind(icvl, lambda path: ICVL(path.parent.parent)[0], text=True),
    "icvl image": Kind(icvl_image, lambda path: ICVL(path.parents[3])[0]),
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
    words = re.split(rb"([\s,:\[\]{}()]+)", content)  # and between them what keeps them apart, which stays
    odd = (
        b"nan",
        b"inf",
        b"-1",
        b"0",
        b"7",
        b"1000000000",
        b"1e400",
        b"",
        b"null",
        b"[]",
        b"{}",
        b"NaN",
        b'"../../x"',
        b"\x1b[2J",
        b"\xff",
        b"9" * 400,
    )
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(0, len(words), 2)
        fault = chance.random()
        if fault < 0.5:
            words[at] = chance.choice(odd)
        elif fault < 0.8:
            words[at] = words[chance.randrange(0, len(words), 2)]
        else:
            del words[at : at + 2 * chance.randint(1, 3)]
            words = words or [b""]
    return b"".join(words)


class Stuck(BaseException):
    """A reader takes longer than `LONGEST_S`. No Exception, which readers may turn into their own errors."""


@contextmanager
def time_limit() -> Iterator[None]:
    """Raise `Stuck` in what takes too long: a loop without end would end the fuzzing unseen. Not on Windows."""

    def stop(number, frame):
        raise Stuck(f"took longer than {LONGEST_S:.0f} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def verdict(kind: Kind, path: Path) -> tuple[str, str]:
    """ "read", "refused" or "crash", and what was said."""
    try:
        with warnings.catch_warnings(), time_limit():
            warnings.simplefilter("ignore")
            kind.read(path)
        return "read", ""
    except (ValueError, OSError) as error:
        named = path.name in str(error) or str(path.parent) in str(error)
        return ("refused", str(error)) if named else ("crash", f"names no file: {error!r}")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "crash", repr(error)


def memory_mb() -> float:
    """The most that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz(names: list[str], seconds: float, seed: int, keep: Path, first: int = 0) -> tuple[dict, list[str]]:
    """Counts of each kind, and what crashed.

    Args:
        names: of `KINDS`, one after another.
        seconds: how long; at least one file is tried.
        seed: of the damage, with the number of the turn.
        keep: folder for the files that crashed a reader.
        first: number of the first turn.
    """
    counts, crashes = {name: Counter() for name in names}, []
    with TemporaryDirectory() as folder:
        good = {}
        for number, name in enumerate(names):
            (own := Path(folder) / str(number)).mkdir()
            path = KINDS[name].make(own)
            good[name] = path, path.read_bytes()
            said, why = verdict(KINDS[name], path)
            assert said == "read", f"the good file of {name} is refused: {why}"
        base_mb, began = memory_mb(), time.monotonic()
        with tqdm(total=round(seconds), desc="fuzz", unit="s") as bar:
            for turn in count(first):
                name = names[turn % len(names)]
                path, content = good[name]
                broken = damaged(content, random.Random(f"{seed} {turn}"), KINDS[name].text)
                path.write_bytes(broken)
                said, why = verdict(KINDS[name], path)
                if said != "crash" and memory_mb() - base_mb > MOST_MB:
                    said, why, base_mb = "crash", f"took {memory_mb() - base_mb:.0f} MB", memory_mb()
                counts[name][said] += 1
                if said == "crash":
                    crashes.append(f"{name}, --seed {seed} --turn {turn}: {why}")
                    tqdm.write(crashes[-1][:300])
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}-{turn}{path.suffix}").write_bytes(broken)
                path.write_bytes(content)
                bar.n = round(time.monotonic() - began)
                bar.refresh()
                if time.monotonic() - began >= seconds:
                    break
    return {name: dict(tally) for name, tally in counts.items()}, crashes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--turn", type=int, help="try only this file of a seed, with all kinds as --only named them then"
    )
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", type=Path, default=paths.BENCHMARKS / "fuzz.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep = paths.BUILD / "fuzz"
    if arguments.turn is not None:
        _, crashes = fuzz(arguments.only, 0, arguments.seed, keep, arguments.turn)
        return int(bool(crashes))
    counts, crashes = fuzz(arguments.only, arguments.seconds, arguments.seed, keep)
    total = Counter()
    for tally in counts.values():
        total.update(tally)
    parameters = {"seconds": arguments.seconds, "kinds": len(counts)}
    made = results.provenance(parameters, arguments.seed, {"hand": paths.HAND_ASSET})
    metrics = {"files": total.total(), **{key: total[key] for key in ("read", "refused", "crash")}}
    results.write_result(arguments.out, "fuzz", metrics | {"kinds": counts, "crashes": crashes}, {}, made, "full")
    print(f"{total.total()} damaged files: {total['refused']} refused, {total['read']} read, {total['crash']} crashes")
    return int(total["crash"] > 0)


if __name__ == "__main__":
    sys.exit(main())
