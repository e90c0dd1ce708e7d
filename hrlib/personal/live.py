"""The hand before a camera, live, in a browser's window: the depth picture and beside it the posed hand.

The window's page is that of `live_page`.
"""

import time
import webbrowser
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from ..drawing.mesh import empty_cube, shaded_hands
from ..drawing.style import FINGER_COLOURS
from ..frames.camera import Camera
from ..frames.folder import camera_for
from ..hand.joints import POINT_PARENTS
from ..hand.kinematics import forward_kinematics
from ..support.files import write_json
from .joint_files import JointWriter, joint_files
from .live_page import PANEL, Page, Words
from .sources import Source
from .tracker import HandSeen

HIGH = 480  # px of the picture
AROUND_MM = 220.0  # depth before and behind the hand that the grey values show
TIMED = 30  # frames whose mean the frames/s are
OPEN_S = 20.0  # for a browser to open: a short folder would be over before
BONE_PX = 5  # wide
KEYS = {"r": "record, and stop recording", "q": "end"}
TITLE, ALT = "hrlib live", "the camera's depth with the tracked joints, and beside it the posed hand"


@dataclass
class Recorder:
    """Frames and joints in a new folder below `out` each time, as `hrlib refine` and other programs read them."""

    out: Path
    unit_mm: float
    folders: list[Path] = field(default_factory=list)  # so far
    _open: ExitStack | None = None
    _joints: JointWriter | None = None
    _count: int = 0

    @property
    def on(self) -> bool:
        return self._open is not None

    def toggle(self, camera: Camera, side: str) -> None:
        """Begin a folder, or end it; its joint files appear when it ends."""
        if self.on:
            self.stop()
            return
        started = time.strftime("%Y%m%d-%H%M%S")
        folder = next(f for n in range(1000) if not (f := self.out / (f"{started}-{n}" if n else started)).exists())
        folder.mkdir(parents=True)
        write_json(folder / "camera.json", {"camera": vars(camera), "unit_mm": self.unit_mm})
        self._open, self._count = ExitStack(), 0
        self._joints = self._open.enter_context(
            joint_files(folder / "joints.csv", folder / "joints.json", {"side": side})
        )
        self.folders.append(folder)

    def add(self, depth_mm: Float[np.ndarray, "H W"], seen: HandSeen) -> None:
        """The next frame, if the recorder is on."""
        if not self.on:
            return
        name = f"{self._count:05d}.png"
        counts = np.round(depth_mm / self.unit_mm).clip(0, 65535).astype(np.uint16)
        Image.fromarray(counts).save(self.folders[-1] / name, compress_level=1)
        if seen.found:
            self._joints.add([name], torch.from_numpy(seen.joints_mm)[None], torch.tensor([seen.confidence]))
        else:
            self._joints.leave_out({name: seen.why})
        self._count += 1

    def stop(self) -> None:
        """End the folder, if there is one."""
        if self.on:
            self._open.close()
            self._open = self._joints = None


def live(
    source: Source, tracker: Callable[[np.ndarray], HandSeen], out: Path, page: Page, browser: bool = True
) -> tuple[int, float, list[Path]]:
    """Track a source's images and show them, until they end or q is pressed.

    Args:
        source: the camera.
        tracker: a `Tracker` for the same camera.
        out: where recordings go.
        page: shows the pictures.
        browser: open the page in the user's browser.

    Returns:
        The number of frames, frames/s, and the folders that were recorded.
    """
    if browser and webbrowser.open(page.address):
        page.watched.wait(OPEN_S)
    recorder, count, started = Recorder(out, source.unit_mm), 0, time.perf_counter()
    times = deque(maxlen=TIMED)
    try:
        for depth_mm in source.images:
            seen = tracker(depth_mm)
            camera = camera_for(depth_mm.shape, source.camera)
            recorder.add(depth_mm, seen)
            times.append(time.perf_counter())
            count += 1
            rate = (len(times) - 1) / max(times[-1] - times[0], 1e-6)
            page.show(picture(depth_mm, camera, seen), words(seen, rate, recorder))
            keys = page.pressed()
            if "r" in keys:
                recorder.toggle(camera, seen.side)
            if "q" in keys:
                break
    finally:
        recorder.stop()
    return count, count / max(time.perf_counter() - started, 1e-6), recorder.folders


