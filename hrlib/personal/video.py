"""A tracked sequence to look at: depth, skeleton and posed hand side by side, as MP4 and GIF."""

import errno
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from ..drawing.mesh import predicted_hands, with_skeleton
from ..hand.rig import HandRig
from ..method import to_crop
from ..support.files import naming, printable, whole_files
from ..support.progress import tqdm
from .track import Tracked

PANEL, STRIP, GAP = 240, 44, 8  # px: a panel's side, the strip with the name below, between panels
PAPER, INK, GREY, TITLE = (255, 255, 255), (34, 49, 63), (154, 165, 177), (225, 230, 235)  # RGB; TITLE: on dark panels
GOOD, BAD = (42, 127, 158), (200, 85, 61)  # RGB of the bar of confidence
SURE = 0.3  # confidence from which the bar is GOOD
MP4_RATE, GIF_RATE = 12, 8  # pictures a second
AT_ONCE = 32  # frames whose hands are posed and shaded together
# small, and plays while it loads
X264 = ["-crf", "27", "-preset", "medium", "-threads", "1", "-movflags", "+faststart"]


class NoEncoder(ValueError):
    """The packages that write MP4 are not installed."""


def pictures(shots: Tracked, hand: HandRig, side: str = "right") -> Iterator[UInt8[np.ndarray, "284 736 3"]]:
    """For each tracked frame an RGB picture: depth, joints over it, the posed hand, and its confidence.

    Args:
        shots: the frames.
        hand: poses the hand in the third panel.
        side: "left" turns the mirrored crops back into what the camera saw.
    """
    flip = slice(None, None, -1 if side == "left" else 1)
    for first in range(0, len(shots), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        crops = shots.crops[part]
        meshes = predicted_hands(hand, shots.prediction[part], crops, PANEL)
        points = to_crop(shots.joints_mm[part], crops).numpy()
        for i, mesh in enumerate(meshes):
            depth = _grey(crops.image[i].numpy())
            panels = [panel[:, flip] for panel in (depth, with_skeleton(depth, points[i]), mesh)]
            yield _page(
                panels, ("depth", "tracked", "your hand"), shots.names[first + i], float(shots.confidence[first + i])
            )


def _grey(image: Float[np.ndarray, "120 120"]) -> UInt8[np.ndarray, "240 240 3"]:
    """A crop as RGB, twice as large; near is bright. The contrast is the hand's own."""
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
        colour = INK if k == len(panels) - 1 else TITLE  # the last panel is white
        draw.text((k * (PANEL + GAP) + 8, 5), title, colour, font=small)
    room = 2 * PANEL - 10
    while len(name) > 4 and draw.textlength(name, font=font) > room:
        name = "…" + name[2:]
    draw.text((4, PANEL + 13), name, INK, font=font)
    left, top, length = 2 * (PANEL + GAP), PANEL + 28, PANEL - 6
    draw.text((left, PANEL + 7), f"confidence {confidence:.2f}", INK, font=small)
    draw.rectangle((left, top, left + length, top + 8), GREY)
    draw.rectangle((left, top, left + int(length * min(1.0, confidence)), top + 8), GOOD if confidence > SURE else BAD)
    return np.asarray(page)


def write_mp4(path: Path, frames: Iterable[UInt8[np.ndarray, "H W 3"]], total: int, progress: bool = True) -> None:
    """Write RGB pictures as an MP4 (H.264) that every browser plays, whole or not at all.

    Args:
        path: the file.
        frames: of one even size; they go to the encoder one by one.
        total: how many they are.
        progress: show a bar.

    Raises:
        NoEncoder: the extra `video` is not installed.
        ValueError: there are no frames.
        OSError: the encoder failed, as on a full disk; the old file is kept.
    """
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        program = get_ffmpeg_exe()
    except ImportError as error:
        raise NoEncoder(f"the package {error.name} is not installed; pip install 'hrlib[video]' brings it") from error
    except RuntimeError as error:
        raise NoEncoder(f"imageio-ffmpeg finds no encoder ({error}); pip install 'hrlib[video]' brings it") from error
    if total < 1:
        raise ValueError("a video needs at least one frame, got none")
    frames = iter(tqdm(frames, "video", total, disable=not progress or total < 50))
    first = next(frames)
    size = f"{first.shape[1]}x{first.shape[0]}"
    come = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(MP4_RATE), "-i", "-"]
    go = ["-vcodec", "libx264", "-pix_fmt", "yuv420p", *X264, "-f", "mp4"]
    with whole_files(path) as (file,), naming(path):
        _encode([program, "-y", "-loglevel", "error", *come, *go, file.name], chain([first], frames))


def _encode(command: list[str], frames: Iterable[UInt8[np.ndarray, "H W 3"]]) -> None:
    """Run an encoder on pictures; raises OSError where it fails."""
    with Popen(command, stdin=PIPE, stderr=PIPE) as encoder:
        try:
            with suppress(BrokenPipeError):  # it ended early, as its exit status says
                for picture in frames:
                    encoder.stdin.write(np.ascontiguousarray(picture).data)
            _, said = encoder.communicate()
        except BaseException:
            encoder.kill()
            raise
    if encoder.returncode:
        reason = said.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {encoder.returncode}"]
        raise OSError(errno.EIO, f"the video's encoder failed ({printable(reason[0])})")


def gif_bytes(frames: Sequence[UInt8[np.ndarray, "H W 3"]], width: int = 480) -> bytes:
    """RGB pictures as an animated GIF of one palette, `width` px wide. Raises ValueError for no frames."""
    if not len(frames):
        raise ValueError("a GIF needs at least one frame, got none")
    height = round(width * frames[0].shape[0] / frames[0].shape[1])
    images = [Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS) for frame in frames]
    sample = Image.fromarray(np.concatenate([np.asarray(image) for image in images[:: max(1, len(images) // 8)]]))
    palette = sample.quantize(64)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=1000 // GIF_RATE, loop=0)
    return buffer.getvalue()
