"""Your own camera, from a folder of depth frames to a personal model: what `hrlib refine` and notebook 09 do, in order."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..frames.camera import Camera
from ..frames.folder import DepthFolder
from ..frames.frame import Frame
from ..frames.masked import MaskedFolder
from ..hand.rig import HandRig
from ..network.posenet import PoseNet
from ..refine import BestSettings, Refined, refine
from ..refine.best import in_runs
from ..refine.saved import save_refined
from ..support.files import write_bytes_atomically, write_json
from .check import Check, as_text, look_over
from .joint_files import joint_files
from .track import Tracked, from_mirror, tracked

VIDEO_FRAMES, GIF_FRAMES, RUN = 240, 32, 16  # at most; in runs of so many frames in a row


@dataclass(frozen=True)
class Personal:
    """What a refinement of a folder leaves in memory; files has what it has written."""

    check: Check
    refined: Refined
    before: Tracked
    after: Tracked
    files: dict[str, Path]


def user_frames(
    folder: str | Path,
    camera: Sequence[float],
    unit_mm: float,
    side: str = "right",
    files: str = "*",
    masks: str | Path | None = None,
    colour: str | Path | None = None,
    limit: int | None = None,
) -> Sequence[Frame]:
    """The frames of a folder, decoded when they are asked for.

    camera: fx, fy, or fx, fy, cx, cy in px; files: a pattern for their names; masks, colour: see `MaskedFolder`; limit: only
    the first so many. Raises ValueError or FileNotFoundError where the folder has no such frames.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--frames must be at least 1, got {limit}")
    frames = DepthFolder(folder, Camera(*camera) if len(camera) == 4 else tuple(camera), unit_mm, side=side)
    frames.names = [name for name in frames.names if Path(name).match(files)][:limit]
    if not frames.names:
        raise ValueError(f"{folder} holds no depth image whose name matches {files!r}")
    return frames if masks is None and colour is None else MaskedFolder(frames, masks, colour)


def checked(
    frames: Sequence[Frame], net: PoseNet, hand: HandRig, out: Path, source: str, progress: bool = True, say=print
) -> Check:
    """The check report of some frames: printed, and written to out/check.json."""
    check = look_over(frames, net, hand, progress)
    say(f"check of {source}:\n{as_text(check)}")
    write_json(out / "check.json", check.record())
    return check


def personal(
    check: Check,
    net: PoseNet,
    hand: HandRig,
    settings,
    out: str | Path,
    side: str = "right",
    record: dict | None = None,
    anyway: bool = False,
    progress: bool = True,
    first: bool = True,
) -> Personal | None:
    """Refine `net` and `hand` on frames that were checked, and write all there is to the folder `out`.

    record: what is to be remembered of how it came about (plain JSON); anyway: in spite of refusals; first: of torchrun's
    processes; the others write nothing and return None. Raises ValueError where the check refuses the frames.
    """
    refuse(check, anyway)
    out = Path(out)
    refined = refine(net, hand, check.crops, settings, out, progress)
    if not first:
        return None
    training = {**(record or {}), "frames": len(check.crops), "side": side, "refine": asdict(settings)}
    save_refined(out, refined, hand, training)
    before = tracked(net, hand, check.crops, check.names)
    # the recipe that fits poses to learn from them leaves fitted poses behind, too: they are the better ones
    after = tracked(refined.net, refined.hand, check.crops, check.names, fit=isinstance(settings, BestSettings))
    return Personal(
        check, refined, before, after, write_all(out, check, refined, before, after, hand, training, progress)
    )


def refuse(check: Check, anyway: bool = False) -> None:
    """ValueError where the check has found reasons to refuse the frames (those with no hand in any of them always)."""
    if check.crops is None or (check.refusals and not anyway):
        hint = "" if check.crops is None else "; --anyway refines all the same"
        raise ValueError(f"refused: {'; '.join(check.refusals)}{hint}")


def write_all(out, check, refined, before, after, template, training, progress=True) -> dict[str, Path]:
    """Joints, videos and the report of a refined model in the folder `out`; name -> file."""
    from .report import write_report
    from .video import gif_bytes, pictures, write_mp4

    side = training["side"]
    files = {name: out / name for name in ("joints.csv", "joints.json", "tracked.mp4", "tracked.gif", "report.html")}
    with joint_files(files["joints.csv"], files["joints.json"]) as joints:
        joints.add(after.names, from_mirror(after.joints_mm, side), after.confidence)
        joints.leave_out(check.left_out)
    some = part(after, in_runs(len(after), VIDEO_FRAMES, RUN))
    write_mp4(files["tracked.mp4"], pictures(some, refined.hand, side), len(some), progress=progress)
    gif = gif_bytes(list(pictures(part(after, in_runs(len(after), GIF_FRAMES, RUN)), refined.hand, side)))
    write_bytes_atomically(files["tracked.gif"], gif)
    write_report(files["report.html"], check, refined, before, after, template, training, gif)
    return files


def part(shots: Tracked, index: torch.Tensor) -> Tracked:
    """Some of the tracked frames."""
    names = [shots.names[i] for i in index.tolist()]
    return Tracked(names, shots.crops[index], shots.prediction[index], shots.joints_mm[index], shots.confidence[index])
