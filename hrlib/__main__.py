"""The command `hrlib`. A command is a function that returns its exit status, listed in COMMANDS.

Its signature and docstring are its options and help (tyro). Imports stay inside the functions: help is instant.
"""

import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .personal.folder import CameraNumbers, UserFolder, camera_as_one_word
from .support.files import printable
from .support.stops import signals_as_ctrl_c, stopped_by

Flat = tyro.conf.OmitArgPrefixes  # --camera, not --source.camera


def reproduce(
    profile: Literal["smoke", "quick", "full"] = "quick",
    only: tuple[str, ...] = (),
    nyu: Path | None = None,
    icvl: Path | None = None,
) -> int:
    """Run the notebooks and regenerate the figures.

    Args:
        profile: smoke (does it run?), quick (all within 20 minutes on two cores) or full (the paper's protocol).
        only: notebooks by their first characters, e.g. 03 04.
        nyu: folder of NYU Hand Pose (its train/ and test/), for notebook 07: refine and evaluate on it.
        icvl: folder of ICVL (its Training/ and Testing/), likewise.
    """
    from .support.paths import require_repository

    require_repository("hrlib reproduce")
    from .companion.reproduce import reproduce

    return reproduce(profile, only, data={"nyu": nyu, "icvl": icvl})


def fetch(
    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")] = (),
    out: Path | None = None,
) -> int:
    """Fetch public data sets, or, without names, list them with their size, licence and where they come from.

    Args:
        names: data sets, e.g. published sr305.
        out: folder for them, by default data/cache in the repository, where everything else finds them.
    """
    from .datasets.fetch import fetch, registry

    for data in () if names else registry().values():
        how = f"hrlib fetch {data.name}" if data.files else f"by hand: {data.page}"
        print(f"{data.name}: {data.citation}\n  {data.bytes / 2**20:,.0f} MB, licence: {data.licence}; {how}")
    for name in names:
        print(f"fetch: {name} is in {fetch(name, out)}")
    return 0


def claims(write: bool = False) -> int:
    """Print what is claimed, with values, targets and reasons; exit status 1 where anything is not as expected.

    Args:
        write: also bring the result files' records, CLAIMS.md and its summary in README.md up to date.
    """
    from .companion import claims_table
    from .companion.claims import read_claims, verdicts
    from .companion.results import read_results, renew_claims
    from .support import paths

    paths.require_repository("hrlib claims")
    known = read_claims()
    if write:
        renew_claims(paths.FIGURES, paths.BENCHMARKS)
    results = read_results(paths.FIGURES, paths.BENCHMARKS)
    judged, strays = verdicts(results, known)
    print(claims_table.as_text(judged, strays, known))
    if write:
        claims_table.write_tables(paths.ROOT, judged, strays, known, results)
    return int(bool(claims_table.problems(judged, strays)))


def pretrain() -> int:
    """Train the base model on synthetic frames."""
    raise AssertionError("`main` takes the function of training/command.py, whose signature is full of settings")


@dataclass(frozen=True)
class RefineOptions:
    """What is learnt, and from how many of the frames."""  # the comments of the fields are help

    # best; paper (Eq. 1, weights and point cloud); depth (the same with the depth term alone).
    recipe: Literal["best", "paper", "depth"] = "best"
    # checkpoint to begin with, or a folder that hrlib pretrain has written; by default the shipped base model.
    model: Path | None = None
    # module:function that makes a network of your own (hrlib.network.model); --model has its weights, if any.
    network: str | None = None
    # rigged hand that the model was trained with, .safetensors, .glb or .gltf; by default the one beside the model, or else
    # the template.
    hand: Path | None = None
    # use only the first images, at most this many.
    frames: int | None = None
    # of the recipes paper and depth, by default 10.
    epochs: int | None = None
    # best: also learn on the frames, for half an hour; a network that knows one hand always does.
    learn: bool = False
    # of learning in each of the two rounds of the recipe best, by default 300.
    steps: int | None = None
    # of all that is random.
    seed: int = 0

    def settings(self, hand_ends_known: bool):
        """The settings of the recipe; hand_ends_known: masks or colour images tell where the hand ends."""
        from .refine import RECIPES, PaperSettings
        from .refine.best import ROUNDS

        settings, lengths = RECIPES[self.recipe], {"epochs": self.epochs, "steps": self.steps}
        length = "epochs" if isinstance(settings, PaperSettings) else "steps"
        for name, value in lengths.items():
            if value is not None and name != length:
                raise ValueError(f"--{name} is no option of the recipe {self.recipe}, whose length is --{length}")
        chosen = {} if lengths[length] is None else {length: lengths[length]}
        if self.learn and length == "epochs":
            raise ValueError(f"--learn is no option of the recipe {self.recipe}, which learns anyway")
        if self.learn:
            chosen["rounds"] = ROUNDS
        if "steps" in chosen:
            chosen["prepare"] = min(settings.prepare, self.steps)
        if isinstance(settings, PaperSettings):
            chosen["wristband"] = hand_ends_known
        return replace(settings, seed=self.seed, **chosen)


