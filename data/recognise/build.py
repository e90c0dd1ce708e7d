"""Train data/recognise/hand.safetensors: the network of `hrlib.recognise` that tells hands from other things.

    python data/recognise/build.py [--images 3000] [--epochs 12]

Hands are synthetic ones of many sizes, in random poses, before two sensors. What is no hand is made of spheres, boxes and
bumpy sheets: lumps, sticks, creatures with a trunk and limbs, crates, crumpled cloth, each before the same sensors and
cropped in the same way. No real image is used. About four minutes on one core.
"""

import argparse
import json

import numpy as np
import torch
from safetensors.torch import save
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from hrlib.camera import Camera
from hrlib.crop import crop_batch
from hrlib.hand import load_hand
from hrlib.kinematics import from_euler
from hrlib.objects import crate, limb, spheres
from hrlib.recognise import WEIGHTS, HandOrNot, small
from hrlib.results import write_bytes_atomically
from hrlib.sensor import KINECT_V1, SR300, measure
from hrlib.synthetic import Synthesiser, SyntheticSettings

WINDOW, MIN_AREA, MAX_AREA = 224, 2500, 24000


def hands(count: int, seed: int) -> torch.Tensor:
    """Crop images [count, 120, 120] of hands of people from children to large men, in any pose or making signs."""
    template, parts, random = load_hand(), [], np.random.default_rng(seed)
    for k in range(-(-count // 50)):
        morphs = {name: random.uniform(0, 1) for name in template.morphs if random.random() < 0.3}
        hand = template.morphed(morphs, random.uniform(0.75, 1.15))
        sensor = (KINECT_V1, SR300)[k % 2]
        far = 950.0 if sensor is KINECT_V1 else 650.0
        settings = SyntheticSettings((350.0, far), roll_deg=60.0, pitch_deg=35.0, sensor=sensor, noise_share=0.8)
        maker, generator = Synthesiser(hand, settings), torch.Generator().manual_seed(seed * 1000 + k)
        rotations, wrist_mm = maker.sample(50, generator)
        if k % 3:
            rotations[:, 1:] = signs(50, hand, generator)[:, 1:]
        parts.append(maker.frames_of(rotations, wrist_mm, generator).crops.image)
    return torch.cat(parts)[:count]


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


def others(count: int, seed: int) -> torch.Tensor:
    """Crop images [count, 120, 120] of things that are no hand but of a hand's size."""
    random, clean, fx = np.random.default_rng(seed), [], []
    makers = (creature, creature, lump, crates, sheet, mixed)
    while len(clean) < count:
        f, z = random.uniform(350, 600), random.uniform(350, 900)
        f = max(f, 130 * z / 250)
        image = makers[random.integers(len(makers))](random, f, z)
        if MIN_AREA < ((image / f) ** 2).sum() < MAX_AREA:
            clean.append(image)
            fx.append(f)
    clean, fx = np.stack(clean).astype(np.float32), np.float32(fx)
    noisy = random.random(count) < 0.8
    for sensor, which in ((KINECT_V1, np.arange(count) % 2 == 0), (SR300, np.arange(count) % 2 == 1)):
        chosen = noisy & which
        clean[chosen] = measure(clean[chosen], fx[chosen], sensor, seed)
    middle = np.full(count, (WINDOW - 1) / 2, np.float32)
    crops = crop_batch(clean, np.stack([fx, fx, middle, middle], 1))
    return crops.image


# -- things ---------------------------------------------------------------------------------------------------------------


def creature(random, f, z):
    """A trunk with a head and limbs anywhere, now and then none: bottles, animals, trees, balls."""
    size = random.uniform(0.5, 1.2)
    half, radius = random.uniform(0, 90), random.uniform(12, 55)
    trunk = np.array([1.0, 0, 0]) * half
    parts = [limb(-trunk, trunk, radius, radius * random.uniform(0.6, 1.2))]
    for _ in range(random.choice([0, 0, 1, 2, 3, 4, 5, 6])):
        root = trunk * random.uniform(-1, 1) + random.normal(size=3) * radius * 0.4
        way = random.normal(size=3)
        way /= np.linalg.norm(way)
        thick = random.uniform(5, 24)
        knee = root + way * random.uniform(30, 110)
        foot = knee + random.normal(size=3) * random.uniform(5, 40)
        parts += [limb(root, knee, thick, thick * 0.9), limb(knee, foot, thick * 0.9, thick * random.uniform(0.4, 1))]
    if random.random() < 0.5:
        place = trunk * random.choice([-1.3, 1.3]) + random.normal(size=3) * 20
        parts.append(limb(place, place, random.uniform(12, 45), 20, 1))
    return turned(random, np.concatenate(parts) * size, f, z)


def lump(random, f, z):
    """Some balls stuck together."""
    count, spread = random.integers(1, 12), random.uniform(10, 60)
    centres = random.normal(size=(count, 3)) * spread * random.uniform(0.2, 1, 3)
    return turned(random, np.c_[centres, random.uniform(8, 55, count)], f, z)


def crates(random, f, z):
    """One to three boxes: books, plates, sticks, dice."""
    image = np.full((WINDOW, WINDOW), np.inf)
    for _ in range(random.integers(1, 4)):
        sides = np.exp(random.uniform(np.log(8), np.log(160), 3)) / 2
        R, place = Rotation.random(random_state=random).as_matrix(), random.normal(size=3) * 35 + [0, 0, z]
        image = np.minimum(image, crate(R, sides, place, window(f), (WINDOW, WINDOW)))
    return np.where(np.isfinite(image), image, 0)


def sheet(random, f, z):
    """A bumpy surface with a wavy outline: cloth, a wall's corner, a desk."""
    smooth = lambda grain: ndimage.zoom(random.normal(size=(grain, grain)), WINDOW / grain, order=3)  # noqa: E731
    v, u = (np.mgrid[:WINDOW, :WINDOW] - WINDOW / 2) * z / f
    bumps = random.choice([0, 3, 10, 25]) * smooth(random.integers(4, 14))
    depth = z + random.normal(0, 0.5) * u + random.normal(0, 0.5) * v + bumps
    radius = random.uniform(35, 90) * (1 + random.choice([0, 0.15, 0.4]) * smooth(random.integers(3, 9)))
    return np.where(np.hypot(u, v * random.uniform(0.6, 1.6)) < radius, np.maximum(depth, 200), 0)


def mixed(random, f, z):
    """A thing before another."""
    one, two = (maker(random, f, z + random.normal(0, 30)) for maker in random.choice([creature, lump, crates], 2))
    return np.where((one > 0) & ((two == 0) | (one < two)), one, two)


def turned(random, parts, f, z):
    """Spheres in any orientation at the distance z."""
    centres = parts[:, :3] @ Rotation.random(random_state=random).as_matrix().T
    image = spheres(centres - centres.mean(0) + [0, 0, z], parts[:, 3], window(f), (WINDOW, WINDOW))
    return np.where(np.isfinite(image), image, 0)


def window(f) -> Camera:
    return Camera(f, f, (WINDOW - 1) / 2, (WINDOW - 1) / 2)


# -- training -------------------------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=3000, help="of each kind")
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    n = arguments.images
    images = torch.cat([small(hands(n, 1)), small(others(n, 2))])
    truth = (torch.arange(2 * n) < n).float()
    torch.manual_seed(0)
    net, random = HandOrNot(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-2)
    steps = arguments.epochs * (2 * n // 100)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
    for _ in tqdm(range(arguments.epochs), unit="epoch"):
        for index in torch.randperm(2 * n, generator=random).split(100):
            if len(index) < 100:
                continue
            batch = spoilt(images[index], random)
            loss = binary_cross_entropy_with_logits(net(batch), truth[index] * 0.96 + 0.02)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        fresh = {"hands": small(hands(600, 11)), "others": small(others(600, 12))}
        score = {name: net(batch).sigmoid() for name, batch in fresh.items()}
    right = {
        "hands": (score["hands"] > 0.5).float().mean().item(),
        "others": (score["others"] < 0.5).float().mean().item(),
    }
    print(f"right on fresh images: {right}")
    made = {"images": 2 * n, "epochs": arguments.epochs, "right_on_fresh_images": right}
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in net.state_dict().items()}
    write_bytes_atomically(WEIGHTS, save(tensors, {"made": json.dumps(made)}))


def spoilt(images, random):
    """Mirrored, moved, with a corner missing: what segmentation and other users do."""
    if torch.rand(1, generator=random) < 0.5:
        images = images.flip(-1)
    images = images.roll(torch.randint(-1, 2, (2,), generator=random).tolist(), (2, 3))
    for i in torch.randperm(len(images), generator=random)[: len(images) // 4].tolist():
        v, u, size = torch.randint(0, 26, (3,), generator=random).tolist()
        images[i, :, v : v + 1 + size // 6, u : u + 1 + size // 6] = 0
    return images


if __name__ == "__main__":
    main()
