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
    # the same after a program that swaps red and blue, as OpenCV does with what is not told to be BGR
    "gb": ((1, 2), "G + 256 B"),
    # the bytes at the two ends, as programs write that leave green empty; and the same after a swap
    "br": ((2, 0), "B + 256 R"),
    "rb": ((0, 2), "R + 256 B"),
    # CARLA's depth camera (its reference of sensors): 24 bits, --unit-mm 0.0596 for its 1000 m
    "rgb24": ((0, 1, 2), "R + 256 G + 65536 B"),
    # the same after a swap; CARLA hands out BGRA
    "bgr24": ((2, 1, 0), "B + 256 G + 65536 R"),
}
ENCODINGS = ("depth", *PACKED)
CARRIES = 20  # places where the higher byte changes by one; fewer tell nothing
# share of them where the lower byte jumps the other way: more fit, and fewer do not. Steep surfaces are between
FITS, MISFITS = 0.5, 0.1
PURE = 0.9  # share of the pixels of a picture of hues


def unpacked(colours: UInt8[np.ndarray, "H W C"], encoding: str, path: Path) -> UInt32[np.ndarray, "H W"]:
    """Counts from a colour image. Raises ValueError where its channels speak against the encoding; `path` is named.

    Args:
        colours: 3 or 4 channels.
        encoding: one of `PACKED`.
        path: of the image.
    """
    channels, formula = PACKED[encoding]
    low, says = colours[..., channels[0]], f"{path}: encoding {encoding} is {formula}"
    if colours[..., channels[1]].any() and low.min() == low.max():
        raise ValueError(f"{says}, but {'RGB'[channels[0]]} is {low.min()} everywhere; {_advice(colours)}")
    fit, other = _fit(colours, channels), fitting(colours)
    if fit < MISFITS or (other and not fit >= FITS):  # NaN where nothing tells
        raise ValueError(f"{says}, which does not fit its channels; {_advice(colours)}")
    return _counts(colours, channels)


def refuse_colours(colours: Shaped[np.ndarray, "H W C"], path: Path) -> None:
    """Raise the ValueError for a colour image where depth was expected."""
    if colours.dtype != np.uint8:
        raise ValueError(
            f"{path}: wanted one channel, got shape {colours.shape} of {colours.dtype}; save depth, [H, W], alone"
        )
    if path.suffix.lower() == ".png" and path.read_bytes()[24:25] == b"\x10":  # bits of a channel, in the header
        raise ValueError(
            f"{path}: a colour image of 16 bits, of which 8 can be read; save one channel of it as 16-bit grey PNG or .npy"
        )
    if (colours[..., 0] == colours[..., 1]).all() and (colours[..., 1] == colours[..., 2]).all():
        if colours.shape[2] == 4 and np.ptp(colours[..., 3]):
            raise ValueError(f"{path}: {_of_grey_and_alpha(colours)}")
        raise ValueError(
            f"{path}: an 8-bit grey image saved in colour: depth was probably lost when it was exported; export it as 16-bit "
            "PNG or .npy"
        )
    raise ValueError(f"{path}: a colour image; {_advice(colours)}")


def _of_grey_and_alpha(colours: UInt8[np.ndarray, "H W 4"]) -> str:
    """About an image of two bytes a pixel, which some programs make of 16-bit counts."""
    formulas = {(0, 3): "grey + 256 alpha", (3, 0): "alpha + 256 grey"}
    fits = [formula for channels, formula in formulas.items() if _fit(colours, channels) >= FITS]
    if fits:
        return f"grey with transparency: its two bytes a pixel are a count, {fits[0]}; save that as 16-bit grey PNG or .npy"
    return (
        "grey with transparency, two bytes a pixel: if they are the low and the high byte of a count, save that as 16-bit grey "
        "PNG or .npy; else depth was lost when it was exported"
    )


def fitting(colours: UInt8[np.ndarray, "H W C"]) -> str | None:
    """The encoding that the channels fit; None for a picture, or where nothing tells."""
    fits = {}
    for name, (channels, _) in PACKED.items():
        low = colours[..., channels[0]]
        fit = _fit(colours, channels) if low.min() < low.max() else 0.0
        fits[name] = (fit >= FITS, len(channels), fit)  # a third byte that fits, too, counts
    best = max(fits, key=fits.get)
    return best if fits[best][0] else None


def _fit(colours, channels) -> float:
    """Share of the neighbours whose higher byte differs by one and whose lower byte jumps the other way, a carry; or NaN.

    Of three bytes the upper two tell: the lowest may change by more than half its range from pixel to pixel.
    """
    counts, high, carries = _counts(colours, channels[-2:]).astype(int), colours[..., channels[-1]].astype(int), []
    for axis in (0, 1):
        carries.append(np.abs(np.diff(counts, axis=axis))[np.abs(np.diff(high, axis=axis)) == 1] < 128)
    carries = np.concatenate(carries)
    return float(carries.mean()) if len(carries) >= CARRIES else float("nan")


def _counts(colours, channels):
    return sum(colours[..., channel].astype(np.uint32) << (8 * byte) for byte, channel in enumerate(channels))


def _rainbow(colours) -> bool:
    """Whether nearly all colours are pure hues: one channel full, one empty."""
    seen = colours[..., :3][colours[..., :3].any(-1)]
    pure = (seen.max(-1) >= 250) & (seen.min(-1) <= 5)
    return len(seen) > 0 and pure.mean() > PURE and len(np.unique(seen, axis=0)) > 3 * CARRIES


def _advice(colours) -> str:
    if _rainbow(colours):
        return (
            "it shows depth as hues (as RealSense's colouriser and Record3D's videos do), whose counts are lost: "
            "export depth itself, as 16-bit grey PNG or .npy"
        )
    fits = fitting(colours)
    if fits:
        return f"its channels fit {PACKED[fits][1]}: --encoding {fits} (in Python encoding={fits!r})"
    known = ", ".join(f"{name} ({formula})" for name, (_, formula) in PACKED.items())
    return f"export depth as 16-bit grey PNG, or say with --encoding how it is packed: {known}"
