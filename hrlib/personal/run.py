"""From a folder of depth frames to a personal model: what `hrlib refine` and notebook 09 do, in the order of its functions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..frames.frame import Frame
from ..hand.rig import HandRig
from ..network.model import PoseModel
from ..refine import BestSettings, PaperSettings, refine
from ..refine.best import in_runs
from ..refine.saved import save_refined
from ..support.files import write_bytes_atomically, write_json
from ..support.parallel import first_process
from .check import Check, as_text, look_over
from .doubt import Evidence
from .joint_files import joint_files
from .result import PersonalResult
from .track import from_mirror, tracked

VIDEO_FRAMES, GIF_FRAMES = 240, 32  # at most, of a long recording
RUN = 16  # frames in a row in a video of a long recording: movements are seen, about a second each


@dataclass(frozen=True)
class RunOptions:
    """How a refinement is run, beside the recipe's settings."""

    side: str = "right"  # which hand the frames show, "right" or "left"
    record: dict = field(default_factory=dict)  # plain JSON that the model remembers, such as the recipe's name
    anyway: bool = False  # refine frames that the check refuses
    progress: bool = True  # show bars
    processes: int = 1  # that share the finding of the hand; see `stream.over_chunks`
    evidence: Evidence | None = None  # of a first look at the frames, if there was one


def checked(
    frames: Sequence[Frame], net: PoseModel, hand: HandRig, out: Path, source: str, options: RunOptions = RunOptions()
) -> Check:
    """Check frames, print the report and write it to out/check.json; of torchrun's processes the first one tells.

    Args:
        frames: of one hand.
        net, hand: the base model.
        out: folder for the file.
        source: what the report calls the frames.
        options: bars, processes and evidence.
    """
    check = look_over(frames, net, hand, options.progress and first_process(), options.processes, options.evidence)
    if first_process():
        print(f"check of {source}:\n{as_text(check)}")
        write_json(out / "check.json", check.record())
    return check


def refine_checked(
    check: Check,
    net: PoseModel,
    hand: HandRig,
    settings: PaperSettings | BestSettings,
    out: Path,
    options: RunOptions = RunOptions(),
) -> PersonalResult | None:
    """Refine a copy of `net` and `hand` on checked frames, and write model, hand, joints, videos and report.

    Args:
        check: of the frames, by `checked`.
        net, hand: the model to begin with.
        settings: of the recipe, which their class says.
        out: folder for all files.
        options: see `RunOptions`.

    Returns:
        What was found; None in all of torchrun's processes but the first, which alone writes.

    Raises:
        ValueError: the check refuses the frames.
    """
    refuse(check, options.anyway)
    progress = options.progress and first_process()
    refined = refine(net, hand, check.crops, settings, out, progress)
    if not first_process():
        return None
    training = {**options.record, "frames": len(check.crops), "side": options.side, "refine": asdict(settings)}
    save_refined(out, refined, hand, training)
    before = tracked(net, hand, check.crops, check.names, quick=True)
    # `best` also fits poses to the frames: they are better than its predictions
    fit = isinstance(settings, BestSettings)
    after = tracked(refined.net, refined.hand, check.crops, check.names, fit, quick=True)
    return write_all(out, PersonalResult(check, hand, refined, before, after, training), progress)


def refuse(check: Check, anyway: bool = False) -> None:
    """Raise ValueError if the check refuses the frames; `anyway` lets frames pass if any of them shows something."""
    if check.crops is None or (check.refusals and not anyway):
        hint = "" if check.crops is None else "; --anyway refines all the same"
        raise ValueError(f"refused: {'; '.join(check.refusals)}{hint}")


def write_all(out: Path, result: PersonalResult, progress: bool = True) -> PersonalResult:
    """Write joints, videos and the report into the folder `out`; returns the result with its files and notes."""
    from .report import write_report  # here: `hrlib predict` needs no matplotlib
    from .video import NoEncoder, gif_bytes, pictures, write_mp4

    after, hand, side, notes = result.after, result.refined.hand, result.side, ()
    files = {name: out / name for name in ("joints.csv", "joints.json", "tracked.mp4", "tracked.gif", "report.html")}
    with joint_files(files["joints.csv"], files["joints.json"]) as joints:
        joints.add(after.names, from_mirror(after.joints_mm, side), after.confidence)
        joints.leave_out(result.check.left_out)
    long, short = (after[in_runs(len(after), most, RUN)] for most in (VIDEO_FRAMES, GIF_FRAMES))
    try:
        write_mp4(files["tracked.mp4"], pictures(long, hand, side), len(long), progress=progress)
    except NoEncoder as error:
        del files["tracked.mp4"]
        notes = (f"tracked.mp4 is left out: {error}",)
    gif = gif_bytes(list(pictures(short, hand, side)))
    write_bytes_atomically(files["tracked.gif"], gif)
    result = replace(result, files=files, notes=notes)
    write_report(files["report.html"], result, gif)
    return result
