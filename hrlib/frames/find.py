"""Find the hand in single frames or in a recording, and crop it (Sec. 4.1 and 4.2)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from ..support.progress import tqdm
from .crop import crop_hand
from .crops import Crops, concatenate
from .finder import SURE, Found, find_hand
from .frame import Frame
from .recognise import looks_like_a_hand
from .segment import HAND_ELSEWHERE, NoHandFound, check_mask, possible_hands

CUBE_MM = 250.0  # side of the crop's cube, which the networks have learned
JUMP_MM = 60.0  # a hand moves less from one frame to the next
MEDIAN_FRAMES = 10  # before and after a frame; the hand is near the median of its places in them
LEAST_HAND = 0.5  # probability from which what the finder sees is taken for a hand
GAP = 15  # frames, about half a second, within which others tell where the hand is

Place = Float[np.ndarray, "3"] | None


def crop_frames(frames: Iterable[Frame], progress: bool = True) -> tuple[Crops, list[Frame], dict[str, str]]:
    """`crop_found`, or ValueError with reasons if no frame has a usable hand."""
    crops, kept, left_out = crop_found(frames, progress=progress)
    if crops is None:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
        raise ValueError(f"no hand in any of the {len(left_out)} frames ({reasons})")
    return crops, kept, left_out


def crop_found(
    frames: Iterable[Frame], cube_mm: float = CUBE_MM, progress: bool = True
) -> tuple[Crops | None, list[Frame], dict[str, str]]:
    """Find the hand in frames and crop it; leave out those without a usable hand. A known mask is taken as it is.

    Frames of one folder (by their names) are a recording. A frame without a usable hand, or with one that is suddenly
    elsewhere, is searched again where its neighbours have the hand (`expected_places`).
    Returns the crops (None without any), their frames, and {name: reason} of the frames left out.
    """
    frames = list(frames)
    bar = tqdm(frames, desc="find and crop", disable=not progress or len(frames) < 50)
    seen = [crop_frame(frame, cube_mm) for frame in bar]
    centres = [np.full(3, np.nan) if crop is None else crop.centre_mm[0].numpy() for crop, _ in seen]
    folders = [frame.name.rpartition("/")[0] for frame in frames]
    expected = expected_places(np.reshape(centres, (-1, 3)), folders)
    again = [i for i in np.flatnonzero(np.isfinite(expected[:, 0])) if frames[i].mask is None]
    for i in again:
        second = crop_frame(frames[i], cube_mm, expected[i])
        seen[i] = second if second[0] is not None else seen[i]
    crops = [crop for crop, _ in seen if crop is not None]
    left_out = {frame.name: why for frame, (crop, why) in zip(frames, seen, strict=True) if crop is None}
    kept = [frame for frame, (crop, _) in zip(frames, seen, strict=True) if crop is not None]
    return concatenate(crops) if crops else None, kept, left_out


def crop_frame(frame: Frame, cube_mm: float = CUBE_MM, near_mm: Place = None) -> tuple[Crops | None, str]:
    """The crop of one frame, or None and the reason.

    The finder is asked first. Where it sees no hand, what is nearest is segmented by its geometry: hands before nothing are
    found so, too, and of two ends of an arm, the one that looks more like a hand is taken.

    near_mm: expected centre of the hand in the camera frame; a hand elsewhere is refused.
    """
    found = find_hand(frame.depth_mm, frame.camera, near_mm, side=False) if frame.mask is None else None
    return _crop_found(frame, cube_mm, near_mm, found)


def crop_where(frame: Frame, near_mm: Float[np.ndarray, "3"]) -> Crops | None:
    """The crop of a hand that surely is where it was a moment ago, without a search of the whole frame; None if unsure."""
    found = find_hand(frame.depth_mm, frame.camera, near_mm, side=False)
    return _crop_found(frame, CUBE_MM, near_mm, found)[0] if found.hand > SURE else None


def _crop_found(frame: Frame, cube_mm: float, near_mm: Place, found: Found | None) -> tuple[Crops | None, str]:
    try:
        masks, upright = ([frame.mask], 0.0) if found is None else _plausible_masks(frame, near_mm, found)
        crops = concatenate([crop_hand(frame.depth_mm, frame.camera, mask, cube_mm) for mask in masks])
    except NoHandFound as error:
        return None, str(error)
    crop = crops[looks_like_a_hand(crops.image).argmax()] if len(crops) > 1 else crops
    crop = replace(crop, upright=crop.upright + upright)
    if near_mm is not None and np.linalg.norm(crop.centre_mm[0].numpy() - near_mm) > JUMP_MM:
        return None, HAND_ELSEWHERE
    return crop, ""


def _plausible_masks(frame, near_mm, found):
    """Masks of what may be the hand, and by how much the picture is to be turned (`Found.upright`)."""
    if found.hand >= LEAST_HAND and not check_mask(frame.depth_mm, frame.camera, found.mask).reason:
        return [found.mask], found.upright
    masks = possible_hands(frame.depth_mm, frame.camera, near_mm=near_mm)
    reasons = [check_mask(frame.depth_mm, frame.camera, mask).reason for mask in masks]
    if all(reasons):
        raise NoHandFound(reasons[0])
    return [mask for mask, reason in zip(masks, reasons, strict=True) if not reason], 0.0


def expected_places(centre_mm: Float[np.ndarray, "B 3"], recordings: Sequence[str]) -> Float[np.ndarray, "B 3"]:
    """Where the hand must be in frames where none was found or in an implausible place, mm; NaN for all other frames.

    A centre is implausible if it is farther than `JUMP_MM` from the median of its neighbours: hands do not jump, but
    an arm or a thing is sometimes taken for one. Places are interpolated from plausible frames at most `GAP` away.

    Args:
        centre_mm: the hand's centre in each frame; NaN where none was found.
        recordings: name of each frame's recording; frames of one recording follow each other.
    """
    starts = [i for i in range(1, len(recordings)) if recordings[i] != recordings[i - 1]]
    return np.concatenate([_expected_in_recording(centres) for centres in np.split(centre_mm, starts)])


def _expected_in_recording(centre_mm):
    expected, index = np.full(centre_mm.shape, np.nan), np.arange(len(centre_mm))
    seen = index[np.isfinite(centre_mm[:, 0])]
    windows = [centre_mm[max(0, i - MEDIAN_FRAMES) : i + MEDIAN_FRAMES + 1] for i in seen]
    jump_mm = [np.linalg.norm(centre_mm[i] - np.nanmedian(w, 0)) for i, w in zip(seen, windows, strict=True)]
    good = seen[np.array(jump_mm) < JUMP_MM]
    if len(good):
        missing = np.setdiff1d(index, good)
        missing = missing[np.abs(missing[:, None] - good).min(1) <= GAP]
        expected[missing] = np.stack([np.interp(missing, good, centre_mm[good, k]) for k in range(3)], 1)
    return expected