def words(seen: HandSeen, rate: float, recorder: Recorder) -> Words:
    """What is said of a frame."""
    recording = f"recording into {recorder.folders[-1]}" if recorder.on else ""
    if not seen.found:
        return Words(f"no hand: {seen.why}", None, rate, recording)
    return Words(f"{seen.side} hand", round(seen.confidence, 4), rate, recording, "; ".join(seen.doubts))


def picture(depth_mm: Float[np.ndarray, "H W"], camera: Camera, seen: HandSeen) -> UInt8[np.ndarray, "480 W2 3"]:
    """A frame with its joints, and the posed hand beside it: RGB."""
    left, scale = enlarged(_grey(depth_mm, seen)).convert("RGB"), HIGH / len(depth_mm)
    page = Image.new("RGB", (left.width + HIGH, HIGH), PANEL)
    if seen.found:
        _draw_bones(left, (camera.project(seen.joints_mm) + 0.5) * scale, seen.joints_mm[:, 2])
        page.paste(Image.fromarray(_posed(seen)), (left.width, 0))
    page.paste(left, (0, 0))
    return np.asarray(page)


def _draw_bones(image: Image.Image, xy: Float[np.ndarray, "21 2"], depth_mm: Float[np.ndarray, "21"]) -> None:
    """Bones and joints, far ones first; at twice the size, which is halved again, for smooth edges."""
    low = np.floor(xy.min(0) - 2 * BONE_PX).clip(0).astype(int)
    high = np.minimum(np.ceil(xy.max(0) + 2 * BONE_PX), image.size).astype(int)
    if (high <= low).any():  # the joints lie outside the image
        return
    box = (*low.tolist(), *high.tolist())
    part, at = image.crop(box), 2 * (xy - low)
    part = part.resize((2 * part.width, 2 * part.height), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(part)
    for child in np.argsort(-depth_mm[1:]) + 1:
        colour = FINGER_COLOURS[(child - 1) // 4]
        draw.line([*at[POINT_PARENTS[child]], *at[child]], colour, 2 * BONE_PX)
        draw.circle(tuple(at[child]), 1.6 * BONE_PX, colour)
    image.paste(part.reduce(2), box[:2])


def _grey(depth_mm: np.ndarray, seen: HandSeen) -> np.ndarray:
    measured = depth_mm > 0
    middle = seen.wrist_mm[2] if seen.found else (np.median(depth_mm[measured]) if measured.any() else 0.0)
    return grey_about(depth_mm, middle).astype(np.uint8)


def grey_about(depth_mm: Float[np.ndarray, "H W"], middle_mm: float | np.floating) -> Float[np.ndarray, "H W"]:
    """Depth as grey values up to 255: near is bright, and the contrast is spent about one depth."""
    shade = 60 + 160 * ((middle_mm + AROUND_MM - depth_mm) / (2 * AROUND_MM)).clip(0, 1)
    return np.where(depth_mm > 0, shade, 20)


def enlarged(pixels: UInt8[np.ndarray, "H W *channels"]) -> Image.Image:
    """A picture as high as the page shows it."""
    height, width = pixels.shape[:2]
    return Image.fromarray(pixels).resize((round(width * HIGH / height), HIGH), Image.Resampling.NEAREST)


def _posed(seen: HandSeen) -> np.ndarray:
    mirror = np.float32([-1 if seen.side == "left" else 1, 1, 1])
    rotations, wrist_mm, centre_mm = (
        torch.from_numpy(part.astype(np.float32))[None]
        for part in (seen.rotations, seen.wrist_mm * mirror, seen.joints_mm.mean(0) * mirror)
    )
    T = forward_kinematics(seen.hand, rotations, wrist_mm)
    return shaded_hands(seen.hand, T, empty_cube(centre_mm), HIGH, PANEL)[0][:, :: int(mirror[0])]
