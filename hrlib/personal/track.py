"""A model applied to frames as they come: a few at a time are decoded, segmented, cropped and predicted, then forgotten."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float, Int
from torch import Tensor

from ..frames.crops import Crops
from ..frames.frame import Frame
from ..hand.rig import HandRig
from ..method import predicted_joints
from ..network.model import PoseModel
from ..network.posenet import Prediction
from ..network.predict import predict, predict_turned
from ..refine.confidence import confidence
from ..refine.gauss_newton import FitSettings, fitted_poses
from .stream import CHUNK, crop_chunk, over_chunks


@dataclass(frozen=True)
class Tracked:
    """B frames in a row as the model sees them: left hands are mirrored, and `from_mirror` brings points back."""

    names: list[str]
    crops: Crops
    prediction: Prediction
    joints_mm: Float[Tensor, "B 21 3"]  # mm, camera frame
    confidence: Float[Tensor, " B"]  # in [0, 1]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Int[Tensor, " K"]) -> "Tracked":
        names = [self.names[i] for i in index.tolist()]
        parts = (self.crops, self.prediction, self.joints_mm, self.confidence)
        return Tracked(names, *(part[index] for part in parts))


def tracked(
    net: PoseModel,
    hand: HandRig,
    crops: Crops,
    names: Sequence[str],
    fit: bool | FitSettings = False,
    quick: bool = False,
) -> Tracked:
    """The hand in each of the crops.

    Args:
        net, hand: the model.
        crops: of the frames, in their order.
        names: of the frames.
        fit: also fit each predicted pose to its frame (`fitted_poses`), by usual settings or these.
        quick: see each frame once, not turned.
    """
    prediction, surprised = (predict if quick else predict_turned)(net, crops), None
    if fit:
        fits = fitted_poses(hand, crops, prediction, fit if isinstance(fit, FitSettings) else FitSettings())
        prediction, surprised, joints_mm = fits.prediction, fits.loss, fits.joints_mm
    else:
        joints_mm = predicted_joints(prediction, hand, crops)
    sure = confidence(prediction, hand, crops, surprised)
    return Tracked(list(names), crops, prediction, joints_mm, sure)


def track(
    net: PoseModel, hand: HandRig, frames: Sequence[Frame], chunk: int = CHUNK, fit: bool = False, processes: int = 1
) -> Iterator[tuple[Tracked | None, dict[str, str]]]:
    """The hand in each frame, `chunk` frames in memory at a time, and the reason for each frame left out.

    >>> from hrlib.frames.frame import Frame
    >>> hand = hrlib.load_hand()
    >>> network, _ = hrlib.load_network(hand)
    >>> for shots, left_out in hrlib.track(network, hand, [Frame("00001.png", depth_mm, camera)]):
    ...     print(shots.names, shots.joints_mm.shape, left_out)
    ['00001.png'] torch.Size([1, 21, 3]) {}

    processes: see `stream.over_chunks`.
    """
    for (shots, left_out), unreadable in over_chunks(partial(_tracked_chunk, net, hand, fit), frames, processes, chunk):
        yield shots, unreadable | left_out


def _tracked_chunk(
    net: PoseModel, hand: HandRig, fit: bool, frames: list[Frame]
) -> tuple[Tracked | None, dict[str, str]]:
    crops, kept, left_out = crop_chunk(frames)
    return None if crops is None else tracked(net, hand, crops, [frame.name for frame in kept], fit), left_out


def from_mirror(points: Float[Tensor, "*batch 3"], side: str) -> Float[Tensor, "*batch 3"]:
    """Points as the camera saw them: those of a left hand (side "left") were mirrored when its frames were read."""
    return points * points.new_tensor([-1.0, 1.0, 1.0]) if side == "left" else points
