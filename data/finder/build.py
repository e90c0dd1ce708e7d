"""Train hrlib/assets/finder_*.onnx: the networks of `hrlib.frames.finder` that find the hand in a whole frame.

    python data/finder/build.py draw [--scenes 14000]
    python data/finder/build.py locate [--images 200000] [--out runs/finder]
    python data/finder/build.py segment [--images 200000] [--out runs/finder]
    python data/finder/build.py side [--images 400000] [--out runs/finder]
    python data/finder/build.py segment --further --images 30000 [--out runs/finder]
    python data/finder/build.py assemble [--out runs/finder]

Scenes are synthetic (`hrlib.synthetic.scenes`), some with a thing that is no hand (`data/recognise/things.py`). They are drawn
once, in shards below build/finder; what is there is not drawn again. A training that was stopped goes on where it was. It
takes the shards that are there when it looks for them, so that drawing may go on meanwhile. No real image is used. The curve
goes to finder.json; `benchmarks/find_hands.py` judges the networks by scenes that it has not seen, and by real frames.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numba import njit
from safetensors import safe_open
from safetensors.torch import save
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from tqdm import tqdm

from hrlib.frames.camera import Camera
from hrlib.frames.finder import (
    CLOSE,
    CLOSE_MM,
    FOREARM,
    HAND,
    SMALL,
    focal_of,
    inputs,
    networks,
    upright,
)  # fmt: skip
from hrlib.support import paths
from hrlib.support.files import write_bytes_atomically, write_json
from hrlib.support.state_files import read_state, write_state
from hrlib.synthetic.scenes import draw_scenes
from hrlib.synthetic.sensor import measure
from hrlib.synthetic.sensor.model import KINECT_V1, SR300

sys.path += [str(paths.DATA / "recognise"), str(paths.DATA / "finder")]
from nets import FinderNet, SideNet, files, weights_in
from things import TRAINED

SHARDS = paths.BUILD / "finder"
FIGURES = paths.DATA / "finder" / "finder.json"
SHARD = 250  # scenes
UNIT_MM = 0.125  # of depths in shards: up to 8.19 m
THINGS_SHARE = 0.2  # of the scenes that get a thing, half of them before nothing else
THING_MM = (300.0, 1100.0)  # distance of such a thing

STEP = (2.2, 5.4)  # px of a scene that a cell spans: from a window of it to a part of the image
ROLL_DEG = 20.0  # standard deviation of the turn in the image, as far as a camera's roll has no bounds
QUARTERS_SHARE = 0.15  # of the images that are turned by any quarters besides
HOLES_SHARE = 0.2  # of the images that lose pixels and spots
TIGHT_SHARE = 0.2  # of the images that show a tight crop, with nothing around it
WHOLE_SHARE = 0.4  # of a hand's pixels, at least, that must be in the window for it to count
HAND_SHARE = 0.75  # of the close-ups of scenes with a hand, that show it
# standard deviation of a close-up's middle from the hand's, along each axis; of half of them, since one that has seen hands
# in the middle alone takes a wrist there for one
OFF_MM, FAR_OFF_MM = 20.0, 50.0
SEGMENTED_SHARE = 0.7  # of the upright hands, cut out by the segmenter instead of the truth
FEW_CELLS = 60  # of a hand: fewer neither count as a hand nor as none

BATCH = 16
RATE, WARM = 3e-3, 300  # greatest learning rate, and the steps up to it
GENTLE = 0.3  # of these rates, where a training goes on from the weights in the package (--further)
SIDES, SIDE_RATE = 64, 1e-3  # batch and rate of what tells sides
CURVE_EVERY, MEASURE_EVERY = 400, 10  # steps
SAVE_SECONDS = 60.0


# -- scenes on disk -----------------------------------------------------------------------------------------------------


def draw(scenes: int) -> None:
    """Draw the shards that are missing."""
    for seed in tqdm(range(-(-scenes // SHARD)), desc="draw scenes", unit="shard"):
        path = SHARDS / f"{seed:04d}.safetensors"
        if not path.exists():
            write_bytes_atomically(path, save(_shard(seed)))


def _shard(seed: int) -> dict[str, torch.Tensor]:
    scenes = draw_scenes(SHARD, seed)
    depth, label = np.array(scenes.depth_mm, np.float32), np.array(scenes.label, np.uint8)
    has_hand = np.array(scenes.hand, bool)
    random = np.random.default_rng(seed)
    for i in np.flatnonzero(random.random(SHARD) < THINGS_SHARE):
        camera, sensor = Camera(*map(float, scenes.intrinsics[i])), (KINECT_V1, SR300)[random.integers(2)]
        thing = _thing(random, camera, depth.shape[1:], sensor)
        if random.random() < 0.5:
            depth[i], label[i] = 0, 0
        over = (thing > 0) & ((thing < depth[i]) | (depth[i] == 0))
        before = (label[i] == HAND).sum()
        depth[i][over], label[i][over] = thing[over], 0
        has_hand[i] &= (label[i] == HAND).sum() > 0.5 * max(before, 1)
        if not has_hand[i]:
            depth[i][label[i] > 0], label[i] = 0, 0  # no rest of a hand that does not count
    counts = np.round(depth / UNIT_MM)
    counts[counts > 65535] = 0
    arrays = {
        "depth": counts.astype(np.uint16), "label": label, "intrinsics": np.float32(scenes.intrinsics), "hand": has_hand,
        "right": np.array(scenes.right, bool), "shows_side": np.array(scenes.shows_side, bool) & has_hand,
    }  # fmt: skip
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _thing(random, camera: Camera, size, sensor) -> np.ndarray:
    """Measured depth of one thing somewhere in the image."""
    z = random.uniform(*THING_MM)
    side = max(size)  # things are drawn in squares
    moved = Camera(camera.fx, camera.fy, *(n * random.uniform(0.15, 0.85) for n in size[::-1]))
    clean = np.float32(TRAINED[random.integers(len(TRAINED))](random, moved, (side, side), z))
    clean = np.ascontiguousarray(clean[None, : size[0], : size[1]])
    clean[~np.isfinite(clean)] = 0
    return measure(clean, np.float32([camera.fx]), sensor, int(random.integers(2**31)))[0]


@dataclass(frozen=True)
class Scene:
    """One scene of a shard."""

    depth: np.ndarray  # [240, 320], in UNIT_MM
    label: np.ndarray  # [240, 320]
    camera: Camera
    hand: bool
    right: bool
    shows_side: bool


@lru_cache(400)
def _opened(path: Path) -> tuple:
    file = safe_open(path, "np")
    small = {name: file.get_tensor(name) for name in ("intrinsics", "hand", "right", "shows_side")}
    return file.get_slice("depth"), file.get_slice("label"), small


def scene(path: Path, i: int) -> Scene:
    """Scene i of a shard."""
    depth, label, small = _opened(path)
    camera, flags = (
        Camera(*map(float, small["intrinsics"][i])),
        (bool(small[k][i]) for k in ("hand", "right", "shows_side")),
    )
    return Scene(depth[i : i + 1][0], label[i : i + 1][0], camera, *flags)


# -- images for training ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """What a network sees of a scene, and what it should say."""

    x: np.ndarray | None  # `inputs`
    classes: np.ndarray  # [h, w], -1 where nothing was measured
    hand: int  # 1 or 0; -1 where it is not known or not asked for
    right: int  # the same
    z: np.ndarray  # depth of the cells, mm


def to_locate(s: Scene, random: np.random.Generator) -> Example:
    """A small image of a scene, or of a window of it: most often with the hand, some of them tight."""
    step = np.exp(random.uniform(*np.log(STEP))) if random.random() < 0.7 else 4.0
    height, width = s.label.shape
    rows, columns = min(SMALL[0], int(height / step)), min(SMALL[1], int(width / step))
    if random.random() < TIGHT_SHARE:
        rows, columns = (max(min(n, 16), int(n * random.uniform(0.3, 1))) for n in (rows, columns))
    v, u = _place(s, random, HAND if random.random() < 0.9 else -1)[:2]
    middle = []
    for at, n, cells in ((v, height, rows), (u, width, columns)):  # within the image, if that is large enough
        half = cells * step / 2
        middle.append(np.clip(at + half * random.uniform(-0.7, 0.7), min(half, n / 2), max(n - half, n / 2)))
    turn, mirrored = _turn(random), random.random() < 0.5
    z, classes = np.zeros(SMALL, np.float32), np.full(SMALL, -1)
    z[:rows, :columns], classes[:rows, :columns] = seen(
        s.depth, s.label, *middle, step, turn, mirrored, (rows, columns)
    )
    _spoil(z, classes, random)
    return Example(inputs(z, focal_of(s.camera) / step, rows, columns, 600.0), classes, -1, -1, z)


def to_segment(s: Scene, random: np.random.Generator, always: bool = False) -> Example:
    """A close-up of a hand in the scene, or now and then, unless `always`, of something else."""
    wanted = HAND if always or random.random() < HAND_SHARE else FOREARM if random.random() < 0.4 else -1
    v, u, z_mm = _place(s, random, wanted)
    z_mm = max(150.0, z_mm + OFF_MM * random.normal())
    step = focal_of(s.camera) * CLOSE_MM / CLOSE / z_mm * np.exp(0.05 * random.normal())
    off_mm = OFF_MM if always or random.random() < 0.5 else FAR_OFF_MM
    v, u = (at + off_mm * CLOSE / CLOSE_MM * step * random.normal() for at in (v, u))
    mirrored = random.random() < 0.5
    z, classes = seen(s.depth, s.label, v, u, step, _turn(random), mirrored, (CLOSE, CLOSE))
    _spoil(z, classes, random)
    cells, of = (classes == HAND).sum(), (s.label == HAND).sum() / step**2
    near = off_mm > OFF_MM or (classes[CLOSE // 4 : -CLOSE // 4, CLOSE // 4 : -CLOSE // 4] == HAND).sum() > 0.5 * cells
    hand = 0 if cells == 0 or not s.hand else 1 if near and cells >= max(FEW_CELLS, WHOLE_SHARE * of) else -1
    x = inputs(z, focal_of(s.camera) / step, CLOSE, CLOSE, z_mm)
    return Example(x, classes, hand, int(s.right != mirrored) if hand == 1 and s.shows_side else -1, z)


def uprights(close: list[Example], random: np.random.Generator) -> list[Example]:
    """Their upright hands: most often as the segmenter leaves them, as it does in frames."""
    made = []
    for one, shares in zip(close, networks().segment(np.stack([one.x for one in close]))[0], strict=True):
        masks = np.stack([one.classes == HAND, one.classes == FOREARM])
        if random.random() < SEGMENTED_SHARE:
            masks = (shares[[HAND, FOREARM]] > 0.5) & (one.z > 0)
        if random.random() < 0.15:
            masks[1] = False
        x = upright(one.z, *masks)
        made += [] if x is None else [replace(one, x=x)]
    return made


def _turn(random) -> float:
    """A turn in the image, rad."""
    quarters = random.integers(1, 4) if random.random() < QUARTERS_SHARE else 0
    return np.pi / 2 * quarters + np.radians(ROLL_DEG * random.normal() if random.random() < 0.5 else 0.0)


def _place(s: Scene, random, wanted: int) -> tuple[float, float, float]:
    """Row, column and depth (mm) of the middle of a hand, or of a pixel of the class; -1: the nearest of some pixels."""
    pixels = np.flatnonzero(s.label.ravel() == wanted) if wanted > 0 else np.zeros(0, int)
    if not len(pixels):
        wanted, pixels = -1, random.integers(s.label.size, size=8)
        pixels = pixels[s.depth.ravel()[pixels] > 0]
        pixels = pixels[s.depth.ravel()[pixels].argmin() :][:1] if len(pixels) else pixels
    if not len(pixels):
        return s.label.shape[0] / 2, s.label.shape[1] / 2, 600.0
    v, u = np.divmod(pixels, s.label.shape[1])
    at = random.integers(len(pixels))
    z_mm = s.depth[v[at], u[at]] * UNIT_MM
    if wanted == HAND:  # the middle of what is near this pixel
        reach = 130 * focal_of(s.camera) / z_mm
        near = (abs(v - v[at]) < reach) & (abs(u - u[at]) < reach) & (abs(s.depth[v, u] * UNIT_MM - z_mm) < 130)
        return float(v[near].mean()), float(u[near].mean()), float(s.depth[v, u][near].mean() * UNIT_MM)
    return float(v[at]), float(u[at]), float(z_mm)


@njit(cache=True)
def seen(depth, label, v, u, step, turn, mirrored, size):
    """Depth (mm) and classes of cells around a pixel in a turned and mirrored image; as `sampled`, but for the turn."""
    cos, sin, half = np.cos(turn), np.sin(turn), max(0, int(step / 2))
    z, classes = np.zeros(size, np.float32), np.full(size, -1)
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = (i - size[0] / 2 + 0.5) * step, (j - size[1] / 2 + 0.5) * step
            if mirrored:
                x = -x
            row, column = int(np.rint(v + cos * y - sin * x)), int(np.rint(u + sin * y + cos * x))
            if not (0 <= row < depth.shape[0] and 0 <= column < depth.shape[1]) or depth[row, column] == 0:
                continue
            middle, total, count = np.float32(depth[row, column]) * np.float32(UNIT_MM), np.float32(0), 0
            for a in range(max(0, row - half), min(depth.shape[0], row + max(1, half))):
                for b in range(max(0, column - half), min(depth.shape[1], column + max(1, half))):
                    d = np.float32(depth[a, b]) * np.float32(UNIT_MM)
                    if d > 0 and abs(d - middle) < 20:
                        total, count = total + d, count + 1
            z[i, j], classes[i, j] = total / max(count, 1), label[row, column]
    return z, classes


def _spoil(z, classes, random) -> None:
    """Take single cells and round spots out of an image now and then, as reflections and sunlight do."""
    if random.random() > HOLES_SHARE:
        return
    lost = random.random(z.shape) < 0.1 * random.random() ** 2
    rows, columns = np.ogrid[: z.shape[0], : z.shape[1]]
    for _ in range(random.integers(0, 4)):
        v, u, r = random.integers(z.shape[0]), random.integers(z.shape[1]), random.uniform(1, 4)
        lost |= (rows - v) ** 2 + (columns - u) ** 2 < r**2
    z[lost], classes[lost] = 0, -1


# -- training -----------------------------------------------------------------------------------------------------------


PARTS = {
    "locate": (lambda norm: FinderNet(*FinderNet.LOCATE, norm), to_locate),
    "segment": (lambda norm: FinderNet(*FinderNet.SEGMENT, norm), to_segment),
    "side": (lambda norm: SideNet(), partial(to_segment, always=True)),  # `uprights` cuts these hands out
}


def train(part: str, images: int, out: Path, further: bool = False) -> None:
    """Train one of the networks until `images` images have been seen; `further`: from the weights in the package on."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = PARTS[part][0](not further)
    state_file = out / f"{part}.pt"
    if further and not state_file.exists():
        net.load_state_dict(packaged(part))
    net = net.to(memory_format=torch.channels_last)
    rate = (SIDE_RATE if part == "side" else RATE) * (GENTLE if further else 1)
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=1e-2)
    size = SIDES if part == "side" else BATCH
    steps, step, curve, seconds = images // size, 0, [], 0.0
    before = seen_before(part) if further else 0
    if state_file.exists():
        state = read_state(state_file, "a training of the finder")
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        step, curve, seconds = state["step"], state["curve"], state["seconds"]
    recent, saved, bar = [], time.monotonic(), tqdm(total=steps, initial=step, desc=part, mininterval=10)
    while step < steps:
        started = time.monotonic()
        for group in optimiser.param_groups:
            group["lr"] = rate * min((step + 1) / WARM, 0.5 + 0.5 * math.cos(math.pi * step / steps))
        if part == "side":
            recent.append(side_step(net, optimiser, batch(part, before + step)))
        else:
            done = train_step(net, optimiser, batch(part, before + step))
            recent += [measured(*done)] if step % MEASURE_EVERY == 0 else []
        step += 1
        seconds += time.monotonic() - started
        bar.update(1)
        if step % CURVE_EVERY == 0 or step == steps:
            means = [
                float(np.nanmean(column)) if np.isfinite(column).any() else None for column in zip(*recent, strict=True)
            ]
            curve.append({"images": step * size} | dict(zip(MEASURES, means, strict=True)))
            recent = []
            bar.write(json.dumps(curve[-1]))
        if time.monotonic() - saved > SAVE_SECONDS or step == steps:
            state = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "config": {}}
            write_state(state_file, state | {"step": step, "curve": curve, "seconds": seconds})
            saved = time.monotonic()
    bar.close()


