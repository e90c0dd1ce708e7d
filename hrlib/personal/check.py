"""The check before anything is trained: what a folder's frames are like, whether they show a hand, what to do better."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from ..frames.camera import Camera
from ..frames.crops import Crops, concatenate
from ..frames.frame import Frame
from ..frames.recognise import looks_like_a_hand
from ..hand.rig import HandRig
from ..network.posenet import PoseNet
from ..network.predict import predict
from ..refine.best import FEW_FRAMES
from ..refine.confidence import confidence
from .stream import in_chunks

FEW = 30  # frames: with fewer there is no point in refining
FOUND_SHARE = 0.5  # of the frames must show something of a hand's size ...
HAND_SHARE = 0.5  # ... and half of those a hand
# of likeness: where (recogniser's score) x (base model's confidence) is this, a frame is undecided. 5 % of drawn hands that
# the recogniser has not seen are below, and so are 96 % of things of kinds that it has not seen (data/recognise/hand.json,
# where another base model is to be judged again). Above it are 88 % of 2304 real frames of the ASL alphabet, whose letters
# would all pass as folders of their own but Q, which the base model loses
UNDECIDED = 0.066
SMOOTH_MM = (
    1.2  # median distance from the best quadric: 0.2 to 1.1 for balls, plates, sticks; 2.1 to 3.7 for real hands
)


@dataclass(frozen=True)
class Measures:
    """Of B frames, [B] each. distance_mm: of the hand; holes: share of its outline's inside without a measurement; cut: share
    of the outline that the image's border cuts; clipped: the same for the border of the crop; hand: how much it looks like
    one, 0.5 undecided; relief_mm: how far the surface is from one smooth body (a quadric); same: is
    the crop just the same as the one before?; motion_mm: from the frame before (NaN in the first)."""

    distance_mm: Tensor
    holes: Tensor
    cut: Tensor
    clipped: Tensor
    hand: Tensor
    relief_mm: Tensor
    same: Tensor
    motion_mm: Tensor


@dataclass(frozen=True)
class Check:
    """frames: how many there are; crops, names: those with something of a hand's size; measures: of these; left_out: the
    others, with reasons; depth_mm: 5 %, 50 % and 95 % of all depths; refusals: why this is not refined; advice."""

    frames: int
    crops: Crops | None
    names: list[str]
    measures: Measures | None
    left_out: dict[str, str]
    depth_mm: tuple[float, float, float]
    refusals: tuple[str, ...] = field(default=())
    advice: tuple[str, ...] = field(default=())

    def record(self) -> dict:
        """Plain numbers for a JSON file: the summary, and a row a frame."""
        rows = []
        if self.measures is not None:
            columns = {name: values.tolist() for name, values in asdict(self.measures).items()}
            columns["motion_mm"] = [None if x != x else x for x in columns["motion_mm"]]
            rows = [
                {"frame": name} | {key: column[i] for key, column in columns.items()}
                for i, name in enumerate(self.names)
            ]
        said = {"refusals": self.refusals, "advice": self.advice, "left_out": self.left_out}
        return {"summary": dict(summary(self))} | said | {"depth_mm": self.depth_mm, "frames": rows}


def look_over(frames: Sequence[Frame], net: PoseNet, template: HandRig, progress: bool = True) -> Check:
    """Find, crop and measure the hand in each frame, and judge the folder. Reads each file once; keeps the crops alone.

    net, template: the base model, which has its say in what is a hand.

    Raises ValueError where a file cannot be used; the message names it.
    """
    parts, names, left_out, measured, depths = [], [], {}, [], []
    bar = tqdm(total=len(frames), desc="find the hand", disable=not progress or len(frames) < 50)
    watched = _Watched(frames, depths, bar)
    for crops, kept, lost in in_chunks(watched):
        left_out |= lost
        if crops is not None:
            parts.append(crops)
            names += [frame.name for frame in kept]
            measured.append((likeness(net, template, crops), relief_mm(crops), *_outlines(crops, kept)))
    bar.close()
    depths = np.concatenate([np.zeros(0, np.float32), *depths])
    depth_mm = tuple(np.percentile(depths, (5, 50, 95)).tolist()) if len(depths) else (0.0, 0.0, 0.0)
    crops = concatenate(parts) if parts else None
    measures = None
    if crops is not None:
        hand, relief, holes, cut, clipped = (torch.cat(column) for column in zip(*measured, strict=True))
        same, motion_mm = _changes(crops, names)
        measures = Measures(crops.centre_mm[:, 2], holes, cut, clipped, hand, relief, same, motion_mm)
    found = Check(len(frames), crops, names, measures, left_out, depth_mm)
    advice = (*_camera_advice(watched.camera, watched.shape), *_advice(found))
    return replace(found, refusals=tuple(_refusals(found)), advice=advice)


class _Watched(Sequence):
    """Frames that leave a few of their depths in a list as they go by; camera, shape [2]: the last one's."""

    camera, shape = None, None

    def __init__(self, frames, depths, bar):
        self.frames, self.depths, self.bar = frames, depths, bar

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, index):
        frame = self.frames[index]
        self.camera, self.shape = frame.camera, frame.depth_mm.shape
        some = frame.depth_mm[::7, ::7]
        self.depths.append(some[some > 0][::11])
        self.bar.update()
        return frame


