"""What the camera sees while `hrlib record` records: its depth with the hand marked, and a line of text, on a page."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from ..frames.camera import Camera
from ..frames.find import LEAST_HAND
from ..frames.finder import find_hand
from .live import enlarged, grey_about
from .live_page import Page, Words

HAND = np.array([1.0, 0.75, 0.35])  # the hand's pixels are tinted so
NEAR_MM, FAR_MM = 300.0, 900.0  # where a hand is best held
KEYS = {"q": "end"}
TITLE, ALT = "hrlib record", "the camera's depth; the hand is tinted"


@dataclass
class Sight:
    """Shows images on a page; `said` is the last one's line of text."""

    page: Page
    camera: Camera
    said: str = ""

    def __call__(self, depth_mm: Float[np.ndarray, "H W"], recorded: int | None) -> bool:
        """Show an image, of which so many are recorded; None before the first. False after q was pressed."""
        self.said, hand = look(depth_mm, self.camera)
        kept = "" if recorded is None else f"{recorded} images"
        text = f"{'get ready; ' if recorded is None else ''}{self.said}"
        self.page.show(picture(depth_mm, hand), Words(text, recording=kept))
        return "q" not in self.page.pressed()


def look(depth_mm: Float[np.ndarray, "H W"], camera: Camera) -> tuple[str, Bool[np.ndarray, "H W"]]:
    """What is to be said of an image, and the hand's pixels in it."""
    found = find_hand(depth_mm, camera, side=False)
    if found.hand < LEAST_HAND or not (hand := found.mask & (depth_mm > 0)).any():
        measured = (depth_mm > 0).mean()
        return f"no hand is seen; {measured:.0%} of the pixels are measured", np.zeros(depth_mm.shape, bool)
    distance = float(np.median(depth_mm[hand]))
    said = f"a hand, {distance:.0f} mm away"
    if found.at_border:
        said += ": the border cuts it, hold it in the middle"
    elif distance < NEAR_MM or distance > FAR_MM:
        said += f": hold it {'farther off' if distance < NEAR_MM else 'nearer'}, at {NEAR_MM:.0f} to {FAR_MM:.0f} mm"
    return said, hand


def picture(depth_mm: Float[np.ndarray, "H W"], hand: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "480 W2 3"]:
    """Depth as grey values about the hand, which is tinted: RGB."""
    measured = depth_mm > 0
    middle = np.median(depth_mm[hand if hand.any() else measured]) if measured.any() else 0.0
    shade = grey_about(depth_mm, middle)
    tinted = np.where(hand[..., None], shade[..., None] * HAND, shade[..., None]).astype(np.uint8)
    return np.asarray(enlarged(tinted))
