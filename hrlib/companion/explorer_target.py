"""What the hand explorer compares with and fits to: frames around the origin, the fit's steps, and the loss along a slider."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..drawing import mesh
from ..drawing.style import ACCENT, GOOD
from ..frames.crops import Crops
from ..frames.find import crop_frame
from ..frames.folder import DepthFolder
from ..frames.frame import Frame
from ..hand.named_poses import ANGLES, VIEW_DEG, named, pose
from ..hand.rig import HandRig
from ..method import SIZE, PipelineSettings, evaluate_step, splat_target, to_pixels
from ..network.checkpoint import load_network
from ..network.model import PoseModel
from ..network.posenet import Prediction
from ..network.predict import predict
from ..refine.gauss_newton import FitSettings, fitted_poses
from ..render import splat_depth
from ..synthetic.people import USERS
from .example_frames import SENSORS, sensor_frames, simulated_examples

CUBE_MM = 250.0
# of the middle finger's base, from the cube's middle: plain words, and the range, +-
PLACE_MM = {"x": ("left / right", 80), "y": ("up / down", 80), "z": ("near / far", 80)}
SIMULATED = "simulated"
EXAMPLES = (*SENSORS, SIMULATED)
SAMPLES = 33  # of the loss along a slider
STEPS = FitSettings(smooth=0.0)  # one frame has no movement


@dataclass(frozen=True)
class Curve:
    """The loss of Eq. 1 along a slider, or along the steps of a fit."""

    label: str  # what runs along
    at: Float[Tensor, " S"]
    loss: Float[Tensor, " S"]


def empty_cube() -> Crops:
    """A cube around the origin of the camera's frame, in which nothing was measured."""
    return mesh.empty_cube(torch.zeros(1, 3), CUBE_MM)


def prediction_of(values: Mapping[str, float]) -> Prediction:
    """One pose, from degrees by the names of `ANGLES` and `VIEW_DEG` and mm by those of `PLACE_MM`."""
    angles, view = ({name: values[name] for name in names if name in values} for names in (ANGLES, VIEW_DEG))
    rotations = pose(angles, view, within_limits=False).float()
    return Prediction(rotations, rotations.new_tensor([[values.get(name, 0.0) for name in PLACE_MM]]) / CUBE_MM)


def values_of(prediction: Prediction) -> dict[str, float]:
    """The inverse of `prediction_of`, of a prediction with an offset."""
    angles_deg, view_deg = named(prediction.rotations)
    return angles_deg | view_deg | dict(zip(PLACE_MM, (prediction.offset[0] * CUBE_MM).tolist(), strict=True))


# ---- targets


@torch.no_grad()
def pose_target(hand: HandRig, values: Mapping[str, float]) -> Crops:
    """The points of a posed hand that are seen; their splat image is that of the whole cloud."""
    step = evaluate_step(prediction_of(values), hand, empty_cube(), target=torch.zeros(1, *SIZE))
    _, winner = splat_depth(to_pixels(step.cloud), PipelineSettings().radius_px, SIZE, return_winners=True)
    seen = winner[winner >= 0].unique().long()
    return Crops(step.rendered, step.cloud[:, seen], torch.zeros(1, 3), torch.tensor([len(seen)]), CUBE_MM)


def frame_target(frame: Frame | Crops) -> Crops:
    """The hand of a depth frame, its cube moved around the origin.

    Raises:
        ValueError: there is no hand in the frame, or there are several crops, or of another size.
    """
    crop, why = (frame, "") if isinstance(frame, Crops) else crop_frame(frame, CUBE_MM)
    if crop is None:
        raise ValueError(f"{frame.name}: {why}")
    if len(crop) != 1 or crop.cube_mm != CUBE_MM:
        raise ValueError(f"target must be one crop of {CUBE_MM:g} mm, got {len(crop)} of {crop.cube_mm:g} mm")
    return replace(crop, centre_mm=torch.zeros_like(crop.centre_mm))