def assemble(out: Path) -> None:
    """Write the weights of the networks, as far as they are trained, and how they were. One that was not trained stays."""
    before = json.loads(FIGURES.read_text())
    nets, made = {part: make(False) for part, (make, _) in PARTS.items()}, {"scenes": SHARD * len(shards())}
    for part, (make, _) in PARTS.items():
        if not (out / f"{part}.pt").exists():  # stays as it is
            nets[part].load_state_dict(packaged(part))
            made[part] = before[part]
            continue
        state = read_state(out / f"{part}.pt", "a training of the finder")
        further = len(state["net"]) == len(nets[part].state_dict())  # without batch norms
        if further:
            nets[part].load_state_dict(state["net"])
        else:
            trained = make(True)
            trained.load_state_dict(state["net"])
            fold(trained, nets[part])
        made[part] = {"images": state["curve"][-1]["images"], "seconds": state["seconds"], "curve": state["curve"]}
        if further:
            made[part]["start"] = before[part]
    for name, model in files(**nets).items():
        write_bytes_atomically(paths.FINDER[name], model)
    write_json(FIGURES, made)


def seen_before(part: str) -> int:
    """Steps of the weights in the package, so that a training that goes on sees other images."""
    images, made = 0, json.loads(FIGURES.read_text())[part]
    while made:
        images, made = images + made["images"], made.get("start")
    return images // (SIDES if part == "side" else BATCH)


