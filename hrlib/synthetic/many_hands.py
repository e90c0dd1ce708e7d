"""Frames of a whole population before any camera: what the base model that people use learns from.

Hands, sensors, cameras and views are drawn anew for every few frames. Crops are disturbed as a hand finder's are: they hold
pieces of the arm and of what the hand touches, and lack what something hides.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from ..frames.crop import crop_batch
from ..hand.named_poses import view_rotation
from ..hand.rig import HandRig
from ..hand.rotations import rotation_matrix
from .frames import Synthesiser, SyntheticBatch, SyntheticSettings, joined
from .population import population_of
from .poses import fingers_together
from .sensor.model import random_sensor

GROUP = 10  # frames of one hand before one sensor
MORE_STEREO = 0.2  # so that two fifths are: the most common cameras, before which a back is taken for a palm most often
# pixels across the crop's cube: 320x240 pixels at half a metre, 640x480 and an arm half stretched
CUBE_PX = 80.0, 200.0
WINDOW = 1.2  # side of the window that is drawn, in such spans: a hand, and as much arm as the cube holds
NEAR_AND_FAR = 0.15  # a group's distances are within this share of their middle
FROM_ANYWHERE = 0.4  # share of the frames whose hand points towards the camera or away from it, as from above a table
# standard deviations of their tilt and of their turn in the image. Hands are turned upright by their forearm before they are
# predicted (`network.predict`): one that learns hands upside down takes closed fingers for a wrist
ANY_PITCH_DEG, ANY_ROLL_DEG = 50.0, 40.0
# Share of the frames whose forearm is cut off near the wrist, and the standard deviation of where, along the hand. The hand
# finder leaves or takes more than 12 mm in a tenth of its hands: a network that sees long arms in half of all frames cannot
# tell from a hand's lower end where the wrist is
CUT, CUT_MM = 0.65, 8.0
TOGETHER = 0.35  # share of the frames whose fingers lie beside each other, see `poses.fingers_together`
HIDDEN, BESIDE, THINNED = 0.25, 0.25, 0.2  # shares of frames with a hole, a piece of something, a lost outline
# What a stereo camera makes of a hand over a table, as in real D435 frames: outlines reach far beyond the hand, and ramps
# lead from it to what is behind, since a window has one disparity and filters fill the gaps
SMEARED = 0.3  # share of the frames
# how far outward; side of the window; how much of it a finder keeps
FATTER_MM, WINDOW_MM, KEPT_MM = (0.0, 8.0), (4.0, 18.0), (0.0, 18.0)
BACKGROUND_MM = (20.0, 300.0)  # behind the deepest point of the hand
RAMP_MM = 50.0  # of a ramp, a finder keeps what is nearer to the hand
HOLE_MM, PIECE_MM = (8.0, 28.0), (12.0, 45.0)  # radius of either
PIECE_BEHIND_MM = (-10.0, 40.0)  # behind the hand beside it
LEAST_PX = 60  # of the crop's pixels; a sensor may lose all of a hand
PIECE_TILT = 0.6  # standard deviation of its slope
TRIES = 100  # random pixels, among which one that shows the hand is looked for

# A population's frames: any distance at which cameras for hands measure, a piece of arm on most
FRAMES = SyntheticSettings(
    distance_mm=(250.0, 950.0), off_axis=0.35, roll_deg=50.0, pitch_deg=32.0, forearm_share=0.55, forearm_mm=130.0,
    noise_share=0.85,
)  # fmt: skip


@dataclass
class ManyHands:
    """Draws batches of frames of the people who have a rig; `batch(count, seed)` depends on its arguments alone."""

    template: HandRig
    settings: SyntheticSettings = FRAMES

    def __post_init__(self):
        self.population = population_of(self.template.to("cpu"))
        self.maker = Synthesiser(self.template, self.settings)
        self.device = self.maker.device

    def batch(self, count: int, seed: int) -> SyntheticBatch:
        """`count` cropped frames, whose truth has each hand's bones and shape; its joint angles are the template's."""
        firsts = range(0, count, GROUP)
        return joined(*(self._group(min(GROUP, count - first), (seed, number)) for number, first in enumerate(firsts)))

    def _group(self, count: int, seed: tuple[int, ...]) -> SyntheticBatch:
        """Frames of one hand before one sensor, each with something to see: one that lacks it repeats another."""
        group = self._seen(count, seed)
        usable = ((group.crops.image > 0).sum((1, 2)) >= LEAST_PX) & group.crops.centre_mm.isfinite().all(1)
        if usable.all():
            return group
        usable = usable.nonzero()[:, 0]
        return group[usable[torch.arange(count) % len(usable)]] if len(usable) else self._group(count, (*seed, 0))

    def _seen(self, count: int, seed: tuple[int, ...]) -> SyntheticBatch:
        random = np.random.default_rng(seed)
        generator = Generator(self.device).manual_seed(int(random.integers(2**31)))
        hand, shape = self.population.hand(int(random.integers(2**31)))
        hand = hand.to(self.device)
        s, z = self.settings, random.uniform(*self.settings.distance_mm)
        near, far = (1 - NEAR_AND_FAR) * z, (1 + NEAR_AND_FAR) * z
        span = random.uniform(*CUBE_PX)
        sensor = random_sensor(Generator().manual_seed(int(random.integers(2**31))), MORE_STEREO)
        maker = copy.copy(self.maker)
        maker.hand, maker.settings = hand, replace(
            s, distance_mm=(near, far), focal_px=span * near / s.cube_mm, sensor=sensor, window_px=int(WINDOW * span),
        )  # fmt: skip
        rotations, wrist_mm = maker.sample(count, generator)
        together = torch.rand(count, generator=generator, device=self.device) < TOGETHER
        rotations[together] = fingers_together(rotations[together], hand.limits_rad, generator)
        anywhere = torch.rand(count, generator=generator, device=self.device) < FROM_ANYWHERE
        rotations[anywhere, 0] = _views_from_anywhere(int(anywhere.sum()), generator)
        drawing = maker.draw(rotations, wrist_mm, generator)
        depth_mm, intrinsics = torch.as_tensor(drawing.depth_mm), torch.as_tensor(drawing.intrinsics)
        depth_mm = disturbed(cut_off(depth_mm, intrinsics, rotations, wrist_mm, generator), intrinsics[:, 0], generator)
        if self.device.type == "cpu":
            depth_mm = depth_mm.numpy()
        crops = crop_batch(depth_mm, drawing.intrinsics, s.cube_mm)
        truth = rotations, wrist_mm, drawing.joints_mm
        of_hand = hand.points_mm.expand(count, 21, 3), shape.numbers().to(rotations).expand(count, 8)
        return SyntheticBatch(crops, *truth, *of_hand)


def _views_from_anywhere(count: int, generator: Generator) -> Float[Tensor, "B 4"]:
    like = {"generator": generator, "device": generator.device}
    yaw = 2 * math.pi * (torch.rand(count, **like) - 0.5)
    roll = (torch.randn(count, **like) * math.radians(ANY_ROLL_DEG)).clamp(-math.pi / 2, math.pi / 2)
    pitch = (torch.randn(count, **like) * math.radians(ANY_PITCH_DEG)).clamp(-math.pi / 2, math.pi / 2)
    return view_rotation(yaw, pitch, roll)


def cut_off(
    depth_mm: Float[Tensor, "B H W"],
    intrinsics: Float[Tensor, "B 4"],
    rotations: Float[Tensor, "B 16 4"],
    wrist_mm: Float[Tensor, "B 3"],
    generator: Generator,
) -> Float[Tensor, "B H W"]:
    """Depth images of hands, most of them without what lies behind a plane across the wrist, as a hand finder leaves them.

    intrinsics: fx, fy, cx, cy, px. rotations, wrist_mm: of the hands, in the camera frame.
    """
    like = {"generator": generator, "device": depth_mm.device}
    where_mm = CUT_MM * torch.randn(len(depth_mm), **like)
    where_mm[torch.rand(len(depth_mm), **like) > CUT] = -math.inf
    fx, fy, cx, cy = (part[:, None, None] for part in intrinsics.T)
    v, u = (torch.arange(n, device=depth_mm.device) for n in depth_mm.shape[1:])
    x, y = depth_mm * (u - cx) / fx, depth_mm * (v[:, None] - cy) / fy
    along = rotation_matrix(rotations[:, 0])[:, :, 1]
    ahead = (
        torch.einsum("bvuc,bc->bvu", torch.stack([x, y, depth_mm], -1), along)
        - (along * wrist_mm).sum(1)[:, None, None]
    )
    return torch.where(ahead > where_mm[:, None, None], depth_mm, 0)


def disturbed(
    depth_mm: Float[Tensor, "B H W"], fx: Float[Tensor, " B"], generator: Generator
) -> Float[Tensor, "B H W"]:
    """Depth images of hands as an imperfect hand finder leaves them; changes them in place.

    Some have a `smeared_outline`. Round holes stand for things before the hand, round pieces of slanted planes for what it
    touches, and outlines lose a pixel.
    """
    like = {"generator": generator, "device": depth_mm.device}
    for i in (torch.rand(len(depth_mm), **like) < SMEARED).nonzero()[:, 0].tolist():
        depth_mm[i] = smeared_outline(depth_mm[i], float(fx[i]), torch.rand(4, **like).tolist())
    for share, hides in ((HIDDEN, True), (BESIDE, False)):
        chosen = (torch.rand(len(depth_mm), **like) < share).nonzero()[:, 0]
        if not len(chosen):
            continue
        images = depth_mm[chosen]
        v0, u0, z0 = _spots(images, generator)
        v, u = (torch.arange(n, device=images.device)[None] for n in images.shape[1:])
        dv, du = v[:, :, None] - v0[:, None, None], u[:, None] - u0[:, None, None]
        low, high = HOLE_MM if hides else PIECE_MM
        px_per_mm = (fx[chosen] / z0)[:, None, None]
        radius_px = (low + (high - low) * torch.rand(len(chosen), 1, 1, **like)) * px_per_mm
        inside = dv.square() + du.square() < radius_px.square()
        if hides:
            depth_mm[chosen] = torch.where(inside, 0, images)
            continue
        near, far = PIECE_BEHIND_MM
        tilt = PIECE_TILT * torch.randn(2, len(chosen), 1, 1, **like)
        plane = z0[:, None, None] + near + (far - near) * torch.rand(len(chosen), 1, 1, **like)
        plane = plane + (tilt[0] * du + tilt[1] * dv) / px_per_mm
        depth_mm[chosen] = torch.where(inside & (images == 0) & (plane > 0), plane, images)
    thinned = (torch.rand(len(depth_mm), **like) < THINNED).nonzero()[:, 0]
    if len(thinned):
        images = depth_mm[thinned]
        kept = max_pool2d((images == 0).float()[:, None], 3, 1, 1)[:, 0] == 0
        depth_mm[thinned] = torch.where(kept, images, 0)
    return depth_mm


def smeared_outline(depth_mm: Float[Tensor, "H W"], fx: float, shares: Sequence[float]) -> Float[Tensor, "H W"]:
    """A hand whose outline a stereo camera's window widens and mixes with a background; `scenes.smeared_scene` has a real one.

    depth_mm: 0 beside the hand; an image without a hand stays as it is.
    fx: px.
    shares: four numbers from 0 to 1, positions in `FATTER_MM`, `WINDOW_MM`, `KEPT_MM` and `BACKGROUND_MM` (logarithmic).
    """
    hand = depth_mm > 0
    if not hand.any():
        return depth_mm
    per_mm = fx / float(depth_mm[hand].mean())
    ranges = zip((FATTER_MM, WINDOW_MM, KEPT_MM), (2 * per_mm, per_mm, 2 * per_mm), shares, strict=False)
    fatter, window, kept = (
        2 * int((low + share * (high - low)) * scale / 2) + 1 for (low, high), scale, share in ranges
    )
    low, high = BACKGROUND_MM
    background = float(depth_mm.max()) + low * (high / low) ** shares[3]
    nearness = torch.where(hand, 1 / depth_mm.clamp_min(1), 0)[None]  # as disparities are
    wider = max_pool2d(nearness, fatter, 1, fatter // 2)
    mixed = torch.where(hand, nearness, torch.where(wider > 0, wider, 1 / background))
    for _ in range(2):
        mixed = avg_pool2d(mixed, window, 1, window // 2, count_include_pad=False)
    nearest = max_pool2d(nearness, kept, 1, kept // 2)
    return torch.where((nearest > 0) & (1 / mixed < 1 / nearest + RAMP_MM), 1 / mixed, 0)[0]


def _spots(images: Float[Tensor, "B H W"], generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A random measured pixel of each image, if there is one among `TRIES`: row, column, depth."""
    flat, width = images.flatten(1), images.shape[2]
    tries = torch.randint(flat.shape[1], (len(flat), TRIES), generator=generator, device=images.device)
    depth = flat.gather(1, tries)
    first = (depth > 0).byte().argmax(1, keepdim=True)
    spot = tries.gather(1, first)[:, 0]
    return spot // width, spot % width, depth.gather(1, first)[:, 0].clamp_min(1)
