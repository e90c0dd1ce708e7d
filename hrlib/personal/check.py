"""The check before anything is trained: what a folder's frames are like, whether they show a hand, what to do better."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.linalg import eigh
from torch import Tensor

from ..frames.crops import Crops, concatenate
from ..frames.frame import Frame
from ..frames.recognise import looks_like_a_hand
from ..hand.rig import HandRig
from ..network.model import PoseModel
from ..network.predict import predict
from ..refine.best import FEW_FRAMES
from ..refine.confidence import confidence
from ..support.progress import tqdm
from .doubt import LEAST_DEPTH_MM, MOST_DEPTH_MM, Doubt, Evidence, KnownSide, doubts, gather, unit_doubt
from .inputs import file_doubts
from .side import LOOKS, Sides, read_as
from .stream import crop_chunk, over_chunks, some_frames

FEW = 30  # frames: with fewer there is no point in refining
LIKE_A_HAND = 0.5  # of likeness: from here on a frame counts as a hand
# of (recogniser's score) x (base model's confidence): a frame with this product has a likeness of 0.5. 5 % of drawn hands
# that the recogniser has not seen are below, and so are 96 % of things of kinds that it has not seen
# (data/recognise/hand.json, where another base model is to be judged again). Above it are 88 % of 2304 real frames of the
# ASL alphabet; each of its letters would pass as a folder of its own but Q, which the base model loses
UNDECIDED = 0.066
# median relief in mm: 0.2 to 1.1 for balls, plates and sticks, 2.1 to 3.7 for real hands
SMOOTH_MM = 1.2

# A folder is refused below these shares of its frames
FOUND_SHARE = 0.5  # show something of a hand's size
HAND_SHARE = 0.5  # of those found: look like a hand

# What advice starts at. These bounds are set by eye, since advice stops nothing
OFTEN = 0.2  # of the frames
ODD_OFTEN = 0.1  # of the frames: what is no hand harms more than a hand that is cut or has holes
JUMPS_OFTEN = 0.3  # of the movements: where recordings are put together there is a jump, too
HOLES = 0.1  # share of the hand's inside without a measurement
CUT = 0.15  # share of the outline at the image's border, where a forearm may leave the image
LETTERBOX_FRAMES = 5  # of one size; fewer do not tell an empty margin from a letterbox
CLIPPED = 0.02  # share of the outline at the crop's border: a hand fits into the crop
JUMP_MM = 80.0  # from frame to frame: a third of the crop


@dataclass(frozen=True)
class Measures:
    """Of B frames in a row."""

    distance_mm: Float[Tensor, " B"]  # of the hand along z
    holes: Float[Tensor, " B"]  # share of its outline's inside without a measurement
    cut: Float[Tensor, " B"]  # share of its outline at the image's border
    clipped: Float[Tensor, " B"]  # share of its outline at the crop's border
    hand: Float[Tensor, " B"]  # likeness to a hand, in [0, 1]; 0.5 is undecided
    relief_mm: Float[Tensor, " B"]  # how far the surface is from one smooth body, a quadric
    same: Bool[Tensor, " B"]  # whether the crop equals the one before
    motion_mm: Float[Tensor, " B"]  # from the frame before; NaN in the first of a folder


@dataclass(frozen=True)
class Check:
    """What a folder's frames are like, and what follows from it."""

    frames: int  # how many there are
    crops: Crops | None  # of those with something of a hand's size; None if there are none
    names: list[str]  # of the same frames
    measures: Measures | None  # of the same frames
    left_out: dict[str, str]  # name of each other frame -> why
    depth_mm: tuple[float, float, float]  # 5, 50 and 95 % of all depths
    refusals: tuple[str, ...] = ()  # why these frames are not refined
    doubts: tuple[Doubt, ...] = ()  # why the result may be wrong
    advice: tuple[str, ...] = ()  # what to do better
    side: str = "right"  # the hand that the frames are taken for
    sides: Sides | None = None  # what the frames say of it; None without a hand
    size: float | None = None  # the hand's apparent one, as a factor of the template; None without a hand

    def record(self) -> dict:
        """Plain numbers for a JSON file: the summary, and a row a frame."""
        rows = []
        if self.measures is not None:
            columns = {name: values.tolist() for name, values in asdict(self.measures).items()}
            columns["motion_mm"] = [None if x != x else x for x in columns["motion_mm"]]
            rows = [
                dict(zip(("frame", *columns), row, strict=True))
                for row in zip(self.names, *columns.values(), strict=True)
            ]
        verdict = {"refusals": self.refusals, "doubts": self.doubts, "advice": self.advice, "left_out": self.left_out}
        verdict |= {
            "side": self.side,
            "confidence_as": None if self.sides is None else vars(self.sides),
            "size": self.size,
        }
        return {"summary": dict(summary(self)), **verdict, "depth_mm": self.depth_mm, "frames": rows}


