"""Does the hand's size fit the camera's numbers? A wrong unit or focal length makes hands of giants or dolls.

The frames are tried in other sizes, and the size in which the model explains them best is the template's.
"""

from collections.abc import Callable

from ..frames.crops import Crops, evenly
from ..frames.turn import resized
from ..hand.rig import HandRig
from ..network.known import told_template
from ..network.model import PoseModel
from ..network.predict import predict
from ..refine.confidence import confidence

LOOKS = 10  # frames that are tried
STEP = 1.25  # factor from one size to the next
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
