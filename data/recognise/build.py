"""Train hrlib/assets/recogniser.safetensors: the network of `hrlib.frames.recognise` that tells hands from other things.

    python data/recognise/build.py [--images 16000] [--epochs 8]
    python data/recognise/build.py --judge

Hands are synthetic ones of many sizes, in random poses or making signs, with a piece of forearm, before two sensors. What is
no hand is drawn at random (`things.py`), before the same sensors, and found and cropped in the same way. No real image is
used. What the network is judged by is of hands and kinds of things that it has not seen; those numbers go to hand.json.
About ten minutes on one core. Another base model only asks for judging again, which takes half a minute.
"""

import argparse
import itertools
import json
from collections.abc import Iterator

import numpy as np
import torch
from things import HELD_OUT, TRAINED
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, max_pool2d
from tqdm import tqdm

from hrlib.frames.camera import Camera
from hrlib.frames.crop import crop_batch
from hrlib.frames.crops import Crops, concatenate
from hrlib.frames.find import crop_frame
from hrlib.frames.frame import Frame
from hrlib.frames.recognise import HandOrNot, recogniser, small
from hrlib.hand.rig import load_hand
from hrlib.hand.rotations import from_euler
from hrlib.network.checkpoint import load_network
from hrlib.network.predict import predict
from hrlib.refine.confidence import confidence
from hrlib.support import paths
from hrlib.support.files import write_bytes_atomically, write_json
from hrlib.support.tensor_files import tensor_bytes
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings
from hrlib.synthetic.sensor import measure
from hrlib.synthetic.sensor.model import KINECT_V1, SR300

FIGURES = paths.DATA / "recognise" / "hand.json"
WINDOW = 224  # px
DISTANCE_MM, CUBE_PX = (350.0, 900.0), (100.0, 200.0)  # of all; CUBE_PX: how many pixels 250 mm there span
SEEDS = {
    "hands": 1, "things": 2, "spoilt hands": 0, "spoilt things": 5, "held-out hands": 11, "held-out things": 12, "training": 0,
}  # fmt: skip
HELD_OUT_IMAGES = 1000  # of hands, and of things
# of held-out hands: a folder is refused where half of its frames are, which leaves room for real hands, that are doubted
# more often than drawn ones, and a lower share would let more things pass
REFUSED_SHARE = 0.05


def hands(seed: int) -> Iterator[Crops]:
    """Crops of hands of people from children to large men, in any pose or making signs; without end."""
    template, random = load_hand(), np.random.default_rng(seed)
    for k in itertools.count():
        morphs = {name: random.uniform(0, 1) for name in template.morphs if random.random() < 0.3}
        hand = template.morphed(morphs, random.uniform(0.75, 1.15))
        sensor = (KINECT_V1, SR300)[k % 2]
        # every other two batches have a long arm, which is cut off as the check does it
        cut, z = k % 4 < 2, random.uniform(*DISTANCE_MM)
        settings = SyntheticSettings(
            (0.9 * z, 1.1 * z), roll_deg=60.0, pitch_deg=35.0, sensor=sensor, noise_share=0.8, window_px=WINDOW,
            focal_px=random.uniform(*CUBE_PX) * z / 250,
            forearm_share=0.8 if cut else 0.5, forearm_mm=220.0 if cut else 60.0,
        )  # fmt: skip
        maker, generator = Synthesiser(hand, settings), torch.Generator().manual_seed(seed * 1000 + k)
        rotations, wrist_mm = maker.sample(50, generator)
        if k % 3:
            rotations[:, 1:] = signs(50, hand, generator)[:, 1:]
        drawing = maker.draw(rotations, wrist_mm, generator)
        yield found(drawing.depth_mm, drawing.intrinsics) if cut else crop_batch(drawing.depth_mm, drawing.intrinsics)