def refine(
    source: Annotated[UserFolder, Flat],
    out: Path,
    learning: Annotated[RefineOptions, Flat] = RefineOptions(),
    side: Literal["right", "left"] | None = None,
    check_only: bool = False,
    anyway: bool = False,
) -> int:
    """Adapt model and hand to the hand in a folder of depth images. The same command again goes on where it stopped.

    Args:
        out: folder for report.html, model, hand (ply, glb, npz, safetensors), joints (csv, json), tracked.mp4 and .gif,
            check.json, curve.json, and state.pt (to go on).
        side: which hand it is; by default the one that explains the frames better.
        check_only: only say what the frames are like; exit status 1 where they are refused.
        anyway: refine frames that the check refuses.
    """
    from .personal.first_look import first_look
    from .personal.run import RunOptions, checked, refine_checked
    from .refine import check_run
    from .support import paths
    from .support.parallel import alone_in, cores

    _tell(source)
    settings = learning.settings(source.masks is not None or source.colour is not None)
    net, hand, known = _model(learning.model, learning.hand, learning.network)
    began = (learning.network or paths.BASE_MODEL.name) if learning.model is None else learning.model.name
    source.frames(limit=learning.frames)  # says what is wrong with the options, before anything takes time
    source.check_apart(out)
    with alone_in(out):
        if not check_only:
            check_run(net, hand, settings, out)
        look = first_look(source.frames(limit=learning.frames), net, hand, side, known)
        _warn(look.doubts)
        side, frames = look.side, source.frames(look.side, learning.frames)
        run = RunOptions(
            side, {"recipe": learning.recipe, "start": began}, anyway, processes=cores(), evidence=look.evidence
        )
        check = checked(frames, net, hand, out, f"{source.folder}", run)
        if check_only:
            return int(bool(check.refusals))
        result = refine_checked(check, net, hand, settings, out, run)
    if result is not None:
        for text in (*(f"warning: {warning}" for warning in result.refined.warnings), *result.notes):
            print(text)
        print(f"refine: {len(result.after)} frames, recipe {learning.recipe}; look at {result.files['report.html']}")
        known = f"{_of_source(source)}--model {out}"
        known += "" if learning.network is None else f" --network {learning.network}"
        print(f"next: hrlib predict NEW_FRAMES {known} --out joints.csv")
    return 0


def predict(
    source: Annotated[UserFolder, Flat],
    out: Path,
    side: Literal["right", "left"] | None = None,
    model: Path | None = None,
    json: Path | None = None,
    fit: bool = True,
    network: str | None = None,
    hand: Path | None = None,
) -> int:
    """Predict the 21 joints of the hand in each depth image of a folder, a few images in memory at a time.

    The network sees each image five times, turned, and the mean counts. Each pose is then fitted to its image, evenly in time.

    Args:
        out: CSV file for frame, joint, x_mm, y_mm, z_mm (camera frame: right, down, forward) and confidence (0 to 1).
        side: which hand it is; by default the model's, and without --model the one that explains the frames better.
        model: folder that hrlib refine or hrlib pretrain has written, or a checkpoint; without it, the shipped base model.
        json: JSON file for the same, with the reasons why frames are left out.
        fit: fit each predicted pose to its image; without it, joints are a third worse and come in two thirds of the time.
        network: module:function that makes a network of your own (hrlib.network.model); --model has its weights, if any.
        hand: rigged hand that the model was trained with, .safetensors, .glb or .gltf; by default the one beside the model, or
            else the template.
    """
    from statistics import median

    from .personal.first_look import first_look
    from .personal.joint_files import check_joint_files, joint_files
    from .personal.track import from_mirror, track
    from .support.parallel import cores
    from .support.progress import tqdm

    check_joint_files(out, json)
    _tell(source)
    net, rig, known = _model(model, hand, network)
    look = first_look(source.frames(), net, rig, side, known)
    _warn(look.doubts)
    (net, rig), frames, side = look.told(net, rig), source.frames(look.side), look.side
    sure, left_out = [], {}
    with (
        joint_files(out, json, look.record()) as joints,
        tqdm(total=len(frames), desc="predict", disable=len(frames) < 50) as bar,
    ):
        for shots, lost in track(net, rig, frames, fit=fit, processes=cores()):
            left_out |= lost
            joints.leave_out(lost)
            if shots is not None:
                joints.add(shots.names, from_mirror(shots.joints_mm, side), shots.confidence)
                sure += shots.confidence.tolist()
            bar.update(len(lost) + (0 if shots is None else len(shots)))
        if not sure:
            masks = ", and that each mask shows a hand up to its wrist, and no arm" * bool(source.masks)
            why = f"({_some(left_out)}); check --camera and --unit-mm{masks}"
            raise ValueError(f"no hand in any of the {len(left_out)} frames {why}")
    if left_out:
        print(f"{len(left_out)} of {len(frames)} frames left out ({_some(left_out)})")
    where = f"{out} and {json}" if json else f"{out}"
    print(f"predict: {len(sure)} frames of {look}, median confidence {median(sure):.2f}; joints in {where}")
    return 0


