"""The hand before a camera, live, in a browser's window: the depth picture and beside it the posed hand.

The page comes from Python's own web server, at this computer's own address alone; its picture is a stream of JPEGs
(multipart/x-mixed-replace), which every browser shows. So no window toolkit is needed, and a computer without a screen
can be looked at through `ssh -L`.
"""

import io
import time
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from urllib.parse import urlsplit

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from ..drawing.mesh import empty_cube, shaded_hands
from ..drawing.style import FINGER_COLOURS
from ..frames.camera import Camera
from ..frames.folder import camera_for
from ..hand.joints import POINT_PARENTS
from ..hand.kinematics import forward_kinematics
from ..support.files import write_json
from .joint_files import JointWriter, joint_files
from .sources import Source
from .tracker import HandSeen

HIGH, STRIP = 360, 34  # px of the picture, and of the line of text below it
AROUND_MM = 220.0  # depth before and behind the hand that the grey values show
SLOW = 0.9  # of the frames/s so far, against what the last frame says
WAIT_S = 2.0  # for the next picture, before a browser is given the last one again
PAPER, INK, GREY, RED = (255, 255, 255), (34, 49, 63), (70, 70, 70), (200, 60, 50)
KEYS = {"r": "record, and stop recording", "q": "end"}
PAGE = """<!doctype html><meta charset="utf-8"><title>hrlib live</title>
<style>body{margin:0;padding:1em;background:#222;color:#ddd;font:16px sans-serif;text-align:center}img{max-width:100%}
button{font:inherit;margin:.5em}</style>
<img src="/stream" alt="the camera's depth and the tracked hand"><p>KEYS</p>
<script>const press = key => fetch("/" + key, {method: "POST"});
addEventListener("keydown", event => { if (/^[rq]$/.test(event.key)) press(event.key) });</script>
"""


class Page:
    """A page at this computer's own address that shows the last picture and says which keys were pressed.

    Args:
        port: 0 takes a free one.
        keys: key -> what it does.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, port: int = 0, keys: Mapping[str, str] = KEYS):
        self.keys = keys
        self._changed, self._jpeg, self._number, self._open, self._keys = Condition(), b"", 0, True, []
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                page.answer(self)

            def do_POST(self):
                page.press(self)

            def log_message(self, *_):
                pass

        try:
            self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise OSError(
                f"port {port} cannot be used ({error.strerror}): another --port, or 0 for a free one"
            ) from error
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_) -> None:
        with self._changed:
            self._open = False
            self._changed.notify_all()
        self.server.shutdown()
        self.server.server_close()

    def show(self, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """The next picture."""
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=85)
        with self._changed:
            self._jpeg, self._number = file.getvalue(), self._number + 1
            self._changed.notify_all()

    def pressed(self) -> list[str]:
        """The keys since the last call."""
        with self._changed:
            keys, self._keys = self._keys, []
        return keys

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """A GET: the page, or the stream of pictures until the page is closed on either side."""
        if request.path == "/":
            keys = (f"<button onclick=\"press('{key}')\">{key}: {what}</button>" for key, what in self.keys.items())
            self._send(request, 200, PAGE.replace("KEYS", " ".join(keys)).encode())
        elif request.path == "/stream":
            request.send_response(200)
            request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
            request.end_headers()
            try:
                self._stream(request.wfile)
            except OSError:  # the browser has gone
                return
        else:
            self._send(request, 404, b"nothing here")

    def _stream(self, file: io.BufferedIOBase) -> None:
        shown = 0
        while True:
            with self._changed:
                if self._open and self._number == shown:
                    self._changed.wait(WAIT_S)
                if not self._open:
                    return
                jpeg, shown = self._jpeg, self._number
            if jpeg:
                head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                file.write(head.encode() + jpeg + b"\r\n")

    def press(self, request: BaseHTTPRequestHandler) -> None:
        """A POST: a key. One that another site's page sends is refused."""
        key, origin = request.path[1:], request.headers.get("Origin")
        if key not in self.keys or (origin is not None and urlsplit(origin).netloc != request.headers.get("Host")):
            self._send(request, 403, b"refused")
            return
        with self._changed:
            self._keys.append(key)
        self._send(request, 200, key.encode())

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, content: bytes) -> None:
        request.send_response(status)
        request.send_header("Content-Type", "text/html; charset=utf-8")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


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
    if browser:
        webbrowser.open(page.address)
    recorder, count, rate = Recorder(out, source.unit_mm), 0, 0.0
    started = before = time.perf_counter()
    try:
        for depth_mm in source.images:
            seen = tracker(depth_mm)
            camera = camera_for(depth_mm.shape, source.camera)
            recorder.add(depth_mm, seen)
            now = time.perf_counter()
            rate = 1 / (now - before) if not rate else SLOW * rate + (1 - SLOW) / max(now - before, 1e-6)
            before, count = now, count + 1
            page.show(picture(depth_mm, camera, seen, rate, recorder.on))
            keys = page.pressed()
            if "r" in keys:
                recorder.toggle(camera, seen.side)
            if "q" in keys:
                break
    finally:
        recorder.stop()
    return count, count / max(time.perf_counter() - started, 1e-6), recorder.folders


