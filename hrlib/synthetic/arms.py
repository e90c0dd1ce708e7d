"""The forearm behind a hand's wrist, bare or in a sleeve, as a mesh that closes the hand's."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from ..hand.rotations import from_euler, rotation_matrix
from .wristband import between_rings

PLACES = np.array([0.03, 0.08, 0.15, 0.25, 0.4, 0.6, 0.8, 0.95, 1.0])  # of the rings, as shares of the whole forearm
BEND_MM = 40.0  # the wrist bends over this length
FULLEST = 0.7  # where a forearm is thickest, as a share of its length
CUFF_MM = 12.0  # how long the folded end of a sleeve is


@dataclass(frozen=True)
class Arm:
    """A forearm in the wrist's frame of its hand."""

    length_mm: float  # from the wrist to the elbow, or to where it is cut
    whole_mm: float  # the length up to the elbow, which gives the girth along the way
    bend_rad: tuple[float, float]  # flexion and deviation at the wrist
    girth: float  # of the thickest part, times the wrist's
    sleeve_mm: float = np.inf  # the sleeve begins this far behind the wrist; none if beyond the length
    sleeve_end_mm: float = np.inf  # and ends there or with the arm; a short one is a watch or a bracelet
    loose: float = 1.3  # the sleeve's width, times the arm's
    seed: int = 0  # of the sleeve's folds


def forearm(
    opening_mm: Float[np.ndarray, "N 3"], arm: Arm
) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"], Float[np.ndarray, "2 3"]]:
    """Vertices and triangles of the forearm, and where it ends and in which direction.

    Args:
        opening_mm: corners of the hand mesh's opening at the wrist, in the wrist's frame. They are the first vertices.
        arm: its form.
    """
    n, ends = len(opening_mm), []
    places = PLACES[PLACES * arm.whole_mm < arm.length_mm] * arm.whole_mm
    places = np.append(places, arm.length_mm)
    rings, centres, R = _rings(opening_mm, places, arm)
    ends = np.stack([centres[-1], -R[-1][:, 1]])
    numbers = np.arange((len(places) + 1) * n).reshape(-1, n)
    vertices = [opening_mm, rings.reshape(-1, 3), centres[-1:]]
    faces = [between_rings(numbers[:-1], numbers[1:]), _cap(numbers[-1], numbers.size)]
    if arm.sleeve_mm < arm.length_mm:
        first = numbers.size + 1
        cloth = _sleeve(opening_mm, arm)
        numbers = first + np.arange(len(cloth) * n).reshape(-1, n)
        vertices += [cloth.reshape(-1, 3), cloth[-1].mean(0, keepdims=True)]
        faces += [between_rings(numbers[:-1], numbers[1:]), _cap(numbers[-1], first + numbers.size)]
    return np.concatenate(vertices).astype(np.float32), np.concatenate(faces), ends


def _cap(ring: np.ndarray, middle: int) -> np.ndarray:
    """Triangles that close the arm's end."""
    return np.stack([np.roll(ring, -1), ring, np.full_like(ring, middle)], -1)


def _rings(opening_mm: np.ndarray, places_mm: np.ndarray, arm: Arm) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rings [K, N, 3], their centres [K, 3] and their axes [K, 3, 3] at places behind the wrist."""
    middle = opening_mm.mean(0)
    flat = (opening_mm - middle) * [1.0, 0.0, 1.0]  # the hand's cut is slanted; the rings lie level
    steps = np.linspace(0, max(places_mm.max(), 1.0), 65)
    bend = np.zeros((len(steps), 3))
    bend[:, :2] = np.minimum(steps / BEND_MM, 1)[:, None] * arm.bend_rad
    R = rotation_matrix(from_euler(torch.from_numpy(bend))).numpy()
    path = np.concatenate([np.zeros((1, 3)), np.cumsum(-R[1:, :, 1] * np.diff(steps)[:, None], 0)])
    at = np.searchsorted(steps, places_mm).clip(0, len(steps) - 1)
    share = (places_mm / arm.whole_mm).clip(0, 1)
    # thin at the wrist, fullest in the upper third; there the section is round
    swell = np.sin(0.5 * np.pi * np.minimum(share / FULLEST, 1)) ** 1.5 - 0.15 * np.maximum(share - FULLEST, 0) / 0.3
    half = np.ptp(flat, axis=0) / 2
    wide = 1.04 + (arm.girth - 1.04) * swell
    deep = wide * (1 + (half[0] / half[2] - 1) * 0.8 * swell)
    scaled = flat * np.stack([wide, np.ones_like(wide), deep], -1)[:, None]
    centres = middle + path[at]
    return centres[:, None] + np.einsum("kij,knj->kni", R[at], scaled), centres, R[at]


def _sleeve(opening_mm: np.ndarray, arm: Arm) -> np.ndarray:
    """Rings [K, N, 3] of a sleeve with a folded cuff; the first lies under the skin, so that no gap shows."""
    start, end = max(arm.sleeve_mm, 0.0), min(arm.length_mm + 4, arm.sleeve_end_mm)
    cuff = min(CUFF_MM, 0.4 * (end - start))
    places = np.array([start + 2, start, start + cuff, start + cuff + 1])
    places = np.append(places, np.linspace(start + cuff + 2, max(end, start + cuff + 3), 8))
    rings, centres, _ = _rings(opening_mm, places, arm)
    random = np.random.default_rng(arm.seed)
    folds = 1 + random.normal(0, 0.035, rings.shape[:2])
    folds = (folds + np.roll(folds, 1, 1) + np.roll(folds, -1, 1)) / 3
    wide = arm.loose * folds * (1 + random.normal(0, 0.05, (len(places), 1)))
    wide[0] = 0.9
    wide[1:3] = arm.loose * random.uniform(1.0, 1.2)  # the cuff
    return centres[:, None] + (rings - centres[:, None]) * wide[..., None]