def signs(count: int, hand, generator) -> torch.Tensor:
    """Poses [count, 16, 4] of fists, flat hands and counting hands: fingers straight, folded or bent, side by side."""
    normal = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    flexions = torch.tensor([[5.0, 6, 3], [75, 95, 55], [40, 60, 35]])
    state = torch.multinomial(torch.tensor([0.45, 0.42, 0.13]), 4 * count, True, generator=generator).view(count, 4)
    alike = torch.rand(count, 1, generator=generator)
    state = torch.where(alike < 0.35, 1, torch.where(alike < 0.5, 0, torch.where(alike < 0.58, 2, state)))
    degrees = torch.zeros(count, 16, 3)
    fingers = degrees[:, 4:].view(count, 4, 3, 3)
    fingers[..., 0] = flexions[state] + normal(count, 4, 3) * 8 + normal(count, 1, 1) * 6
    fan = torch.tensor([-8.0, -2, 3, 9]) * torch.rand(count, 1, generator=generator) * (state == 0)
    fingers[:, :, 0, 1] = fan + 2 * normal(count, 4)
    low, high = hand.limits_rad[1:].unbind(-1)
    angles = torch.deg2rad(degrees)
    thumb = torch.rand(count, 3, 3, generator=generator)
    angles[:, 1:4] = low[:3] + thumb * (high - low)[:3]
    angles[:, 1:] = angles[:, 1:].clamp(low, high)
    return from_euler(angles)


def things(seed: int, kinds) -> Iterator[Crops]:
    """Crops of things of these kinds, as far as they pass for a hand by their size; without end."""
    random = np.random.default_rng(seed)
    for k in itertools.count():
        sensor, images, f = (KINECT_V1, SR300)[k % 2], [], []
        for _ in range(50):
            z = random.uniform(*DISTANCE_MM)
            f.append(random.uniform(*CUBE_PX) * z / 250)
            images.append(kinds[random.integers(len(kinds))](random, window(f[-1]), (WINDOW, WINDOW), z))
        depth, f = np.float32(images), np.float32(f)
        depth[~np.isfinite(depth)] = 0
        noisy = random.random(50) < 0.8
        depth[noisy] = measure(depth[noisy], f[noisy], sensor, seed * 1000 + k)
        middle = np.full(50, (WINDOW - 1) / 2, np.float32)
        yield found(depth, np.stack([f, f, middle, middle], 1))


def first(count: int, batches: Iterator[Crops]) -> Iterator[Crops]:
    """The first `count` crops."""
    with tqdm(total=count, desc="draw", mininterval=5) as bar:
        while count:
            crops = next(batches)[:count]
            count -= len(crops)
            bar.update(len(crops))
            yield crops


def found(depth_mm, intrinsics) -> Crops:
    """What the check would crop of these frames; some have nothing of a hand's size."""
    frames = [Frame("", depth, Camera(*map(float, row))) for depth, row in zip(depth_mm, intrinsics, strict=True)]
    return concatenate([crop for crop, _ in map(crop_frame, frames) if crop is not None])


def window(f) -> Camera:
    return Camera(f, f, (WINDOW - 1) / 2, (WINDOW - 1) / 2)


# -- what sensors, segmentation and users do besides ------------------------------------------------------------------------


def spoilt(images, random):
    """Crop images [B, 120, 120] blurred, of fewer pixels, rough, in steps, each by chance.

    Blurred: a sensor that matches windows of pixels bridges the gaps between fingers and smooths the grooves between them;
    on real frames of a Kinect a flat hand is a slab. A network that has not seen that takes fingers for what tells a hand.
    """
    parts = []
    for part in images[:, None].split(5):  # those of a part alike
        chance, strength = torch.rand(4, generator=random).tolist(), torch.rand(4, generator=random).tolist()
        if chance[0] < 0.6:
            part = bridged(part, 2 * int(3 * strength[0]) + 1)
            part = blurred(part, 1 + int(4 * strength[1]))
        if chance[1] < 0.15:
            part = part[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2)
        seen = part > 0
        if chance[2] < 0.5:
            part = part + 0.006 * strength[2] * torch.randn(part.shape, generator=random)
        if chance[3] < 0.3:
            step = 0.004 + 0.012 * strength[3]
            part = (part / step).round() * step
        parts.append(part.clamp(1e-3, 1) * seen)
    return torch.cat(parts)[:, 0]


