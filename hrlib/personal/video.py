"""A tracked sequence to look at: depth, skeleton and posed hand side by side, as MP4 and GIF."""

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from ..drawing.mesh import predicted_hands, with_skeleton
from ..hand.rig import HandRig
from ..method import to_crop
from .track import Tracked

PANEL, STRIP, GAP = 240, 44, 8  # px: a picture's side, the strip with the name below, between pictures
PAPER, INK, GREY = (255, 255, 255), (34, 49, 63), (154, 165, 177)
GOOD, BAD = (42, 127, 158), (200, 85, 61)


def pictures(
    shots: Tracked, hand: HandRig, side: str = "right", titles: Sequence[str] = ("depth", "tracked", "your hand")
) -> Iterator[np.ndarray]:
    """For each tracked frame an RGB picture uint8 [284, 736, 3]: depth, joints over it, the posed hand, and its confidence.

    side: "left" turns the mirrored crops back into what the camera saw.
    """
    flip = slice(None, None, -1 if side == "left" else 1)
    for first in range(0, len(shots), 32):
        part = slice(first, first + 32)
        crops = shots.crops[part]
        meshes = predicted_hands(hand, shots.prediction[part], crops, PANEL)
        points = to_crop(shots.joints_mm[part], crops).numpy()
        for i, mesh in enumerate(meshes):
            depth = _grey(crops.image[i].numpy())
            panels = [depth, with_skeleton(depth, points[i]), mesh]
            panels = [panel[:, flip] for panel in panels]
            yield _page(panels, titles, shots.names[first + i], float(shots.confidence[first + i]))


def _grey(image: np.ndarray) -> np.ndarray:
    """A crop [120, 120] as RGB, twice as large; near is bright. The contrast is the hand's own."""
    hand = image[image > 0]
    low, high = np.percentile(hand, (1, 99)) if len(hand) else (0.0, 1.0)
    shade = np.where(image > 0, 70 + 175 * ((image - low) / max(high - low, 0.05)).clip(0, 1), 24)
    large = np.kron(shade, np.ones((PANEL // image.shape[0],) * 2))
    return np.repeat(large[..., None], 3, -1).astype(np.uint8)


def _page(panels, titles, name: str, confidence: float) -> np.ndarray:
    width = len(panels) * PANEL + (len(panels) - 1) * GAP
    page = Image.new("RGB", (width, PANEL + STRIP), PAPER)
    draw, font, small = ImageDraw.Draw(page), ImageFont.load_default(15), ImageFont.load_default(13)
    for k, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        page.paste(Image.fromarray(np.ascontiguousarray(panel)), (k * (PANEL + GAP), 0))
        colour = INK if k == len(panels) - 1 else (225, 230, 235)
        draw.text((k * (PANEL + GAP) + 8, 5), title, colour, font=small)
    room = 2 * PANEL - 10
    while len(name) > 4 and draw.textlength(name, font=font) > room:
        name = "…" + name[2:]
    draw.text((4, PANEL + 13), name, INK, font=font)
    left, top, length = 2 * (PANEL + GAP), PANEL + 28, PANEL - 6
    draw.text((left, PANEL + 7), f"confidence {confidence:.2f}", INK, font=small)
    draw.rectangle((left, top, left + length, top + 8), GREY)
    draw.rectangle((left, top, left + int(length * min(1.0, confidence)), top + 8), GOOD if confidence > 0.3 else BAD)
    return np.asarray(page)


def write_mp4(
    path: str | Path, frames: Iterator[np.ndarray], total: int, rate: int = 12, progress: bool = True
) -> None:
    """RGB pictures [H, W, 3] as an MP4 (H.264) that every browser plays; whole or not at all.

    Frames go to the encoder one by one. Raises ValueError for no frames, OSError where it cannot be written.
    """
    import imageio.v2 as imageio

    path = Path(path)
    if total < 1:
        raise ValueError("a video needs at least one frame, got none")
    path.parent.mkdir(parents=True, exist_ok=True)
    options = ["-crf", "27", "-preset", "medium", "-threads", "1", "-movflags", "+faststart"]
    try:
        # a folder of its own: an encoder that is still starting when something fails finds nowhere to write to
        with TemporaryDirectory(prefix=".video-", dir=path.parent, ignore_cleanup_errors=True) as folder:
            partial = Path(folder) / "video.mp4"
            encoder = {"fps": rate, "codec": "libx264", "macro_block_size": 4, "output_params": options}
            with imageio.get_writer(partial, format="FFMPEG", mode="I", **encoder) as writer:
                for picture in tqdm(frames, "video", total, disable=not progress or total < 50):
                    writer.append_data(picture)
            os.replace(partial, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}; free some space") from error


def gif_bytes(frames: Sequence[np.ndarray], rate: int = 8, width: int = 480) -> bytes:
    """RGB pictures as an animated GIF of one palette, `width` px wide. Raises ValueError for no frames."""
    if not len(frames):
        raise ValueError("a GIF needs at least one frame, got none")
    height = round(width * frames[0].shape[0] / frames[0].shape[1])
    images = [Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS) for frame in frames]
    sample = Image.fromarray(np.concatenate([np.asarray(image) for image in images[:: max(1, len(images) // 8)]]))
    palette = sample.quantize(64)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=1000 // rate, loop=0)
    return buffer.getvalue()