def picture(
    depth_mm: Float[np.ndarray, "H W"], camera: Camera, seen: HandSeen, rate: float, recording: bool = False
) -> UInt8[np.ndarray, "394 W2 3"]:
    """A frame with its joints, the posed hand beside it, and a line of text below: RGB."""
    height, width = depth_mm.shape
    scale = HIGH / height
    left = Image.fromarray(_grey(depth_mm, seen)).resize((round(width * scale), HIGH), Image.Resampling.NEAREST)
    draw, font = ImageDraw.Draw(left), ImageFont.load_default(15)
    page = Image.new("RGB", (left.width + HIGH, HIGH + STRIP), PAPER)
    if seen.found:
        xy = (camera.project(seen.joints_mm) + 0.5) * scale
        for child in np.argsort(-seen.joints_mm[1:, 2]) + 1:  # far bones first
            draw.line([*xy[POINT_PARENTS[child]], *xy[child]], FINGER_COLOURS[(child - 1) // 4], 3)
        page.paste(Image.fromarray(_posed(seen)), (left.width, 0))
    page.paste(left, (0, 0))
    draw = ImageDraw.Draw(page)
    text = f"{seen.side} hand, confidence {seen.confidence:.2f}" if seen.found else f"no hand: {seen.why}"
    while draw.textlength(text, font=font) > page.width - 230:
        text = text[:-2].rstrip("…") + "…"
    draw.text((8, HIGH + 8), text, INK, font=font)
    draw.text((page.width - 110, HIGH + 8), f"{rate:.1f} frames/s", INK, font=font)
    if recording:
        draw.ellipse((page.width - 210, HIGH + 11, page.width - 198, HIGH + 23), RED)
        draw.text((page.width - 192, HIGH + 8), "recording", RED, font=font)
    return np.asarray(page)


def _grey(depth_mm: np.ndarray, seen: HandSeen) -> np.ndarray:
    """Depth as RGB: near is bright, and the contrast is spent about the hand."""
    measured = depth_mm > 0
    middle = seen.wrist_mm[2] if seen.found else (np.median(depth_mm[measured]) if measured.any() else 0.0)
    shade = 60 + 160 * ((middle + AROUND_MM - depth_mm) / (2 * AROUND_MM)).clip(0, 1)
    return np.repeat(np.where(measured, shade, 20).astype(np.uint8)[..., None], 3, -1)


def _posed(seen: HandSeen) -> np.ndarray:
    mirror = np.float32([-1 if seen.side == "left" else 1, 1, 1])
    rotations, wrist_mm, centre_mm = (
        torch.from_numpy(part.astype(np.float32))[None]
        for part in (seen.rotations, seen.wrist_mm * mirror, seen.joints_mm.mean(0) * mirror)
    )
    T = forward_kinematics(seen.hand, rotations, wrist_mm)
    return shaded_hands(seen.hand, T, empty_cube(centre_mm), HIGH)[0][:, :: int(mirror[0])]