def look_over(
    frames: Sequence[Frame],
    net: PoseModel,
    template: HandRig,
    progress: bool = True,
    processes: int = 1,
    evidence: Evidence | None = None,
) -> Check:
    """Find, crop and measure the hand in each frame, and judge the folder.

    Args:
        frames: of one hand, in the order they were taken.
        net, template: the base model; it helps to tell what is a hand.
        progress: show a bar.
        processes: see `stream.over_chunks`.
        evidence: what a first look at the folder has shown, if there was one; else some files are read again for it.

    Raises:
        ValueError: no file can be used; the message names one.
    """
    parts, names, left_out, measured, depths = [], [], {}, [], [np.zeros(0, np.float32)]
    with tqdm(total=len(frames), desc="find the hand", disable=not progress or len(frames) < 50) as bar:
        for looked, unreadable in over_chunks(partial(_looked, net, template), frames, processes):
            if looked.crops is not None:
                parts.append(looked.crops)
                measured.append(looked.columns)
            names += looked.names
            left_out |= unreadable | looked.left_out
            depths.append(looked.depths_mm)
            bar.update(len(looked.names) + len(looked.left_out) + len(unreadable))
    depths = np.concatenate(depths)
    depth_mm = tuple(np.percentile(depths, (5, 50, 95)).tolist()) if len(depths) else (0.0, 0.0, 0.0)
    crops, measures = concatenate(parts) if parts else None, None
    if crops is not None:
        columns = (torch.cat(column) for column in zip(*measured, strict=True))
        measures = Measures(crops.centre_mm[:, 2], *columns, *_changes(crops, names))
    check = Check(len(frames), crops, names, measures, left_out, depth_mm, side=read_as(frames))
    check = replace(check, refusals=tuple(_refusals(check)))
    if evidence is None:
        some = some_frames(frames, LOOKS)
        evidence = gather(net, template, some, crops, KnownSide(check.side, check.side))
    if crops is not None:
        evidence = replace(evidence, likeness=measures.hand.median().item(), found=len(names) / len(frames))
    check = replace(check, sides=evidence.sides, size=evidence.size)
    return replace(check, doubts=(*doubts(evidence), *file_doubts(frames)), advice=tuple(_advice(check)))


@dataclass(frozen=True)
class _Looked:
    """What is kept of a chunk of frames."""

    crops: Crops | None
    names: list[str]
    left_out: dict[str, str]
    columns: tuple[Tensor, ...]  # holes, cut, clipped, hand and relief_mm of `Measures`
    depths_mm: Float[np.ndarray, " N"]  # some of all


def _looked(net: PoseModel, template: HandRig, frames: list[Frame]) -> _Looked:
    crops, kept, lost = crop_chunk(frames)
    columns = ()
    if crops is not None:
        columns = (*_outlines(crops, kept), likeness(net, template, crops), relief_mm(crops))
    some = (frame.depth_mm[::7, ::7] for frame in frames)
    depths_mm = np.concatenate([np.zeros(0, np.float32), *(depth_mm[depth_mm > 0][::11] for depth_mm in some)])
    return _Looked(crops, [frame.name for frame in kept], lost, columns, depths_mm)


def likeness(net: PoseModel, template: HandRig, crops: Crops) -> Float[Tensor, " B"]:
    """How much each crop looks like a hand, in [0, 1]: low only if both the recogniser and the base model are unsure."""
    both = looks_like_a_hand(crops.image) * confidence(predict(net, crops), template, crops)
    return both / (both + UNDECIDED)


def relief_mm(crops: Crops) -> Float[Tensor, " B"]:
    """Median distance of each frame's points from the quadric that fits them best, mm: 0 for balls, cylinders, planes.

    The fit is the generalised eigenvalue problem of Taubin 1991, "Estimation of planar curves, surfaces, and nonplanar
    space curves"; the distance is to first order.
    """
    reliefs, (i, j) = [], np.triu_indices(4)
    for points, count in zip(crops.points.double().numpy(), crops.count.tolist(), strict=True):
        x = points[:count] - points[:count].mean(0)
        size = max(np.sqrt((x**2).sum(1).mean()), 1e-6)
        h = np.column_stack([x / size, np.ones(count)])  # homogeneous: the quadric is the sum of c_ij h_i h_j, i <= j
        terms = h[:, i] * h[:, j]
        slopes = np.stack([(i == k) * h[:, j] + (j == k) * h[:, i] for k in range(3)])
        weight = np.einsum("kni,knj->ij", slopes, slopes) / count + 1e-9 * np.eye(10)
        least = eigh(terms.T @ terms / count, weight, subset_by_index=(0, 0))[1][:, 0]
        apart = np.abs(terms @ least) / (np.linalg.norm(slopes @ least, axis=0) + 1e-6)
        reliefs.append(np.median(apart) * size * crops.cube_mm)
    return torch.tensor(reliefs, dtype=torch.float32)


