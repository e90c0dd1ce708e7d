"""Crops of hands in whole scenes as the hand finder leaves them: what the base model sees in earnest.

`many_hands` draws a hand alone and spoils its outline. Here a scene is drawn with all that is around the hand and in it
(`scenes`), a sensor measures it, and the finder says which pixels are the hand's: with pieces of the table, of the arm and of
what it holds, and without the fingers that it takes for something else.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ..frames.camera import Camera
from ..frames.crop import crop_hand
from ..frames.crops import Crops
from ..frames.find import LEAST_HAND
from ..frames.finder import find_hand
from ..hand.kinematics import forward_kinematics, joint_positions
from .frames import SyntheticBatch, joined
from .scenes import HAND, Held, measured_scenes

OVERLAP = 0.4  # intersection over union of what is found and of the hand: with less, something else was found
OFF_MM = 60.0  # from the mean of its joints to the crop's centre: farther away is another hand
CUBE_PX = 60.0  # across the crop's cube, at least


@dataclass(frozen=True)
class _Hand:
    """A hand in a scene, a right one."""

    depth_mm: Float[np.ndarray, "H W"]
    pixels: Bool[np.ndarray, "H W"]
    camera: Camera
    held: Held


def found_hands(count: int, seed: int, cube_mm: float = 250.0) -> SyntheticBatch:
    """`count` cropped hands, all right ones, that the finder found in random scenes; the same for the same seed.

    Left out are scenes in which it finds something else, and hands that are upside down, which the network is never shown
    (`Crops.upright`), or too small to learn from.
    """
    parts, hands = [], _hands(seed, cube_mm)
    while len(parts) < count:
        hand = next(hands)
        seen = find_hand(hand.depth_mm, hand.camera, side=False)
        overlap = (seen.mask & hand.pixels).sum() / max((seen.mask | hand.pixels).sum(), 1)
        if seen.hand < LEAST_HAND or seen.upright or overlap < OVERLAP:
            continue
        one = _cropped(hand, crop_hand(hand.depth_mm, hand.camera, seen.mask, cube_mm))
        if float((one.joints_mm.mean(1) - one.crops.centre_mm).norm()) < OFF_MM:
            parts.append(one)
    return joined(*parts)


def _hands(seed: int, cube_mm: float) -> Iterator[_Hand]:
    """The main hands of random scenes, each as a right one, if they are large enough."""
    for scene, held in measured_scenes(seed):
        if held is None or not scene.hand[0]:
            continue
        depth, label, (fx, fy, cx, cy) = scene.depth_mm[0], scene.label[0], scene.intrinsics[0]
        if fx * cube_mm / float(held.wrist_mm[2]) < CUBE_PX:
            continue
        if not scene.right[0]:
            depth, label, cx = depth[:, ::-1], label[:, ::-1], depth.shape[1] - 1 - cx
        yield _Hand(np.ascontiguousarray(depth), label == HAND, Camera(*map(float, (fx, fy, cx, cy))), held)


def _cropped(hand: _Hand, crops: Crops) -> SyntheticBatch:
    rotations, wrist_mm = hand.held.rotations[None], hand.held.wrist_mm[None]
    joints_mm = joint_positions(hand.held.hand, forward_kinematics(hand.held.hand, rotations, wrist_mm))
    of_hand = hand.held.hand.points_mm[None], hand.held.shape.numbers()[None]
    return SyntheticBatch(crops, rotations, wrist_mm, joints_mm, *of_hand)