def likeness(net: PoseNet, template: HandRig, crops: Crops) -> Tensor:
    """How much each crop looks like a hand, [B] in [0, 1], by the recogniser and by the base model, which must both doubt."""
    both = looks_like_a_hand(crops.image) * confidence(predict(net, crops), template, crops)
    return both / (both + UNDECIDED)


def relief_mm(crops: Crops) -> Tensor:
    """Median distance of each frame's points from the quadric that fits them best, [B] mm: 0 for balls, cylinders, planes.

    Fitted by the generalised eigenvalue problem of Taubin 1991, "Estimation of planar curves, surfaces, and nonplanar space
    curves"; the distance is to first order.
    """
    found = []
    for points, count in zip(crops.points.double(), crops.count.tolist(), strict=True):
        x = points[:count] - points[:count].mean(0)
        size = x.square().sum(1).mean().sqrt().clamp_min(1e-6)
        a, b, c = (x / size).unbind(1)
        one, zero = torch.ones_like(a), torch.zeros_like(a)
        terms = torch.stack([a * a, b * b, c * c, a * b, a * c, b * c, a, b, c, one], 1)
        slopes = (
            [2 * a, zero, zero, b, c, zero, one, zero, zero, zero],
            [zero, 2 * b, zero, a, zero, c, zero, one, zero, zero],
            [zero, zero, 2 * c, zero, a, b, zero, zero, one, zero],
        )
        slopes = torch.stack([torch.stack(row, 1) for row in slopes])
        weight = torch.einsum("kni,knj->ij", slopes, slopes) / count + 1e-9 * torch.eye(10, dtype=x.dtype)
        inverse = torch.linalg.inv(torch.linalg.cholesky(weight))
        least = inverse.mT @ torch.linalg.eigh(inverse @ (terms.mT @ terms / count) @ inverse.mT)[1][:, 0]
        apart = (terms @ least).abs() / ((slopes @ least).norm(dim=0) + 1e-6)
        found.append(apart.median() * size * crops.cube_mm)
    return torch.stack(found).float()


def _outlines(crops: Crops, frames: Sequence[Frame]) -> tuple[Tensor, Tensor, Tensor]:
    """Holes, cut and clipped of `Measures`."""
    rows, size = [], crops.image.shape[-1]
    for image, centre, frame in zip(crops.image.numpy(), crops.centre_mm.numpy(), frames, strict=True):
        hand = image > 0
        solid = ndimage.binary_fill_holes(hand)
        outline = hand & ~ndimage.binary_erosion(hand)
        # the pixels of the frame that the crop's columns and rows come from
        part, camera = ((np.arange(size) + 0.5) / size - 0.5) * crops.cube_mm / centre[2], frame.camera
        u = np.rint(centre[0] / centre[2] * camera.fx + camera.cx + part * camera.fx)
        v = np.rint(centre[1] / centre[2] * camera.fy + camera.cy + part * camera.fy)
        height, width = frame.depth_mm.shape
        at_border = np.zeros_like(hand)
        at_border[:, (u <= 1) | (u >= width - 2)] = True
        at_border[(v <= 1) | (v >= height - 2), :] = True
        edge = np.ones_like(hand)
        edge[1:-1, 1:-1] = False
        total = max(1, outline.sum())
        rows.append(
            (1 - hand.sum() / max(1, solid.sum()), (outline & at_border).sum() / total, (hand & edge).sum() / total)
        )
    return tuple(torch.tensor(np.array(rows, np.float32)).unbind(1))


