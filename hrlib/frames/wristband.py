"""The paper's way to remove the forearm (Sec. 4.2): the user wears a dark wristband, which a colour image shows."""

import numpy as np
from jaxtyping import Bool, Real, UInt8
from scipy import ndimage

from .camera import Camera
from .segment import NoHandFound, segment_hand

DARK = 70  # of 255: brightest channel of a wristband's pixel, at most; skin is far above
BAND_MM2 = 250.0  # smallest area of a wristband; less is speckle
REACH_MM = 250.0  # the arm is searched up to this far behind the hand's median depth


def cut_at_wristband(
    depth_mm: Real[np.ndarray, "H W"], camera: Camera, colour: UInt8[np.ndarray, "H W 3"]
) -> Bool[np.ndarray, "H W"]:
    """Mask of the hand up to the wristband.

    Dark pixels of the aligned colour image cut the nearest object into pieces. The hand is the piece with most of the pixels
    of `segment_hand`, and any other piece that lies mostly in `segment_hand` and apart from the band: a finger that a
    sensor's shadow cuts off. Raises NoHandFound if there is no hand or no dark band, ValueError for images of different sizes.
    """
    if colour.shape != (*depth_mm.shape, 3):
        raise ValueError(f"colour must be {[*depth_mm.shape, 3]}, as the depth image is, got {list(colour.shape)}")
    guess = segment_hand(depth_mm, camera)
    middle = np.median(depth_mm[guess])
    near = (depth_mm > 0) & (depth_mm < middle + REACH_MM)
    # beyond the rows and columns of what is near, there is nothing to cut
    rows, columns = (np.flatnonzero(near.any(axis)) for axis in (1, 0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    near, guess = near[window], guess[window]
    band = ndimage.binary_opening(near & (colour[window].max(-1) < DARK))
    if (depth_mm[window][band] ** 2).sum() / (camera.fx * camera.fy) < BAND_MM2:
        raise NoHandFound(
            "no dark wristband on what is nearest to the camera: wear one, or leave the colour images out"
        )
    pieces, count = ndimage.label(near & ~ndimage.binary_dilation(band, np.ones((3, 3))))
    if not count:
        raise NoHandFound("everything near the camera is dark: the colour image is too dark to show a wristband")
    guessed, whole = (np.bincount(labels, minlength=count + 1) for labels in (pieces[guess], pieces.ravel()))
    guessed[0] = 0
    hand = guessed > whole / 2
    hand[pieces[ndimage.binary_dilation(band, np.ones((5, 5)))]] = False
    hand[guessed.argmax()] = True
    mask = np.zeros(depth_mm.shape, bool)
    mask[window] = hand[pieces]
    return mask


def mask_at_wristband(
    depth_mm: Real[np.ndarray, "H W"], camera: Camera, colour: UInt8[np.ndarray, "H W 3"]
) -> Bool[np.ndarray, "H W"]:
    """`cut_at_wristband`, or an empty mask of a frame without hand or band, which is then left out."""
    try:
        return cut_at_wristband(depth_mm, camera, colour)
    except NoHandFound:
        return np.zeros(depth_mm.shape, bool)