def packaged(part: str) -> dict[str, torch.Tensor]:
    """The weights of a network in the package."""
    return weights_in(*(paths.FINDER[name] for name in ((part, "judge") if part == "segment" else (part,))))


def shards() -> list[Path]:
    """Those that are there now.

    Raises ValueError if there is none.
    """
    there = sorted(SHARDS.glob("*.safetensors"))
    if not there:
        raise ValueError(f"no scenes in {SHARDS}: run this with draw first")
    return there


def batch(part: str, step: int) -> list[torch.Tensor]:
    """Images, classes, hand and right of one step."""
    random, there, made = np.random.default_rng([7, step]), shards(), []
    while len(made) < (SIDES if part == "side" else BATCH):
        one = scene(there[random.integers(len(there))], int(random.integers(SHARD)))
        if part != "side" or one.shows_side:
            example = PARTS[part][1](one, random)
            made += [example] if part != "side" or example.right >= 0 else []
    if part == "side":
        made = uprights(made, random)
    x = torch.from_numpy(np.stack([one.x for one in made]))
    x = x if part == "side" else x.contiguous(memory_format=torch.channels_last)
    return [x, *(torch.from_numpy(np.array([getattr(e, name) for e in made])) for name in ("classes", "hand", "right"))]


def side_step(net: SideNet, optimiser, images: list[torch.Tensor]) -> list[float | None]:
    """One step of what tells sides; its `MEASURES`."""
    said, right = net(images[0]), images[3]
    loss = binary_cross_entropy_with_logits(said, right.float())
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return [loss.item(), float("nan"), float("nan"), ((said > 0) == (right > 0)).float().mean().item()]