def read_target(path: str, focal_px: str, unit_mm: str, number: int = 0) -> Crops:
    """The hand of a depth image, or of one of a folder's, as a user types it.

    Args:
        path: an image, or a folder of them.
        focal_px: fx and fy in px; empty: as the recorder says.
        unit_mm: millimetres a count; empty: as the recorder says, or 1.
        number: of the image in the folder.

    Raises:
        OSError: the path is nothing that can be read.
        ValueError: no numbers, no depth images, or no hand in the one that is meant; the message is a sentence to show.
    """
    if not path.strip():
        raise ValueError("type the path of a depth image or of a folder of them")
    try:
        focal, unit = tuple(float(text) for text in focal_px.replace(",", " ").split()), unit_mm.strip()
        unit = float(unit) if unit else None
    except ValueError:
        raise ValueError(f"fx, fy and mm a count must be numbers, got {focal_px!r} and {unit_mm!r}") from None
    frames = DepthFolder(Path(path.strip()).expanduser(), focal or None, unit)
    if not 0 <= number < len(frames):
        raise ValueError(f"{path} holds {len(frames)} depth images: number them from 0 to {len(frames) - 1}")
    return frame_target(frames[number])


def example_target(name: str, template: HandRig) -> Crops:
    """The first usable hand of an example, one of `EXAMPLES`.

    Raises:
        FileNotFoundError: its data set is not on this computer; says what to do.
    """
    if name == SIMULATED:
        return frame_target(simulated_examples(template, 1, USERS["C"]).crops)
    frames = sensor_frames(name)
    return frame_target(frames[len(frames) // 2])


# ---- the fit, and the loss


def predicted(template: HandRig, target: Crops) -> Prediction:
    """What the shipped base model sees in the frame."""
    return predict(_network(template), target)


@cache
def _network(template: HandRig) -> PoseModel:
    return load_network(template)[0]


def fit_steps(
    hand: HandRig, target: Crops, start: Prediction, settings: FitSettings = STEPS
) -> Iterator[tuple[int, Prediction]]:
    """Number and pose of each step of `fitted_poses`: a fit has no memory, so that k steps are the first k of more."""
    for last in range(1, settings.steps + settings.more_steps + 1):
        first = min(last, settings.steps)
        counts = replace(settings, steps=first, more_steps=last - first)
        yield last, fitted_poses(hand, target, start, counts, progress=False).prediction


@torch.no_grad()
def loss_along(
    hand: HandRig, target: Crops, values: Mapping[str, float], name: str, ends: tuple[float, float]
) -> Curve:
    """Eq. 1 as one value (see `prediction_of`) goes from one end to the other and the others stay."""
    at = torch.linspace(*ends, SAMPLES)
    poses = [prediction_of({**values, name: value}) for value in at.tolist()]
    poses = Prediction(torch.cat([p.rotations for p in poses]), torch.cat([p.offset for p in poses]))
    image = splat_target(target).expand(SAMPLES, -1, -1)
    step = evaluate_step(poses, hand, target[[0] * SAMPLES], target=image)
    return Curve(name, at, step.loss)


def drawn(curve: Curve, now: float, words: str, width: int = 310, height: int = 56) -> str:
    """The curve, from its lowest to its highest loss, as SVG in the page's own colours; a mark where the slider is."""
    left, edge, low, high = 36, 6, curve.loss.min().item(), curve.loss.max().item()
    span, rise = (curve.at[-1] - curve.at[0]).item() or 1.0, (high - low) or 1.0
    x = left + (curve.at - curve.at[0]) / span * (width - left - edge)
    y = height - edge - (curve.loss - low) / rise * (height - 2 * edge)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    mark = x[(curve.at - now).abs().argmin()].item()
    title = f"loss along <b>{words}</b>, lowest at {curve.at[curve.loss.argmin()].item():.0f}"
    return f"""\
<div style="line-height: 18px; font-size: 12px; white-space: nowrap">{title}</div>
<svg width="{width}" height="{height}" role="img" aria-label="loss curve" fill="none" font-size="10" style="display: block">
<path d="M0 {height - 0.5}H{width}" stroke="currentColor" opacity="0.4"/>
<polyline points="{line}" stroke="{GOOD}" stroke-width="2.5"/>
<path d="M{mark:.1f} 0V{height}" stroke="{ACCENT}" stroke-width="2"/>
<text x="2" y="10" fill="currentColor">{high:.3f}</text>
<text x="2" y="{height - 4}" fill="currentColor">{low:.3f}</text></svg>"""
