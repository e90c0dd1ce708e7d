"""Depth images of an Intel RealSense camera into a folder (needs the extra: pip install -e '.[realsense]')."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..support.files import write_json
from ..support.progress import tqdm
from .camera import Camera

PATIENCE_MS = 5000  # how long a frame may take


@dataclass(frozen=True)
class Mode:
    """Of a camera's depth images."""

    width: int = 640  # px
    height: int = 480  # px
    rate: int = 30  # images a second


# is shown an image in mm and the number of those recorded, None before the first; false ends the recording
See = Callable[[np.ndarray, int | None], bool]


def record(
    out: str | Path,
    seconds: float = 20.0,
    mode: Mode = Mode(),
    delay: float = 3.0,
    sight: Callable[[Camera], See] | None = None,
) -> tuple[int, str]:
    """Record depth images out/00000.png and so on as they come, and their camera in out/camera.json.

    Ctrl-C ends the recording early and keeps it.

    Args:
        out: new or empty folder.
        seconds: how long.
        mode: size and rate.
        delay: s before the first image.
        sight: makes of the camera what shows some of the images, three a second.

    Returns:
        The number of images, and the command that refines a model.

    Raises:
        ValueError: a length or size that is not positive, a folder with images, or no package pyrealsense2.
        OSError: no camera, no such mode, or the camera stops answering.
    """
    if not seconds > 0:
        raise ValueError(f"--seconds must be more than 0, got {seconds}")
    out = Path(out)
    if out.is_dir() and any(out.glob("*.png")):
        raise ValueError(f"{out} holds images already; name a new folder, or remove them")
    with opened(mode.width, mode.height, mode.rate) as (pipeline, camera, unit_mm):
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "camera.json", {"camera": camera, "unit_mm": unit_mm, **vars(mode)})
        show = None if sight is None else sight(Camera(**camera))

        def see(counts: np.ndarray, number: int | None) -> bool:
            return show is None or show(counts * np.float32(unit_mm), number)

        for left in range(int(np.ceil(delay)), 0, -1):
            print(f"recording in {left} s: hold one hand towards the camera")
            until = time.perf_counter() + min(1.0, delay)
            while show is not None and time.perf_counter() < until:
                see(depth_counts(pipeline), None)
            time.sleep(max(0.0, until - time.perf_counter()))
        count = _record_frames(pipeline, out, round(seconds * mode.rate), see, max(1, mode.rate // 3))
    return count, f"hrlib refine {out} --out runs/me"


@contextmanager
def opened(width: int = 640, height: int = 480, rate: int = 30) -> Iterator[tuple[object, dict[str, float], float]]:
    """A camera's pipeline, its numbers (fx, fy, cx, cy in px), and millimetres per count; stopped when the block ends.

    Raises:
        ValueError, OSError: as `record`.
    """
    for name, value in (("width", width), ("height", height), ("rate", rate)):
        if not value > 0:
            raise ValueError(f"--{name} must be more than 0, got {value}")
    try:
        import pyrealsense2 as rs
    except ImportError as error:
        raise ValueError(
            f"recording needs the package pyrealsense2 ({error}): pip install -e '.[realsense]' in the repository. "
            "Frames of any other camera can be refined from a folder"
        ) from error

    pipeline, config = rs.pipeline(), rs.config()
    config.enable_stream(rs.stream.depth, width, height, rs.format.z16, rate)
    try:
        profile = pipeline.start(config)
    except RuntimeError as error:
        raise OSError(
            f"no RealSense camera delivers {width}x{height} px at {rate} a second ({error}): plug it in (USB 3), close other "
            "programs that use it, or try --width 640 --height 480 --rate 30"
        ) from error
    try:
        inside = profile.get_stream(rs.stream.depth).as_video_stream_profile().get_intrinsics()
        unit_mm = round(profile.get_device().first_depth_sensor().get_depth_scale() * 1000, 6)
        yield pipeline, {"fx": inside.fx, "fy": inside.fy, "cx": inside.ppx, "cy": inside.ppy}, unit_mm
    finally:
        pipeline.stop()


def depth_counts(pipeline: object) -> np.ndarray:
    """The next image [H, W] of an `opened` camera in its own counts. Raises OSError if none comes."""
    try:
        depth = pipeline.wait_for_frames(PATIENCE_MS).get_depth_frame()
    except RuntimeError as error:
        raise OSError(f"the camera stopped answering ({error})") from error
    return np.asarray(depth.get_data(), np.uint16).copy()


def _record_frames(pipeline, out: Path, wanted: int, see: See, every: int) -> int:
    count = 0
    try:
        for count in tqdm(range(wanted), desc="record", unit="image"):
            try:
                counts = depth_counts(pipeline)
            except OSError as error:
                raise OSError(f"{error} after {count} images; {out} keeps these") from error
            Image.fromarray(counts).save(out / f"{count:05d}.png", compress_level=1)
            if count % every == 0 and not see(counts, count + 1):
                return count + 1
        return wanted
    except KeyboardInterrupt:
        (out / f"{count:05d}.png").unlink(missing_ok=True)  # it may be half written, and would be refused as damaged
        return count