def _outlines(crops: Crops, frames: Sequence[Frame]) -> tuple[Tensor, Tensor, Tensor]:
    """Holes, cut and clipped of `Measures`."""
    rows, size, borders = [], crops.image.shape[-1], _borders(frames)
    edge = np.pad(np.zeros((size - 2, size - 2), bool), 1, constant_values=True)
    for image, centre, frame in zip(crops.image.numpy(), crops.centre_mm.numpy(), frames, strict=True):
        hand = image > 0
        outline = hand & ~ndimage.binary_erosion(hand)
        # the pixels of the frame that the crop's columns and rows come from
        part, camera = ((np.arange(size) + 0.5) / size - 0.5) * crops.cube_mm / centre[2], frame.camera
        u = np.rint(centre[0] / centre[2] * camera.fx + camera.cx + part * camera.fx)
        v = np.rint(centre[1] / centre[2] * camera.fy + camera.cy + part * camera.fy)
        top, bottom, left, right = borders[frame.depth_mm.shape]
        at_border = ((v <= top + 1) | (v >= bottom - 1))[:, None] | ((u <= left + 1) | (u >= right - 1))
        length, inside = max(1, outline.sum()), max(1, ndimage.binary_fill_holes(hand).sum())
        holes = 1 - (1 - frame.filled) * hand.sum() / inside
        rows.append((holes, (outline & at_border).sum() / length, (hand & edge).sum() / length))
    return tuple(torch.tensor(np.array(rows, np.float32)).unbind(1))


def _borders(frames: Sequence[Frame]) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """First and last row and column of the images of a size: of what is measured, where images end in a letterbox."""
    borders = {}
    for shape in {frame.depth_mm.shape for frame in frames}:
        measured = [frame.depth_mm > 0 for frame in frames if frame.depth_mm.shape == shape]
        sides = []
        for axis in (0, 1):
            ahead = np.array([np.flatnonzero(some.any(1 - axis))[[0, -1]] for some in measured if some.any()])
            last = shape[axis] - 1
            sides += [_common(ahead[:, 0]), last - _common(last - ahead[:, 1])] if len(ahead) else [0, last]
        borders[shape] = tuple(sides)
    return borders


def _common(empty: np.ndarray) -> int:
    """How many rows are empty at a side of all images, if what is measured ends there in most of them; else 0."""
    least = int(empty.min())
    return least if len(empty) >= LETTERBOX_FRAMES and (empty <= least + 1).mean() >= 0.5 else 0


