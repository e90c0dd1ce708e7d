"""Measures without 3D labels (finger states, jitter), and comparisons of numbers."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ..datasets.fingerspelling import FINGER_STATES
from ..hand.joints import JOINT_NAMES
from ..hand.rotations import euler_angles

MCP, PIP = (
    [JOINT_NAMES.index(f"{finger}_{part}") for finger in ("index", "middle", "ring", "pinky")]
    for part in ("base", "middle")
)


def finger_flexion(rotations: Float[Tensor, "B 16 4"]) -> Float[Tensor, "B 4"]:
    """Flexion of base (MCP) plus middle joint (PIP) of index, middle, ring and pinky, rad: 0 straight, about 3 folded.

    Args:
        rotations: unit quaternions xyzw. Raises ValueError for another shape.
    """
    if rotations.ndim != 3 or rotations.shape[1:] != (16, 4):
        raise ValueError(f"rotations must be quaternions [B, 16, 4] (xyzw), got {list(rotations.shape)}")
    flexion = euler_angles(rotations)[..., 0]
    return flexion[:, MCP] + flexion[:, PIP]


def finger_state_auc(rotations: Float[Tensor, "B 16 4"], letters: Sequence[str]) -> float:
    """Area under the ROC curve of `finger_flexion` as a test for folded fingers, on frames of known ASL letters.

    It is the share of pairs of a folded and an extended finger, of any frames, in which the folded one has the larger
    flexion; ties count half (Mann and Whitney 1947). 1 is perfect, 0.5 is chance. Letters are labels: if training, or the
    choice of a checkpoint, a setting or a method uses this measure, it measures nothing any more.

    Args:
        rotations: predicted unit quaternions xyzw.
        letters: of either case, one a frame. Letters that are not in `FINGER_STATES` are left out.
    Raises:
        ValueError: another number of letters than frames, or no folded or no extended finger.
    """
    if len(letters) != len(rotations):
        raise ValueError(f"letters must be one a frame: got {len(letters)} letters for {len(rotations)} frames")
    known = [i for i, letter in enumerate(letters) if letter.lower() in FINGER_STATES]
    extended = torch.tensor([FINGER_STATES[letters[i].lower()] for i in known]).bool().flatten()
    flexion = finger_flexion(rotations[known]).flatten().double().cpu()
    folded, straight = flexion[~extended], flexion[extended]
    if not len(folded) or not len(straight):
        raise ValueError(
            f"both folded and extended fingers are needed, got {len(folded)} folded and {len(straight)} extended; "
            f"letters that count are {''.join(FINGER_STATES)}"
        )
    from scipy.stats import mannwhitneyu  # takes half a second to import

    wins = mannwhitneyu(folded.numpy(), straight.numpy(), method="asymptotic").statistic
    return float(wins / (len(folded) * len(straight)))


def acceleration_mm(joints_mm: Float[Tensor, "B J 3"]) -> Float[Tensor, " B-2"]:
    """Mean length of the points' second differences in time, mm a frame^2, for each frame but the first and the last."""
    return (joints_mm[:-2] - 2 * joints_mm[1:-1] + joints_mm[2:]).norm(dim=-1).mean(1)


def jitter_mm(joints_mm: Float[Tensor, "B J 3"], sequence: Sequence | Shaped[Tensor, " B"]) -> float:
    """Mean `acceleration_mm` of a tracked hand, mm a frame^2: 0 for even movement.

    Args:
        joints_mm: mm, in the order of time.
        sequence: the recording of each frame. Three neighbours of one recording count as consecutive, so that no frame
            within a recording may be left out.
    Raises:
        ValueError: another shape or number of ids, or no recording of three frames.
    """
    if joints_mm.ndim != 3 or joints_mm.shape[-1] != 3:
        raise ValueError(f"joints_mm must be [B, J, 3], got {list(joints_mm.shape)}")
    if len(sequence) != len(joints_mm):
        raise ValueError(f"sequence must be one id a frame: got {len(sequence)} ids for {len(joints_mm)} frames")
    ids = sequence.tolist() if isinstance(sequence, Tensor) else list(sequence)
    middle = [i for i in range(len(ids) - 2) if ids[i] == ids[i + 1] == ids[i + 2]]
    if not middle:
        raise ValueError("no sequence has three consecutive frames, so that nothing can tremble")
    return acceleration_mm(joints_mm)[middle].mean().item()


def spearman(a: Sequence[float] | Float[Tensor, " K"], b: Sequence[float] | Float[Tensor, " K"]) -> float:
    """Rank correlation of two lists of numbers, in [-1, 1]; equal numbers share their mean rank (Spearman 1904).

    Raises ValueError for lists of different lengths, fewer than two numbers, NaN, or equal numbers throughout a list.
    """
    a, b = (torch.as_tensor(x, dtype=torch.float64).detach().cpu() for x in (a, b))
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ValueError(f"a and b must be two lists of as many numbers, got {list(a.shape)} and {list(b.shape)}")
    for name, values in (("a", a), ("b", b)):
        if values.isnan().any() or (values == values[0]).all():
            raise ValueError(f"{name} must hold different numbers and no NaN: its ranks are undefined")
    from scipy.stats import spearmanr  # takes half a second to import

    return float(spearmanr(a.numpy(), b.numpy()).statistic)


def gap_closed(base: float, refined: float, oracle: float) -> float:
    """Share of the way from the base model's error to the supervised oracle's that refinement went; negative if it got worse.

    Raises ValueError if the oracle is no better than the base: there is no gap then.
    """
    if not base > oracle:
        raise ValueError(
            f"oracle must be below base: there is no gap between {oracle} and {base}; train the oracle longer"
        )
    return (base - refined) / (base - oracle)
