"""Train hrlib/assets/finder.safetensors: the network of `hrlib.frames.finder` that finds the hand in a whole frame.

    python data/finder/build.py draw [--scenes 40000] [--held-out 2000]
    python data/finder/build.py train [--images 300000] [--out runs/finder]
    python data/finder/build.py judge

Scenes are synthetic (`hrlib.synthetic.scenes`), some with a thing that is no hand (`data/recognise/things.py`). They are drawn
once, in shards below build/finder; what is there is not drawn again. A training that was stopped goes on where it was. It
takes the shards that are there when it looks for them, so that drawing may go on meanwhile. No real image is used. What the
network is judged by is of seeds that it has not seen; those numbers and the curve go to finder.json.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
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
from hrlib.frames.finder import HAND, SMALL, FinderNet, find_hand, inputs, sampled
from hrlib.support import paths
from hrlib.support.files import write_bytes_atomically, write_json
from hrlib.support.state_files import read_state, write_state
from hrlib.synthetic.scenes import draw_scenes
from hrlib.synthetic.sensor import measure
from hrlib.synthetic.sensor.model import KINECT_V1, SR300

sys.path.append(str(paths.DATA / "recognise"))
from things import TRAINED

SHARDS = paths.BUILD / "finder"
FIGURES = paths.DATA / "finder" / "finder.json"
SHARD = 250  # scenes
UNIT_MM = 0.125  # of depths in shards: up to 8.19 m
THINGS_SHARE = 0.2  # of the scenes that get a thing, half of them before nothing else
THING_MM = (300.0, 1100.0)  # distance of such a thing
HELD_OUT_SEED = 1_000_000  # of the first shard that is only judged

STEP = (1.0, 2.7)  # px of a scene that a cell spans: from a window of it to a part of the image
ROLL_DEG = 20.0  # standard deviation of the turn in the image, as far as a camera's roll has no bounds
QUARTERS_SHARE = 0.15  # of the images that are turned by any quarters besides
HOLES_SHARE = 0.2  # of the images that lose pixels and spots
TIGHT_SHARE = 0.2  # of the images that show a tight crop, with nothing around it
WHOLE_SHARE = 0.4  # of a hand's pixels, at least, that must be in the window for it to count
FEW_CELLS = 25  # of a hand: fewer neither count as a hand nor as none

BATCH = 32
RATE, WARM = 3e-3, 300  # greatest learning rate, and the steps up to it
CURVE_EVERY, MEASURE_EVERY = 200, 10  # steps
SAVE_SECONDS = 120.0


# -- scenes on disk -----------------------------------------------------------------------------------------------------


def draw(scenes: int, first_seed: int, kind: str) -> None:
    """Draw the shards that are missing."""
    for k in tqdm(range(-(-scenes // SHARD)), desc=f"draw {kind} scenes", unit="shard"):
        path = SHARDS / f"{kind}-{k:04d}.safetensors"
        if not path.exists():
            write_bytes_atomically(path, save(_shard(first_seed + k)))


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

    depth_mm: np.ndarray  # [240, 320]
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
    return Scene(np.float32(depth[i : i + 1][0]) * np.float32(UNIT_MM), label[i : i + 1][0], camera, *flags)


# -- images for training ------------------------------------------------------------------------------------------------


def example(s: Scene, random: np.random.Generator) -> tuple:
    """The network's `inputs`, classes [120, 160] (-1: not measured), and hand, right (0, 1; -1: not known)."""
    depth, label, right = s.depth_mm, s.label, s.right
    if random.random() < 0.5:
        depth, label, right = depth[:, ::-1], label[:, ::-1], not right
    if random.random() < QUARTERS_SHARE:
        quarters = random.integers(1, 4)
        depth, label = np.rot90(depth, quarters), np.rot90(label, quarters)
    angle = np.radians(ROLL_DEG * random.normal()) if random.random() < 0.5 else 0.0
    depth, label = turned(np.ascontiguousarray(depth), np.ascontiguousarray(label), np.cos(angle), np.sin(angle))
    if random.random() < HOLES_SHARE:
        spoil(depth, random)
    step = np.exp(random.uniform(*np.log(STEP))) if random.random() < 0.7 else 2.0
    top, left, rows, columns = window(label, step, random)
    z = np.zeros(SMALL, np.float32)
    z[:rows, :columns] = sampled(depth, top, left, step, (rows, columns))
    classes = np.full(z.shape, -1)
    v, u = (np.int64(first + (np.arange(n) + 0.5) * step) for first, n in ((top, rows), (left, columns)))
    classes[:rows, :columns] = label[v[:, None], u]
    classes[z == 0] = -1
    x = inputs(z, np.sqrt(s.camera.fx * s.camera.fy) / step, rows, columns)
    cells, of = (classes == HAND).sum(), (label == HAND).sum() / step**2
    hand = 0 if not s.hand or cells == 0 else 1 if cells >= max(FEW_CELLS, WHOLE_SHARE * of) else -1
    return x, classes, hand, int(right) if hand == 1 and s.shows_side else -1