def _some(left_out: dict[str, str]) -> str:
    """The first frames that were left out, and why."""
    return "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3]) + "; ..." * (len(left_out) > 3)


def _tell(source: UserFolder) -> None:
    """Say what recorder's files are read, and what they tell."""
    if (recording := source.frames().recording) is not None:
        print(f"reads {printable(recording)}")


def _of_source(source: UserFolder) -> str:
    """The options with which a folder was read, for the next one."""
    numbers = "" if source.camera is None else f"--camera {' '.join(f'{number:.10g}' for number in source.camera)} "
    unit = "" if source.unit_mm is None else f"--unit-mm {source.unit_mm:.10g} "
    return numbers + unit + ("" if source.encoding == "depth" else f"--encoding {source.encoding} ")


def _warn(doubts: Iterable[str]) -> None:
    for doubt in doubts:
        print(f"warning: {printable(doubt)}", file=sys.stderr)


def export(out: Path, model: Path | None = None, cube_mm: float = 250.0) -> int:
    """Write the network and the hand's kinematics as one ONNX file, for other programs.

    Args:
        out: the file; its input is any number of crops' depth images, its first output the 21 joints about each crop's
            centre.
        model: folder that hrlib refine or hrlib pretrain has written, or a checkpoint; without it, the shipped base model.
        cube_mm: edge of the cube that frames are cropped to.
    """
    from .network.onnx import ONNX_BEGINS, export_onnx
    from .support.files import require_own

    require_own(out, ONNX_BEGINS, "an exported network")
    net, hand, _ = _model(model)
    export_onnx(out, net, hand, cube_mm)
    print(f"export: {out}, {out.stat().st_size / 1e6:.1f} MB; inputs and outputs: see hrlib.network.onnx")
    return 0


def _model(path: Path | None, hand: Path | None = None, network: str | None = None):
    """Network, hand and side of a model; see `load_model`."""
    from .hand.from_file import hand_from_file
    from .refine.saved import load_model

    return load_model(path, None if hand is None else hand_from_file(hand), network)


@dataclass(frozen=True)
class LivePage:
    """The page that shows what the camera sees."""

    # of the page at this computer's own address; 0 takes a free one.
    port: int = 0
    # open the page; without it, its address alone is printed.
    browser: bool = True


@dataclass(frozen=True)
class CameraMode:
    """One of the camera's own sizes and rates."""  # the comments of the fields are help

    # of the depth image in pixels.
    width: int = 640
    # of the depth image in pixels.
    height: int = 480
    # images a second.
    rate: int = 30


