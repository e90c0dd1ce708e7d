"""The paper's way to cut off the forearm (Sec. 4.2): the hand wears a dark wristband, and a colour image shows where."""

import numpy as np
from scipy import ndimage

from .camera import Camera
from .segment import NoHandFound, segment_hand

DARK = 70  # of 255, in the brightest channel: skin is far above
BAND_MM2 = 250.0  # of a band that is no speckle
REACH_MM = 250.0  # how far behind the hand's middle its arm is searched


def cut_at_wristband(depth_mm: np.ndarray, camera: Camera, colour: np.ndarray, dark: int = DARK) -> np.ndarray:
    """Depth [H, W] mm and the aligned colour image [H, W, 3] uint8 -> mask [H, W] bool of the hand before the wristband.

    The dark pixels cut what is nearest to the camera into pieces; the hand is the piece that `segment_hand` means.
    Raises NoHandFound where there is no hand or no dark band, ValueError for images of different sizes.
    """
    if colour.shape != (*depth_mm.shape, 3):
        raise ValueError(f"colour must be {[*depth_mm.shape, 3]}, as the depth image is, got {list(colour.shape)}")
    guess = segment_hand(depth_mm, camera)
    middle = np.median(depth_mm[guess])
    near = (depth_mm > 0) & (depth_mm < middle + REACH_MM)
    band = ndimage.binary_opening(near & (colour.max(-1) < dark))
    if (depth_mm[band] ** 2).sum() / (camera.fx * camera.fy) < BAND_MM2:
        raise NoHandFound(
            "no dark wristband on what is nearest to the camera: wear one, or leave the colour images out"
        )
    pieces, count = ndimage.label(near & ~ndimage.binary_dilation(band, np.ones((3, 3))))
    if not count:
        raise NoHandFound("everything near the camera is dark: the colour image is too dark to show a wristband")
    share = np.bincount(pieces[guess], minlength=count + 1)
    share[0] = 0
    return pieces == share.argmax()