@njit(cache=True)
def turned(depth, label, cos, sin):
    """An image and its labels turned about the middle; nothing is where there was no image."""
    height, width = depth.shape
    turned_depth, turned_label = np.zeros_like(depth), np.zeros_like(label)
    for i in range(height):
        for j in range(width):
            y, x = i - height / 2 + 0.5, j - width / 2 + 0.5
            v, u = int(np.rint(cos * y - sin * x + height / 2 - 0.5)), int(np.rint(sin * y + cos * x + width / 2 - 0.5))
            if 0 <= v < height and 0 <= u < width:
                turned_depth[i, j], turned_label[i, j] = depth[v, u], label[v, u]
    return turned_depth, turned_label


def spoil(depth_mm: np.ndarray, random) -> None:
    """Take single pixels and round spots out of a depth image, as reflections and sunlight do."""
    depth_mm[random.random(depth_mm.shape) < 0.1 * random.random() ** 2] = 0
    rows, columns = np.ogrid[: depth_mm.shape[0], : depth_mm.shape[1]]
    for _ in range(random.integers(0, 6)):
        v, u, r = random.integers(depth_mm.shape[0]), random.integers(depth_mm.shape[1]), random.integers(2, 9)
        depth_mm[(rows - v) ** 2 + (columns - u) ** 2 < r**2] = 0


def window(label: np.ndarray, step: float, random) -> tuple:
    """First row and column (px) and size (cells) of the part that is seen: most often with the hand, some of them tight."""
    rows, columns = (min(most, int(n / step)) for most, n in zip(SMALL, label.shape, strict=True))
    if random.random() < TIGHT_SHARE:
        rows, columns = (max(min(n, 32), int(n * random.uniform(0.3, 1))) for n in (rows, columns))
    v, u = np.nonzero(label == HAND)
    if len(v) and random.random() < 0.9:
        at = random.integers(len(v))
        middle = v[at], u[at]
    else:
        middle = tuple(random.integers(n) for n in label.shape)
    first = [m - n * step * random.uniform(0.15, 0.85) for m, n in zip(middle, (rows, columns), strict=True)]
    top, left = (max(0.0, min(f, n - c * step)) for f, n, c in zip(first, label.shape, (rows, columns), strict=True))
    return top, left, rows, columns


# -- training -----------------------------------------------------------------------------------------------------------


