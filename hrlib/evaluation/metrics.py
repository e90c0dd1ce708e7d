"""How far off: joints in millimetres, synthesized images in squared depth, and what can be said without 3D labels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..datasets.fingerspelling import FINGER_STATES
from ..hand.joints import JOINT_NAMES
from ..hand.rotations import euler_angles

FOUR_FINGERS = ("index", "middle", "ring", "pinky")
MCP = [JOINT_NAMES.index(f"{finger}_base") for finger in FOUR_FINGERS]
PIP = [JOINT_NAMES.index(f"{finger}_middle") for finger in FOUR_FINGERS]


# -- real frames without 3D labels --------------------------------------------------------------------------------------


def finger_flexion(rotations: Tensor) -> Tensor:
    """How far index, middle, ring and pinky are rolled up: flexion of the base (MCP) plus that of the middle joint (PIP).

    rotations [B, 16, 4]: unit quaternions xyzw -> [B, 4] rad, about 0 for a straight finger and 3 for a folded one.
    Raises ValueError for another shape.
    """
    if rotations.ndim != 3 or rotations.shape[1:] != (16, 4):
        raise ValueError(f"rotations must be quaternions [B, 16, 4] (xyzw), got {list(rotations.shape)}")
    flexion = euler_angles(rotations)[..., 0]
    return flexion[:, MCP] + flexion[:, PIP]


def finger_state_auc(rotations: Tensor, letters: Sequence[str]) -> float:
    """How well the predicted flexion tells folded from extended fingers on frames of known letters of the ASL alphabet.

    rotations [B, 16, 4]: predicted unit quaternions xyzw; letters: B letters, of either case, of which those without an
    entry in `fingerspelling.FINGER_STATES` are left out. Over all (frame, finger) pairs: the share of pairs of a folded
    and an extended finger in which the folded one has the larger `finger_flexion`, ties counted half (the area under the
    ROC curve; Mann and Whitney 1947). 1 is perfect, 0.5 is chance, and it has no unit and needs no threshold.

    This is a measure on real frames that have no 3D labels. Letters are labels all the same: never train on it, and never
    choose a checkpoint, a setting or a method by it, or it stops measuring anything.
    Raises ValueError where there are not as many letters as frames, or no folded or no extended finger.
    """
    if len(letters) != len(rotations):
        raise ValueError(f"letters must be one a frame: got {len(letters)} letters for {len(rotations)} frames")
    known = [i for i, letter in enumerate(letters) if letter.lower() in FINGER_STATES]
    extended = torch.tensor([FINGER_STATES[letters[i].lower()] for i in known]).bool().flatten()
    flexion = finger_flexion(rotations[known]).flatten().cpu()
    folded = int((~extended).sum())
    if not 0 < folded < len(extended):
        raise ValueError(
            f"both folded and extended fingers are needed, got {folded} folded and {len(extended) - folded} extended; "
            f"letters that count are {''.join(FINGER_STATES)}"
        )
    from scipy.stats import rankdata  # takes half a second to import, which nothing else here needs

    ranks = rankdata(flexion.double().numpy())  # ties get their mean rank
    wins = ranks[~extended.numpy()].sum() - folded * (folded + 1) / 2
    return float(wins / (folded * (len(extended) - folded)))


def jitter_mm(joints_mm: Tensor, sequence: Sequence | Tensor) -> float:
    """How much the points of a tracked hand tremble: mean length of their second differences in time, mm per frame^2.

    joints_mm [B, J, 3] mm, in the order of time; sequence: B ids, of which frame is of which recording. Three frames next
    to each other with one id count as consecutive, so leave no frame out within a recording. Even movement has none.
    Raises ValueError for another shape, another number of ids, or where no recording has three frames.
    """
    if joints_mm.ndim != 3 or joints_mm.shape[-1] != 3:
        raise ValueError(f"joints_mm must be [B, J, 3], got {list(joints_mm.shape)}")
    if len(sequence) != len(joints_mm):
        raise ValueError(f"sequence must be one id a frame: got {len(sequence)} ids for {len(joints_mm)} frames")
    ids = sequence.tolist() if isinstance(sequence, Tensor) else list(sequence)
    middle = [i for i in range(1, len(ids) - 1) if ids[i - 1] == ids[i] == ids[i + 1]]
    if not middle:
        raise ValueError("no sequence has three consecutive frames, so that nothing can tremble")
    at = torch.tensor(middle, device=joints_mm.device)
    return (joints_mm[at - 1] - 2 * joints_mm[at] + joints_mm[at + 1]).norm(dim=-1).mean().item()


# -- comparing numbers --------------------------------------------------------------------------------------------------


def spearman(a: Sequence[float] | Tensor, b: Sequence[float] | Tensor) -> float:
    """Rank correlation of two lists of K numbers, in [-1, 1]; equal numbers share their mean rank (Spearman 1904).

    Raises ValueError where their lengths differ, for fewer than two numbers, for NaN, and where all of one are equal.
    """
    a, b = (torch.as_tensor(x, dtype=torch.float64).detach().cpu() for x in (a, b))
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ValueError(f"a and b must be two lists of as many numbers, got {list(a.shape)} and {list(b.shape)}")
    for name, values in (("a", a), ("b", b)):
        if values.isnan().any() or (values == values[0]).all():
            raise ValueError(f"{name} must hold different numbers and no NaN: its ranks are undefined")
    from scipy.stats import spearmanr  # takes half a second to import, which nothing else here needs

    return float(spearmanr(a.numpy(), b.numpy()).statistic)


def gap_closed(base: float, refined: float, oracle: float) -> float:
    """Share of the way from the base model's error to the supervised oracle's that refinement went, all in one unit.

    1 where it is as good as the oracle, 0 where nothing changed, negative where it got worse.
    Raises ValueError where the oracle is no better than the base: there is no gap then.
    """
    if not base > oracle:
        raise ValueError(
            f"oracle must be below base: there is no gap between {oracle} and {base}; train the oracle longer"
        )
    return (base - refined) / (base - oracle)