MEASURES = ("loss", "iou", "hand_right", "side_right")  # means over batches: of the curve


def train_step(net: FinderNet, optimiser, images: list[torch.Tensor]) -> tuple:
    """One step; its loss, and what `measured` needs."""
    x, classes, hand, _ = images
    with torch.autocast("cpu", torch.bfloat16):
        logits, features = net(x)
    logits = logits.float()
    pixels = cross_entropy(logits, classes, ignore_index=-1)
    share, truth = logits.softmax(1)[:, HAND] * (classes >= 0), (classes == HAND).float()
    overlap = (2 * (truth * share).sum((1, 2)) + 1) / (truth.sum((1, 2)) + share.sum((1, 2)) + 1)
    loss = 2 * pixels + 0.5 * (1 - overlap).mean()
    said = torch.full(hand.shape, torch.nan)
    if (hand >= 0).any():
        said = net.judged([f.float() for f in features], share.detach()[:, None])
        loss = loss + 0.25 * binary_cross_entropy_with_logits(said[hand >= 0], hand[hand >= 0].float())
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimiser.step()
    return loss.item(), share.detach(), said.detach(), images


def measured(loss: float, share, said, images) -> list[float]:
    """`MEASURES` of a step."""
    _, classes, hand, _ = images
    is_hand, says_hand = classes == HAND, share > 0.5
    iou = ((is_hand & says_hand).sum((1, 2)) / (is_hand | says_hand).sum((1, 2)))[hand == 1].mean()
    hands = ((said > 0) == (hand > 0))[hand >= 0].float().mean()
    return [loss, iou.item(), hands.item(), float("nan")]


def fold(net: nn.Module, plain: nn.Module) -> None:
    """Make `plain` equal to `net` without its batch norms."""
    trained = dict(net.eval().named_modules())
    for name, layer in plain.named_modules():
        if isinstance(layer, nn.Sequential) and len(layer) == 1:
            layer[0].load_state_dict(nn.utils.fuse_conv_bn_eval(*trained[name]).state_dict())
        elif isinstance(layer, nn.Linear) or name == "classes":
            layer.load_state_dict(trained[name].state_dict())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("draw", *PARTS, "assemble"))
    parser.add_argument("--scenes", type=int, default=14000, help="to draw")
    parser.add_argument("--images", type=int, default=200000, help="seen in the training")
    parser.add_argument("--further", action="store_true", help="begin with the weights in the package")
    parser.add_argument("--out", type=Path, default=paths.RUNS / "finder", help="of the trainings' states")
    arguments = parser.parse_args()
    if arguments.what == "draw":
        draw(arguments.scenes)
    elif arguments.what == "assemble":
        assemble(arguments.out)
    else:
        train(arguments.what, arguments.images, arguments.out, arguments.further)


if __name__ == "__main__":
    main()