def train(images: int, out: Path) -> None:
    """Train until `images` images have been seen, and write the weights."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = FinderNet(norm=True).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-2)
    steps, step, curve, seconds = images // BATCH, 0, [], 0.0
    state_file = out / "state.pt"
    if state_file.exists():
        state = read_state(state_file, "a training of the finder")
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        step, curve, seconds = state["step"], state["curve"], state["seconds"]
    recent, saved, bar = [], time.monotonic(), tqdm(total=steps, initial=step, mininterval=10)
    while step < steps:
        started = time.monotonic()
        for group in optimiser.param_groups:
            group["lr"] = RATE * min((step + 1) / WARM, 0.5 + 0.5 * np.cos(np.pi * step / steps))
        done = train_step(net, optimiser, batch(step))
        if step % MEASURE_EVERY == 0:
            recent.append(measured(*done))
        step += 1
        seconds += time.monotonic() - started
        bar.update(1)
        if step % CURVE_EVERY == 0 or step == steps:
            curve.append({"images": step * BATCH} | dict(zip(MEASURES, np.nanmean(recent, 0).tolist(), strict=True)))
            recent = []
            bar.write(json.dumps(curve[-1]))
        if time.monotonic() - saved > SAVE_SECONDS or step == steps:
            state = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "config": {}}
            write_state(state_file, state | {"step": step, "curve": curve, "seconds": seconds})
            saved = time.monotonic()
            write_bytes_atomically(out / "finder.safetensors", save(weights(net)))
    bar.close()
    write_bytes_atomically(paths.FINDER, (out / "finder.safetensors").read_bytes())
    made = {"images": step * BATCH, "scenes": SHARD * len(shards("training")), "seconds": seconds, "curve": curve}
    write_json(FIGURES, made)


def shards(kind: str) -> list[Path]:
    """Those of a kind that are there now."""
    return sorted(SHARDS.glob(f"{kind}-*.safetensors"))


def batch(step: int) -> list[torch.Tensor]:
    """Images, classes, hand and right of one step; scenes are taken from a few shards at a time, which the disk likes."""
    random, there = np.random.default_rng([7, step]), shards("training")
    picked = [(there[random.integers(len(there))], int(random.integers(SHARD))) for _ in range(BATCH)]
    x, *truths = zip(*(example(scene(*one), random) for one in picked), strict=True)
    return [torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2), *(torch.from_numpy(np.array(truth)) for truth in truths)]


MEASURES = ("loss", "iou", "hand_right", "side_right")  # means over batches: of the curve


def train_step(net: FinderNet, optimiser, images: list[torch.Tensor]) -> tuple:
    """One step; its loss, and what `measured` needs."""
    x, classes, hand, right = images
    with torch.autocast("cpu", torch.bfloat16):
        logits, features = net(x)
    logits = logits.float()
    pixels = cross_entropy(logits, classes, ignore_index=-1)
    share, truth = logits.softmax(1)[:, HAND] * (classes >= 0), (classes == HAND).float()
    said = net.frame([f.float() for f in features], share.detach()[:, None])
    overlap = (2 * (truth * share).sum((1, 2)) + 1) / (truth.sum((1, 2)) + share.sum((1, 2)) + 1)
    loss = 2 * pixels + 0.5 * (1 - overlap).mean()
    for row, known in enumerate((hand, right)):
        if (known >= 0).any():
            loss = loss + 0.25 * binary_cross_entropy_with_logits(said[known >= 0, row], known[known >= 0].float())
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimiser.step()
    return loss.item(), share.detach(), said.detach(), images


def measured(loss: float, share, said, images) -> list[float]:
    """`MEASURES` of a step."""
    _, classes, hand, right = images
    is_hand, says_hand = classes == HAND, share > 0.5
    iou = ((is_hand & says_hand).sum((1, 2)) / (is_hand | says_hand).sum((1, 2)))[hand == 1].mean()
    rights = [((said[:, k] > 0) == (truth > 0))[truth >= 0].float().mean() for k, truth in ((0, hand), (1, right))]
    return [loss, iou.item(), *(r.item() for r in rights)]


def weights(net: FinderNet) -> dict[str, torch.Tensor]:
    """Of an equal network without batch norms, in half precision."""
    plain, trained = FinderNet(), dict(net.named_modules())
    for name, layer in plain.named_modules():
        if isinstance(layer, nn.Sequential) and len(layer) == 1:
            conv, norm = trained[name]
            layer[0].load_state_dict(nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval()).state_dict())
            trained[name].train()
        elif isinstance(layer, nn.Linear) or name == "classes":
            layer.load_state_dict(trained[name].state_dict())
    return {name: t.half().contiguous() for name, t in plain.state_dict().items()}


# -- judging ------------------------------------------------------------------------------------------------------------


def judge() -> dict:
    """What the shipped network makes of the held-out scenes, at their full resolution."""
    ious, hands, no_hands, sides = [], [], [], []
    held_out = [(path, i) for path in shards("held-out") for i in range(SHARD)]
    for one in tqdm(held_out, "judge"):
        s = scene(*one)
        found = find_hand(s.depth_mm, s.camera)
        (hands if s.hand else no_hands).append(found.hand)
        if s.hand:
            truth = (s.label == HAND) & (s.depth_mm > 0)
            ious.append((truth & found.mask).sum() / max(1, (truth | found.mask).sum()))
        if s.hand and s.shows_side:
            sides.append((found.right > 0.5) == s.right)
    ious, hands, no_hands = np.array(ious), np.array(hands), np.array(no_hands)
    return {
        "scenes": len(held_out),
        "with_a_hand": len(hands),
        "iou_median": float(np.median(ious)),
        "iou_mean": float(ious.mean()),
        "iou_above_0.5": float((ious > 0.5).mean()),
        "side_right": float(np.mean(sides)),
        "side_scenes": len(sides),
        "hand_auc": float((hands[:, None] > no_hands).mean()) if len(no_hands) else None,
        "hands_refused": float((hands < 0.5).mean()),
        "no_hands_refused": float((no_hands < 0.5).mean()) if len(no_hands) else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("draw", "train", "judge"))
    parser.add_argument("--scenes", type=int, default=40000, help="for training")
    parser.add_argument("--held-out", type=int, default=2000, help="scenes that the network is judged by")
    parser.add_argument("--images", type=int, default=300000, help="seen in the training")
    parser.add_argument("--out", type=Path, default=paths.RUNS / "finder", help="of the training's state")
    arguments = parser.parse_args()
    if arguments.what == "draw":
        draw(arguments.held_out, HELD_OUT_SEED, "held-out")
        draw(arguments.scenes, 0, "training")
    elif arguments.what == "train":
        train(arguments.images, arguments.out)
    else:
        write_json(FIGURES, json.loads(FIGURES.read_text()) | {"held_out": judge()})


if __name__ == "__main__":
    main()