def _changes(crops: Crops, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    folder = [name.rpartition("/")[0] for name in names]
    same, motion = torch.zeros(len(names), dtype=torch.bool), torch.full((len(names),), float("nan"))
    for i in range(1, len(names)):
        if folder[i] == folder[i - 1]:
            same[i] = torch.equal(crops.image[i], crops.image[i - 1])
            motion[i] = (crops.centre_mm[i] - crops.centre_mm[i - 1]).norm()
    return same, motion


# -- the verdict ----------------------------------------------------------------------------------------------------------


def _refusals(check: Check) -> Iterator[str]:
    found = len(check.names)
    if found < FOUND_SHARE * check.frames:
        some = "; ".join(_reasons(check.left_out, 3))
        yield f"nothing of a hand's size in {check.frames - found} of {check.frames} frames ({some})"
        if found == 0 and _unlikely_unit(check):
            side = "beyond" if check.depth_mm[1] > 1000 else "nearer than"
            yield (
                f"half of all depths are {side} {check.depth_mm[1]:.0f} mm: check --unit-mm (1 for Kinect, 0.125 for SR305, "
                "1000 for files in metres)"
            )
    if found:
        hands = (check.measures.hand > 0.5).float().mean().item()
        if hands < HAND_SHARE:
            likeness = check.measures.hand.median().item()
            yield (
                f"what is found does not look like a hand in {1 - hands:.0%} of the frames (median likeness {likeness:.2f}, a "
                "hand has 0.5 and more); check that the hand is what is nearest to the camera, --camera and --unit-mm"
            )
        relief = check.measures.relief_mm.median().item()
        if relief < SMOOTH_MM:
            yield f"what is found is one smooth body, as a ball or board: its relief is {relief:.1f} mm, a hand has 2 to 4 mm"


def _unlikely_unit(check: Check) -> bool:
    return check.depth_mm[1] > 0 and not 150 < check.depth_mm[1] < 3000


def _reasons(left_out: dict[str, str], most: int) -> Iterator[str]:
    """The commonest reasons and how common they are; those that differ in their numbers alone are one, by an example."""
    kinds = {}
    for reason in left_out.values():
        kinds.setdefault(re.sub(r"\d+", "", reason), []).append(reason)
    for alike in sorted(kinds.values(), key=len, reverse=True)[:most]:
        frames = "1 frame" if len(alike) == 1 else f"{len(alike)} frames"
        yield f"{frames}{', e.g.' if len(set(alike)) > 1 else ':'} {alike[0]}"


def _camera_advice(camera: Camera | None, shape: tuple[int, int]) -> Iterator[str]:
    """Doubts about a camera whose numbers may be in another order, as in the rows of its matrix: fx cx fy cy."""
    if camera is None:
        return
    order, (height, width) = "the order of --camera is FX FY CX CY", shape
    if not 0.8 < camera.fx / camera.fy < 1.25:
        yield f"the focal lengths, {camera.fx:g} and {camera.fy:g} px, are far apart: {order}"
    if not (0 <= camera.cx < width and 0 <= camera.cy < height):
        yield f"the principal point is outside of the image, which is {width} x {height} px: {order}"


def _advice(check: Check) -> Iterator[str]:
    m = check.measures
    if m is None:
        if _unlikely_unit(check):
            return
        yield "hold one hand towards the camera, 300 to 900 mm away, nothing nearer than it, and record again"
        return
    found, share = len(check.names), lambda values: values.float().mean().item()
    if found < FEW_FRAMES:
        worse = "far too few" if found < FEW else "few"
        most = f"{FEW_FRAMES} and more, with all sides of the hand and all fingers bent, tell its shape"
        yield f"{found} frames are {worse}: {most}"
    if check.left_out:
        yield f"{len(check.left_out)} frames are left out: see their reasons"
    if share(m.hand > 0.5) < 0.9:
        odd = f"{share(m.hand <= 0.5):.0%} of the frames do not look like a hand"
        yield f"{odd}: the forearm may be taken for it there, or none be in view; remove them, or see --masks and --colour"
    if share(m.holes > 0.1) > 0.2:
        yield "the hand has many holes: go farther from the sensor's least distance, avoid sunlight and shiny gloves"
    if share(m.cut > 0.15) > 0.2:
        yield f"the image's border cuts the hand in {share(m.cut > 0.15):.0%} of the frames: keep it in the middle"
    if share(m.clipped > 0.02) > 0.2:
        yield "the hand is larger than the crop's 250 mm, or more than the hand is found: check --unit-mm and --camera"
    if not 250 < m.distance_mm.median() < 1000:
        yield f"the hand is {m.distance_mm.median():.0f} mm away: 300 to 900 mm is what the base model knows best"
    if share(m.same) > 0.2:
        yield f"{share(m.same):.0%} of the frames equal the one before: they add nothing"
    moved = m.motion_mm[m.motion_mm.isfinite()]
    if len(moved) and share(moved > 80) > 0.3:
        yield "the hand jumps from frame to frame: where these are one recording, record faster or move slower"


def summary(check: Check) -> list[tuple[str, str]]:
    """What there is to say, in rows of two: what, and how much."""
    rows = [("frames", str(check.frames)), ("with something of a hand's size", str(len(check.names)))]
    m = check.measures
    if m is None:
        return rows
    low, middle, high = np.percentile(m.distance_mm.numpy(), (5, 50, 95))
    moved = m.motion_mm[m.motion_mm.isfinite()]
    percent = lambda values: f"{values.float().mean().item():.1%}"  # noqa: E731
    return rows + [
        ("that look like a hand", f"{int((m.hand > 0.5).sum())} ({percent(m.hand > 0.5)})"),
        ("distance, median and 5 to 95 %", f"{middle:.0f} mm, {low:.0f} to {high:.0f} mm"),
        ("holes within the hand, mean", percent(m.holes)),
        ("frames whose border cuts the hand", percent(m.cut > 0.15)),
        ("frames with a hand beyond the crop", percent(m.clipped > 0.02)),
        ("frames that equal the one before", percent(m.same)),
        ("motion from frame to frame, median", f"{moved.median():.1f} mm" if len(moved) else "-"),
    ]


def as_text(check: Check) -> str:
    """The check as a table with what follows from it, for the terminal."""
    rows = summary(check)
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:{width}}  {value}" for name, value in rows]
    if check.left_out:
        lines += [f"  left out: {reason}" for reason in _reasons(check.left_out, 4)]
    return "\n".join(
        lines + [f"  advice: {text}" for text in check.advice] + [f"  REFUSED: {t}" for t in check.refusals]
    )
