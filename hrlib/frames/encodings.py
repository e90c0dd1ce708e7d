"""Depth that colour images carry: the bytes of a count in two or three channels, by the data sets that do so."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8, UInt32

# name -> channels from the lowest byte to the highest (R is 0), and who packs depth so
PACKED = {
    # NYU Hand Pose, page of the data set: the upper 8 bits are in green, the lower 8 in blue
    "nyu": ((2, 1), "B + 256 G"),
    # HO-3D (read_depth_img of its scripts) and the Stereo Hand Pose Benchmark, STB
    "rg": ((0, 1), "R + 256 G"),
    # Rendered Hand Pose, RHD (view_samples.py): top bits in red, bottom bits in green
    "gr": ((1, 0), "G + 256 R"),
    # CARLA's depth camera (its reference of sensors): 24 bits, --unit-mm 0.0596 for its 1000 m
    "rgb24": ((0, 1, 2), "R + 256 G + 65536 B"),
}
ENCODINGS = ("depth", *PACKED)
CARRIES = 20  # places where the higher byte changes by one; fewer tell nothing
FITS = 0.5  # share of them where the lower byte jumps the other way


def unpacked(colours: UInt8[np.ndarray, "H W C"], encoding: str, path: Path) -> UInt32[np.ndarray, "H W"]:
    """Counts from a colour image. Raises ValueError where its channels speak against the encoding; `path` is named.

    Args:
        colours: 3 or 4 channels.
        encoding: one of `PACKED`.
        path: of the image.
    """
    channels, formula = PACKED[encoding]
    low = colours[..., channels[0]]
    if colours[..., channels[1]].any() and low.min() == low.max():
        channel = "RGB"[channels[0]]
        raise ValueError(
            f"{path}: encoding {encoding} is {formula}, but {channel} is {low.min()} everywhere; {_advice(colours)}"
        )
    if _fit(colours, *channels[-2:]) < FITS and fitting(colours):
        raise ValueError(
            f"{path}: encoding {encoding} is {formula}, which does not fit its channels; {_advice(colours)}"
        )
    return _counts(colours, channels)


def refuse_colours(colours: Shaped[np.ndarray, "H W C"], path: Path) -> None:
    """Raise the ValueError for a colour image where depth was expected."""
    if colours.dtype != np.uint8:
        raise ValueError(
            f"{path}: wanted one channel, got shape {colours.shape} of {colours.dtype}; save depth, [H, W], alone"
        )
    if (colours[..., 0] == colours[..., 1]).all() and (colours[..., 1] == colours[..., 2]).all():
        raise ValueError(
            f"{path}: an 8-bit grey image saved in colour: depth was probably lost when it was exported; export it as 16-bit "
            "PNG or .npy"
        )
    raise ValueError(f"{path}: a colour image; {_advice(colours)}")


def fitting(colours: UInt8[np.ndarray, "H W C"]) -> str | None:
    """The encoding that the channels fit; None for a picture, or where nothing tells."""
    # the upper two bytes of three tell more: the lowest one may change by more than half its range between neighbours
    fits = {name: _fit(colours, *channels[-2:]) for name, (channels, _) in PACKED.items()}
    best = max(reversed(fits), key=fits.get)
    return best if fits[best] >= FITS else None


def _fit(colours, low: int, high: int) -> float:
    """Share of the neighbours whose higher byte differs by one, and whose lower byte jumps the other way: a carry."""
    carries = []
    counts = _counts(colours, (low, high)).astype(int)
    for axis in (0, 1):
        step, by = np.diff(counts, axis=axis), np.diff(colours[..., high].astype(int), axis=axis)
        carries.append(np.abs(step[np.abs(by) == 1]) < 128)
    carries = np.concatenate(carries)
    return float(carries.mean()) if len(carries) >= CARRIES else 0.0


def _counts(colours, channels):
    return sum(colours[..., channel].astype(np.uint32) << (8 * byte) for byte, channel in enumerate(channels))


def _advice(colours) -> str:
    fits = fitting(colours)
    if fits:
        return f"its channels fit {PACKED[fits][1]}: --encoding {fits} (in Python encoding={fits!r})"
    known = ", ".join(f"{name} ({formula})" for name, (_, formula) in PACKED.items())
    return f"export depth as 16-bit grey PNG, or say with --encoding how it is packed: {known}"
