"""README's moving picture: real frames, what the base model sees in them, and the pose fitted to each.

    python docs/moving_picture.py        (make picture: again after every change of the base model)

Reads the SR305 frames (MIT licence), below HRLIB_DATA_MIRROR or fetched. Writes docs/moving.webp and,
for readers who want no motion, docs/moving.png with one frame. Half a minute on two cores.
"""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from hrlib.companion.example_frames import available_sensors
from hrlib.drawing.mesh import predicted_hands
from hrlib.hand.rig import load_hand
from hrlib.network.checkpoint import load_network
from hrlib.personal.first_look import first_look
from hrlib.personal.stream import crop_chunk
from hrlib.personal.track import tracked
from hrlib.support.files import write_bytes_atomically

HERE = Path(__file__).resolve().parent
PANEL, STRIP, GAP = 300, 34, 6  # px: a panel's side, the strip with its name, between panels
NIGHT, LIGHT = (20, 24, 29), (225, 230, 235)  # RGB: legible beside a white page and a black one
HOLD_MS = 800  # a frame; they are 20 frames of the camera apart, and would flicker if shown faster
LARGEST = 2_000_000  # bytes
TITLES = ("a real depth image", "base model: no real frame seen", "pose fitted to the image, no labels")


@dataclass(frozen=True)
class Row:
    """One frame's three panels."""

    depth: UInt8[np.ndarray, "S S 3"]
    base: UInt8[np.ndarray, "S S 3"]
    fitted: UInt8[np.ndarray, "S S 3"]


def rows() -> list[Row]:
    """All frames in which a hand is found, in their order; none is chosen."""
    frames = available_sensors().get("SR305")
    if frames is None:
        raise SystemExit("the picture shows the SR305 frames, which are not on this computer")
    hand = load_hand()
    net, _ = load_network(hand)
    look = first_look(frames, net, hand, "right")
    net, hand = look.told(net, hand)
    crops, kept, left_out = crop_chunk(list(frames))
    print(f"{len(kept)} of {len(frames)} frames; left out: {left_out or 'none'}; {look}")
    names = [frame.name for frame in kept]
    base, fitted = (tracked(net, hand, crops, names, fit) for fit in (False, True))
    meshes = [predicted_hands(hand, shots.prediction, crops, PANEL) for shots in (base, fitted)]
    depth = [depth_panel(image) for image in crops.image.numpy()]
    return [Row(*parts) for parts in zip(depth, *([dark(mesh) for mesh in model] for model in meshes), strict=True)]


def depth_panel(image) -> UInt8[np.ndarray, "S S 3"]:
    """A crop in grey, near bright, with the contrast of the hand's own depths."""
    covered = image > 0
    low, high = np.percentile(image[covered], (1, 99))
    shade = np.where(covered, 70 + 175 * ((image - low) / max(high - low, 0.05)).clip(0, 1), NIGHT[0])
    large = Image.fromarray(shade.astype(np.uint8)).resize((PANEL, PANEL), Image.Resampling.BILINEAR)
    return dark(np.repeat(np.asarray(large)[..., None], 3, -1), empty=NIGHT[0])


def dark(panel: UInt8[np.ndarray, "S S 3"], empty: int = 255) -> UInt8[np.ndarray, "S S 3"]:
    """The panel with its empty pixels in the page's colour."""
    return np.where((panel == empty).all(-1, keepdims=True), np.uint8(NIGHT), panel)


def page(row: Row) -> Image.Image:
    """The three panels under their names."""
    picture = Image.new("RGB", (3 * PANEL + 2 * GAP, PANEL + STRIP), NIGHT)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    for k, (panel, title) in enumerate(zip((row.depth, row.base, row.fitted), TITLES, strict=True)):
        left = k * (PANEL + GAP)
        picture.paste(Image.fromarray(panel), (left, STRIP))
        draw.text((left + PANEL / 2, STRIP / 2), title, LIGHT, font=font, anchor="mm")
    return picture


def encoded(pages: list[Image.Image], **options) -> bytes:
    buffer = io.BytesIO()
    pages[0].save(buffer, **options)
    return buffer.getvalue()


def main() -> int:
    pages = [page(row) for row in rows()]
    animated = {"format": "WEBP", "save_all": True, "append_images": pages[1:], "duration": HOLD_MS, "loop": 0}
    moving = encoded(pages, **animated, quality=80, method=6)
    still = encoded([pages[len(pages) // 2].quantize(128)], format="PNG", optimize=True)
    if len(moving) > LARGEST:
        raise SystemExit(f"the picture has {len(moving)} bytes, more than {LARGEST}: make PANEL smaller")
    for name, content in {"moving.webp": moving, "moving.png": still}.items():
        write_bytes_atomically(HERE / name, content)
        print(f"docs/{name}: {len(content) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
