"""Find the hand in frames, one by one or as a recording, and crop it (Sec. 4.1 and 4.2)."""

import numpy as np
from tqdm import tqdm

from .crop import crop_hand
from .crops import Crops, concatenate
from .segment import NoHandFound, check_mask, possible_hands

JUMP_MM = 60.0  # a hand does not get this far from one frame to the next
GAP = 15  # frames, about a second, within which others tell where the hand is


def crop_frames(frames, cube_mm: float = 250.0, progress: bool = True) -> tuple[Crops, list, dict[str, str]]:
    """`crop_found` for frames of which some show a hand. Raises ValueError, with reasons, where not a single one is left."""
    crops, kept, left_out = crop_found(frames, cube_mm, progress)
    if crops is None:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
        raise ValueError(f"no hand in any of the {len(left_out)} frames ({reasons})")
    return crops, kept, left_out


def crop_found(frames, cube_mm: float = 250.0, progress: bool = True) -> tuple[Crops | None, list, dict[str, str]]:
    """Segment and crop frames (anything that yields `Frame`s); those without a usable hand are left out.

    Frames of one folder (by their names) are taken for a recording: where a frame shows no usable hand, or one that is
    suddenly elsewhere, its neighbours tell where to look again (`expected_places`).
    Returns the crops (None where no frame is left), the frames they belong to, and {name: reason} of those left out.
    Frames whose hand pixels are known are not segmented.
    """
    frames = list(frames)
    seen = [crop_frame(f, cube_mm) for f in tqdm(frames, "segment and crop", disable=not progress or len(frames) < 50)]
    centres = np.array([np.full(3, np.nan) if crop is None else crop.centre_mm[0].numpy() for crop, _ in seen])
    centres = centres.reshape(-1, 3)  # of no frames, too
    expected = expected_places(centres, [frame.name.rpartition("/")[0] for frame in frames])
    for i in np.flatnonzero(np.isfinite(expected[:, 0])):
        if frames[i].mask is None:
            again = crop_frame(frames[i], cube_mm, expected[i])
            seen[i] = again if again[0] is not None else seen[i]
    crops = [crop for crop, _ in seen if crop is not None]
    left_out = {frame.name: why for frame, (crop, why) in zip(frames, seen, strict=True) if crop is None}
    kept = [frame for frame, (crop, _) in zip(frames, seen, strict=True) if crop is not None]
    return concatenate(crops) if crops else None, kept, left_out


def crop_frame(frame, cube_mm: float = 250.0, near_mm=None) -> tuple[Crops | None, str]:
    """The crop of one `Frame`, or None and why there is none. near_mm [3]: where to look, and the hand must be there.

    Where either end of an arm may be the hand, that is taken which looks more like one.
    """
    try:
        masks = [frame.mask]
        if frame.mask is None:
            masks = possible_hands(frame.depth_mm, frame.camera, near_mm=near_mm)
            reasons = [check_mask(frame.depth_mm, frame.camera, mask).reason for mask in masks]
            if all(reasons):
                raise NoHandFound(reasons[0])
            masks = [mask for mask, reason in zip(masks, reasons, strict=True) if not reason]
        crop, *others = (crop_hand(frame.depth_mm, frame.camera, mask, cube_mm) for mask in masks)
        if others:
            from .recognise import looks_like_a_hand  # not above: it takes crops

            either = concatenate([crop, *others])
            crop = either[int(looks_like_a_hand(either).argmax())]
    except NoHandFound as error:
        return None, str(error)
    if near_mm is not None and np.linalg.norm(crop.centre_mm[0].numpy() - near_mm) > JUMP_MM:
        return None, "the hand is not where the frames before and after have it"
    return crop, ""


def expected_places(centre_mm: np.ndarray, recordings) -> np.ndarray:
    """Where the hand must be in frames whose own segmentation failed or is not to be believed, [B, 3] mm; NaN elsewhere.

    centre_mm [B, 3]: the hand's centre in each frame, NaN where none was found; recordings: B ids, frames of one recording
    next to each other. Not believed is a centre farther than `JUMP_MM` from the median of the ten frames before and after:
    hands do not jump, but segmentation that takes the arm for the hand does. The place is interpolated from believed
    frames at most `GAP` frames away.
    """
    expected = np.full(centre_mm.shape, np.nan)
    ids = list(recordings)
    starts = [0, *(i for i in range(1, len(ids)) if ids[i] != ids[i - 1]), len(ids)]
    for first, end in zip(starts, starts[1:], strict=False) if ids else ():
        c, index = centre_mm[first:end], np.arange(end - first)
        found = np.isfinite(c[:, 0])
        near = [c[max(0, i - 10) : i + 11] for i in index]
        middle = np.array([np.median(w[np.isfinite(w[:, 0])], 0) if np.isfinite(w).any() else w[0] for w in near])
        believed = found & (np.linalg.norm(np.nan_to_num(c - middle), axis=1) < JUMP_MM)
        if not believed.any():
            continue
        good = index[believed]
        gap = np.abs(index[:, None] - good).min(1)
        between = np.stack([np.interp(index, good, c[believed, k]) for k in range(3)], 1)
        expected[first:end][~believed & (gap <= GAP)] = between[~believed & (gap <= GAP)]
    return expected