def moved(images, random):
    """Images [B, 3, 60, 60] of `small` mirrored, moved, a quarter of them with a corner missing."""
    if torch.rand(1, generator=random) < 0.5:
        images = images.flip(-1)
    images = images.roll(torch.randint(-2, 3, (2,), generator=random).tolist(), (2, 3))
    for i in torch.randperm(len(images), generator=random)[: len(images) // 4].tolist():
        v, u, size = torch.randint(0, 52, (3,), generator=random).tolist()
        images[i, :, v : v + 2 + size // 6, u : u + 2 + size // 6] = 0
    return images


def bridged(images, width):
    """The morphological closing: gaps narrower than `width` px are as near as their sides."""
    near = max_pool2d(images, width, 1, width // 2)
    return -max_pool2d(-near, width, 1, width // 2)


def blurred(images, times):
    """Means of 3x3 measured pixels, again and again; the outline stays."""
    seen = (images > 0).float()
    weight = avg_pool2d(seen, 3, 1, 1).clamp_min(1e-6)
    for _ in range(times):
        images = avg_pool2d(images, 3, 1, 1) / weight * seen
    return images


# -- training -------------------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16000, help="of hands, and of things")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--judge", action="store_true", help="only judge the network that is there, and the base model")
    arguments = parser.parse_args()
    made = json.loads(FIGURES.read_text()) if arguments.judge else built(arguments.images, arguments.epochs)
    unseen = {"hands": hands(SEEDS["held-out hands"]), "things": things(SEEDS["held-out things"], HELD_OUT)}
    made |= judged(recogniser(), {k: concatenate(list(first(HELD_OUT_IMAGES, crops))) for k, crops in unseen.items()})
    print(json.dumps(made, indent=1))
    write_json(FIGURES, made)


def built(n: int, epochs: int) -> dict:
    """Train on n images of hands and as many of things, and write the weights; what was done."""
    images = {"hands": hands(SEEDS["hands"]), "things": things(SEEDS["things"], TRAINED)}
    images = torch.cat([inputs(first(n, crops), SEEDS[f"spoilt {name}"]) for name, crops in images.items()])
    net = train(images, (torch.arange(2 * n) < n).float(), epochs)
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in net.state_dict().items()}
    write_bytes_atomically(paths.RECOGNISER, tensor_bytes(tensors, {}))
    return {"images": 2 * n, "epochs": epochs, "seeds": SEEDS}


def inputs(batches: Iterator[Crops], seed: int) -> torch.Tensor:
    """What the network sees of spoilt crops, [B, 3, 60, 60]."""
    random = torch.Generator().manual_seed(seed)
    return torch.cat([small(spoilt(crops.image, random)).half() for crops in batches])


def train(images, truth, epochs: int) -> HandOrNot:
    torch.manual_seed(SEEDS["training"])
    net, random = HandOrNot(), torch.Generator().manual_seed(SEEDS["training"])
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-2)
    steps = epochs * (len(images) // 100)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
    for _ in tqdm(range(epochs), unit="epoch"):
        for index in torch.randperm(len(images), generator=random).split(100):
            if len(index) < 100:
                continue
            batch = moved(images[index].float(), random)
            loss = binary_cross_entropy_with_logits(net(batch), truth[index] * 0.96 + 0.02)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def judged(net, unseen: dict[str, Crops]) -> dict:
    """The held-out figures: how well the recogniser, and its product with the base model's confidence, tell hands from things,
    and UNDECIDED of `hrlib.personal.check`, the product below which REFUSED_SHARE of the hands are."""
    template = load_hand()
    base, _ = load_network(template)
    alone, both = {}, {}
    for name, crops in unseen.items():
        parts = [crops[i : i + 100] for i in range(0, len(crops), 100)]
        alone[name] = torch.cat([net(small(part.image)).sigmoid() for part in parts])
        both[name] = alone[name] * torch.cat([confidence(predict(base, p), template, p) for p in parts])
    undecided = both["hands"].quantile(REFUSED_SHARE).item()
    return {
        "held_out": {
            "hands": len(alone["hands"]),
            "things": len(alone["things"]),
            "kinds": [k.__name__ for k in HELD_OUT],
        },
        "auc_recogniser": area(alone["hands"], alone["things"]),
        "auc_with_base_model": area(both["hands"], both["things"]),
        "undecided": undecided,
        "hands_refused": (both["hands"] < undecided).float().mean().item(),
        "things_refused": (both["things"] < undecided).float().mean().item(),
    }


def area(high, low) -> float:
    """Of all pairs, the share in which that of `high` is above that of `low`: the area under the ROC curve."""
    return (high[:, None] > low).float().mean().item()


if __name__ == "__main__":
    main()