def record(
    out: Path,
    seconds: float = 20.0,
    delay: float = 3.0,
    mode: Annotated[CameraMode, Flat] = CameraMode(),
    page: Annotated[LivePage, Flat] = LivePage(),
) -> int:
    """Record depth images of an Intel RealSense camera into a folder that `hrlib refine` reads, and show what it sees.

    Args:
        out: new or empty folder for the images, 16-bit PNG, and camera.json.
        seconds: how long; q in the window, or Ctrl-C, ends it before.
        delay: seconds to get ready in.
    """
    import webbrowser
    from functools import partial

    from .frames.realsense import Mode, record
    from .personal.live_page import Page
    from .personal.sight import ALT, KEYS, TITLE, Sight

    with Page(page.port, KEYS, TITLE, ALT) as shown:
        print(f"record: {shown.address} shows what the camera sees", flush=True)
        if page.browser:
            webbrowser.open(shown.address)
        count, command = record(out, seconds, Mode(**vars(mode)), delay, partial(Sight, shown))
    print(f"record: {count} images in {out}; next: {command}")
    return 0


@dataclass(frozen=True)
class LiveImages:
    """A folder's depth images, or without one those of the camera that is plugged in."""  # the comments of the fields are help

    # folder of depth images; without one, the Intel RealSense camera that is plugged in.
    folder: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[FOLDER]")] = None
    # of a folder: focal lengths and principal point in pixels, or a file that has them.
    camera: CameraNumbers = None
    # of a folder: millimetres of one count of the files.
    unit_mm: float | None = None
    # images a second.
    rate: int = 30
    # play the folder again and again, until q is pressed.
    repeat: bool = False


def live(
    images: Annotated[LiveImages, Flat] = LiveImages(),
    side: Literal["right", "left"] | None = None,
    model: Path | None = None,
    fit: bool = True,
    out: Path = Path("runs/live"),
    page: Annotated[LivePage, Flat] = LivePage(),
) -> int:
    """Track the hand before an Intel RealSense camera, or in a folder's images, and show it live in a browser's window.

    Keys in the window: r records images and joints, q ends.

    Args:
        side: which hand it is; by default the model's, or what the first images say.
        model: folder that hrlib refine or hrlib pretrain has written; without it, the shipped base model.
        fit: fit each predicted pose to its image; without it, joints are worse and come faster.
        out: folder for what is recorded, each recording in a new folder.
    """
    from .personal.live import ALT, KEYS, TITLE, live
    from .personal.live_page import Page
    from .personal.sources import opened
    from .personal.tracker import Tracker

    with opened(**vars(images)) as source, Page(page.port, KEYS, TITLE, ALT) as shown:
        tracker = Tracker(source.camera, side, model, fit, quick=True)
        print(f"live: {shown.address} (r records into {out}, q or Ctrl-C ends)", flush=True)
        count, speed, recorded = live(source, tracker, out, shown, page.browser)
    print(f"live: {count} images, {speed:.1f} a second; recorded: {', '.join(map(str, recorded)) or 'nothing'}")
    return 0


COMMANDS = {f.__name__: f for f in (reproduce, claims, fetch, pretrain, refine, predict, export, record, live)}


MENDABLE = (ValueError, OSError, MemoryError, FloatingPointError)  # the last one: a training that diverges


def main() -> int:
    """Run a command. Errors that the user can mend are one line and status 2; HRLIB_DEBUG=1 shows the traceback."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter shows another, and stops nothing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with signals_as_ctrl_c() as signals:
        try:
            status = _run(dict(COMMANDS))
            _print_all()
            return status
        except (KeyboardInterrupt, Exception) as error:
            if signals or isinstance(error, KeyboardInterrupt):  # a library that is interrupted may raise another error
                status, how = stopped_by()
                print(f"hrlib: stopped by {how}", file=sys.stderr)
                return status
            if not isinstance(error, MENDABLE) or os.environ.get("HRLIB_DEBUG") == "1":
                raise
            with suppress(OSError):
                _print_all()
            print(f"hrlib: {printable(_in_words(error))}", file=sys.stderr)
            return 2


def _print_all() -> None:
    """Write what was printed but is held back. If that fails, nothing more is printed, and OSError says so."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again when it ends
        raise OSError(error.errno, f"cannot print: {error.strerror}") from error


def _run(commands: dict) -> int:
    if sys.argv[1:2] == ["pretrain"]:
        from .training.command import pretrain

        commands["pretrain"] = pretrain
    words = camera_as_one_word(sys.argv[1:])
    return (
        tyro.extras.subcommand_cli_from_dict(commands, prog="hrlib", description="Refine 3D hand poses.", args=words)
        or 0
    )


def _in_words(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"not enough memory ({error}); close other programs, or give fewer or smaller frames"
    if isinstance(error, OSError) and error.filename is None and error.strerror:
        return error.strerror
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