def _changes(crops: Crops, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Same and motion_mm of `Measures`."""
    folders = [name.rpartition("/")[0] for name in names]
    follows = torch.tensor(
        [before == after for before, after in zip(folders, folders[1:], strict=False)], dtype=torch.bool
    )
    same, motion = torch.zeros(len(names), dtype=torch.bool), torch.full((len(names),), float("nan"))
    same[1:] = (crops.image[1:] == crops.image[:-1]).flatten(1).all(1) & follows
    motion[1:] = crops.centre_mm.diff(dim=0).norm(dim=1).where(follows, float("nan"))
    return same, motion


# -- the verdict ----------------------------------------------------------------------------------------------------------


def _refusals(check: Check) -> Iterator[str]:
    """Why the frames are not refined, with the numbers that speak for it."""
    found, middle = len(check.names), check.depth_mm[1]
    if found < FOUND_SHARE * check.frames:
        some = "; ".join(_reasons(check.left_out, 3))
        yield f"nothing of a hand's size in {check.frames - found} of {check.frames} frames ({some})"
    if not found and _unlikely_unit(check):
        yield str(unit_doubt(middle))
    if not found:
        return
    hands, median = _share(check.measures.hand > LIKE_A_HAND), check.measures.hand.median().item()
    if hands < HAND_SHARE:
        yield (
            f"what is found does not look like a hand in {1 - hands:.0%} of the frames (median likeness {median:.2f}, a "
            "hand has 0.5 and more); check that the hand is what is nearest to the camera, --camera and --unit-mm"
        )
    relief = check.measures.relief_mm.median().item()
    if relief < SMOOTH_MM:
        yield f"what is found is one smooth body, as a ball or board: its relief is {relief:.1f} mm, a hand has 2 to 4 mm"


def _share(values: Tensor) -> float:
    return values.float().mean().item()


def _unlikely_unit(check: Check) -> bool:
    return check.depth_mm[1] > 0 and not LEAST_DEPTH_MM < check.depth_mm[1] < MOST_DEPTH_MM


def _reasons(left_out: dict[str, str], most: int) -> Iterator[str]:
    """The `most` commonest reasons, with counts. Reasons that differ only in their numbers count as one, by an example."""
    kinds = {}
    for reason in left_out.values():
        kinds.setdefault(re.sub(r"\d+", "", reason), []).append(reason)
    for alike in sorted(kinds.values(), key=len, reverse=True)[:most]:
        frames = "1 frame" if len(alike) == 1 else f"{len(alike)} frames"
        yield f"{frames}{', e.g.' if len(set(alike)) > 1 else ':'} {alike[0]}"


def _advice(check: Check) -> Iterator[str]:
    """What to do better, for each measure that is often bad."""
    m = check.measures
    if m is None:
        if not _unlikely_unit(check):
            yield "hold one hand towards the camera, 300 to 900 mm away, nothing nearer than it, and record again"
        return
    found = len(check.names)
    if found < FEW_FRAMES:
        worse = "far too few" if found < FEW else "few"
        most = f"{FEW_FRAMES} and more, with all sides of the hand and all fingers bent, tell its shape"
        yield f"{found} frames are {worse}: {most}"
    if check.left_out:
        yield f"{len(check.left_out)} frames are left out: see their reasons"
    if _share(m.hand <= LIKE_A_HAND) > ODD_OFTEN:
        odd = f"{_share(m.hand <= LIKE_A_HAND):.0%} of the frames do not look like a hand"
        yield f"{odd}: the forearm may be taken for it there, or none be in view; remove them, or see --masks and --colour"
    if _share(m.holes > HOLES) > OFTEN:
        better = "take depth as the sensor measures it, not put onto a colour image"
        yield f"the hand has many holes: keep the sensor's least distance, avoid sunlight and shiny gloves, {better}"
    if _share(m.cut > CUT) > OFTEN:
        where = "the image's, or that of the part of it that is not empty"
        yield f"the border cuts the hand in {_share(m.cut > CUT):.0%} of the frames ({where}): keep it in the middle"
    if _share(m.clipped > CLIPPED) > OFTEN:
        yield "the hand is larger than the crop's 250 mm, or more than the hand is found: check --unit-mm and --camera"
    if _share(m.same) > OFTEN:
        yield f"{_share(m.same):.0%} of the frames equal the one before: they add nothing"
    moved = m.motion_mm[m.motion_mm.isfinite()]
    if len(moved) and _share(moved > JUMP_MM) > JUMPS_OFTEN:
        yield "the hand jumps from frame to frame: where these are one recording, record faster or move slower"


def summary(check: Check) -> list[tuple[str, str]]:
    """The check in rows of two cells: what, and how much."""
    rows = [("frames", str(check.frames)), ("with something of a hand's size", str(len(check.names)))]
    m = check.measures
    if m is None:
        return rows
    low, middle, high = np.percentile(m.distance_mm.numpy(), (5, 50, 95))
    moved, hands = m.motion_mm[m.motion_mm.isfinite()], m.hand > LIKE_A_HAND
    return rows + [
        ("taken for", f"a {check.side} hand" + (f" ({check.sides})" if check.sides else "")),
        ("apparent size, 1 is an adult's", f"{check.size:.2f}" if check.size else "-"),
        ("that look like a hand", f"{int(hands.sum())} ({_share(hands):.1%})"),
        ("distance, median and 5 to 95 %", f"{middle:.0f} mm, {low:.0f} to {high:.0f} mm"),
        ("holes within the hand, mean", f"{_share(m.holes):.1%}"),
        ("frames whose border cuts the hand", f"{_share(m.cut > CUT):.1%}"),
        ("frames with a hand beyond the crop", f"{_share(m.clipped > CLIPPED):.1%}"),
        ("frames that equal the one before", f"{_share(m.same):.1%}"),
        ("motion from frame to frame, median", f"{moved.median():.1f} mm" if len(moved) else "-"),
    ]


def as_text(check: Check) -> str:
    """The check as a table for the terminal, with the reasons, the advice and the refusals."""
    rows = summary(check)
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:{width}}  {value}" for name, value in rows]
    lines += [f"left out: {reason}" for reason in _reasons(check.left_out, 4)]
    lines += [f"advice: {text}" for text in (*check.doubts, *check.advice)] + [
        f"REFUSED: {text}" for text in check.refusals
    ]
    return "\n".join(f"  {line}" for line in lines)
