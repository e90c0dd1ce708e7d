"""Does the hand's size fit the camera's numbers? A wrong unit or focal length makes hands of giants or dolls.

The frames are tried in other sizes, and the size in which the model explains them best is the template's.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..frames.crops import Crops, evenly, resized
from ..frames.finder import SURE, find_hand
from ..frames.frame import Frame
from ..hand.rig import HandRig
from ..network.known import told_template
from ..network.model import PoseModel
from ..network.predict import predict
from ..refine.confidence import confidence
from .stream import crops_of

LOOKS = 10  # frames that are tried
STEP = 1.25  # factor from one size to the next
UNIT_LOOKS = 3  # frames that are tried in other units
# factors between the units of files: metres, 1/10, 1/8, 1/5 and 1/4 mm, and what a resized image's focal lengths are off
UNITS = (0.001, 0.01, 0.1, 0.125, 0.2, 0.25, 0.35, 0.5, 0.7, 1.4, 2.0, 2.8, 4.0, 5.0, 8.0, 10.0, 100.0, 1000.0)
MOST_STEPS = 4  # to 0.4 and 2.4 times the size


def apparent_size(net: PoseModel, hand: HandRig, crops: Crops) -> float:
    """How large the hand seems, as a factor of the template: the size that the mean confidence tells.

    Args:
        net, hand: the base model.
        crops: of frames of one hand.
    """
    crops, net = crops[evenly(len(crops), LOOKS)], told_template(net)

    def explained(steps: int) -> float:
        other = resized(crops, STEP**-steps)
        return confidence(predict(net, other), hand, other).mean().item()

    return STEP ** _summit(explained)


def fitting_unit(net: PoseModel, hand: HandRig, frames: Sequence[Frame]) -> float | None:
    """By which factor the unit of frames without a hand is to change for there to be one; None if no factor helps.

    Args:
        net, hand: the base model.
        frames: some of a folder.
    """
    some, best = [frames[i] for i in evenly(len(frames), UNIT_LOOKS).tolist()], None
    for factor in UNITS:
        other = [replace(frame, depth_mm=frame.depth_mm * np.float32(factor)) for frame in some]
        sure = np.median([find_hand(frame.depth_mm, frame.camera, side=False).hand for frame in other])
        if sure > SURE and (best is None or sure > best[0]):
            best = sure, factor, other
    crops = None if best is None else crops_of(best[2])
    return None if crops is None else best[1] / apparent_size(net, hand, crops)


def _summit(height: Callable[[int], float]) -> float:
    """Where a function of whole numbers is highest near 0: uphill, then the top of a parabola through three values."""
    heights = {k: height(k) for k in (-1, 0, 1)}
    best = max(heights, key=heights.__getitem__)
    while 0 < abs(best) < MOST_STEPS:
        beyond = best + (1 if best > 0 else -1)
        heights[beyond] = height(beyond)
        if heights[beyond] <= heights[best]:
            break
        best = beyond
    if not {best - 1, best + 1} <= heights.keys():
        return best
    before, top, after = (heights[best + k] for k in (-1, 0, 1))
    bend = before - 2 * top + after
    return best + (0.5 * (before - after) / bend if bend < 0 else 0.0)
