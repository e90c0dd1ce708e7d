"""The command `hrlib`. A command is a function that returns its exit status, listed in COMMANDS.

Its signature and docstring are its options and help (tyro). Imports stay inside the functions: help is instant. Where
the options are settings of other modules, the command is an `Options`: its function is made only when it is asked for.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Options:
    """A command whose signature needs imports. make: returns the function; help: what the list of commands says."""

    make: Callable[[], Callable[..., int]]
    help: str


def _camera_numbers(words: list[str]) -> tuple[float, ...]:
    if len(words) not in (2, 4):
        raise ValueError(f"wanted 2 or 4 numbers, got {len(words)}")
    return tuple(float(word) for word in words)


CameraNumbers = Annotated[
    tuple[float, ...],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=(2, 4),
        metavar="FX FY [CX CY]",
        instance_from_str=_camera_numbers,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [str(number) for number in value],
    ),
]


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


def claims(readme: bool = False) -> int:
    """Print what the figures and benchmarks claim, and whether it holds; exit status 1 where one does not.

    Args:
        readme: also write the table into README.md.
    """
    from .companion import claims
    from .companion.results import gather_claims
    from .support import paths

    gathered = gather_claims(paths.FIGURES, paths.BENCHMARKS)
    print(claims.as_text(gathered))
    if readme:
        claims.write_into(paths.ROOT / "README.md", gathered)
    return int(not all(claim["holds"] for claim in gathered))


def _pretrain() -> Callable[..., int]:
    from .network.posenet import NetworkSettings
    from .synthetic.frames import SyntheticSettings
    from .training.pretrain import PretrainSettings

    flat = tyro.conf.OmitArgPrefixes  # --steps, not --settings.steps

    def pretrain(
        out: Path,
        start: Path | None = None,
        device: str | None = None,
        settings: Annotated[PretrainSettings, flat] = PretrainSettings(),
        network: Annotated[NetworkSettings, flat] = NetworkSettings(
            rotation="6d", batch_norm=True, keep_probability=1.0, backbone="votes"
        ),
        frames: SyntheticSettings = SyntheticSettings(),
    ) -> int:
        """Train the base model on synthetic frames. The same command again goes on where it stopped.

        The network is by default that of the shipped base model; the paper's is --backbone alexnet --keep-probability 0.75.

        Several processes share each batch: torchrun --nproc-per-node 2 -m hrlib pretrain --out DIR

        Args:
            out: folder for base.safetensors (the model), training.json (settings and curve) and state.pt (to go on).
            start: checkpoint whose weights to begin with, of the same network settings.
            device: cpu, cuda or cuda:1; by default CUDA where there is one.
        """
        from .hand.rig import load_hand
        from .training import pretrain

        record = pretrain.pretrain(load_hand(), out, settings, network, frames, start, device=device)
        if _first_process():
            last = record["curve"][-1:]
            error = f", mean joint error {last[0]['joint_error_mm']:.1f} mm on training frames" if last else ""
            print(f"pretrain: {record['steps_done']} steps{error}; model in {out / 'base.safetensors'}, ", end="")
            print(f"curve in {out / 'training.json'}")
        return 0

    return pretrain


def _first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"  # of torchrun's


def _refine() -> Callable[..., int]:
    def refine(
        folder: Annotated[Path, tyro.conf.Positional],
        camera: CameraNumbers,
        unit_mm: float,
        out: Path,
        side: Literal["right", "left"] = "right",
        recipe: Literal["best", "paper", "depth"] = "best",
        model: Path | None = None,
        files: str = "*",
        masks: Path | None = None,
        colour: Path | None = None,
        frames: int | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        seed: int = 0,
        check_only: bool = False,
        anyway: bool = False,
    ) -> int:
        """Adapt model and hand to the hand in a folder of depth images. The same command again goes on where it stopped.

        Args:
            folder: depth images of one hand in the order they were taken: 16-bit PNG or .npy, subfolders included.
            camera: focal lengths and principal point in pixels; without the latter, each image's centre.
            unit_mm: millimetres of one count of the files (1 for Kinect, 0.125 for Intel SR305, 1000 for metres).
            out: folder for report.html, model, hand (ply, glb, npz, safetensors), joints (csv, json), tracked.mp4 and .gif,
                check.json, curve.json, and state.pt (to go on).
            side: which hand it is.
            recipe: best; paper (Eq. 1, weights and point cloud); depth (the same with the depth term alone).
            model: checkpoint to begin with, by default the shipped base model.
            files: only images whose name matches this pattern, e.g. "depth_*.png".
            masks: folder of images of the same names that are not 0 on the hand; then nothing is segmented.
            colour: folder of aligned colour images of the same names, where the hand wears a dark wristband.
            frames: use no more than the first so many images.
            epochs: of the recipes paper and depth, by default 10.
            steps: of learning in each of the two rounds of the recipe best, by default 300.
            seed: of all that is random.
            check_only: only say what the frames are like; exit status 1 where they are refused.
            anyway: refine frames that the check refuses.
        """
        from dataclasses import replace

        from .hand.rig import load_hand
        from .network.checkpoint import load_network
        from .personal.run import checked, personal, user_frames
        from .refine import RECIPES, PaperSettings, check_run
        from .support import paths

        settings, lengths = RECIPES[recipe], {"epochs": epochs, "steps": steps}
        of_recipe = "epochs" if isinstance(settings, PaperSettings) else "steps"
        for name, value in lengths.items():
            if value is not None and name != of_recipe:
                raise ValueError(f"--{name} is no option of the recipe {recipe}, whose length is --{of_recipe}")
        chosen = {} if lengths[of_recipe] is None else {of_recipe: lengths[of_recipe]}
        if "steps" in chosen:
            chosen["prepare"] = min(settings.prepare, steps)
        if isinstance(settings, PaperSettings):
            chosen["wristband"] = masks is not None or colour is not None
        settings, hand = replace(settings, seed=seed, **chosen), load_hand()
        net, _ = load_network(hand, model or paths.BASE_MODEL)
        images, first = user_frames(folder, camera, unit_mm, side, files, masks, colour, frames), _first_process()
        if not check_only:
            check_run(net, hand, settings, out)
        check = checked(images, net, hand, out, f"{folder}", first, print if first else lambda text: None)
        if check_only:
            return int(bool(check.refusals))
        start = (model or paths.BASE_MODEL).name
        made = personal(check, net, hand, settings, out, side, {"recipe": recipe, "start": start}, anyway, first, first)
        if made is not None:
            for warning in made.refined.warnings:
                print(f"warning: {warning}")
            numbers = " ".join(f"{number:.10g}" for number in camera)
            print(f"refine: {len(made.after)} frames, recipe {recipe}; look at {made.files['report.html']}")
            known = f"--camera {numbers} --unit-mm {unit_mm:.10g} --model {out}"
            print(f"next: hrlib predict NEW_FRAMES {known} --out joints.csv")
        return 0

    return refine


def _predict() -> Callable[..., int]:
    def predict(
        folder: Annotated[Path, tyro.conf.Positional],
        camera: CameraNumbers,
        unit_mm: float,
        out: Path,
        side: Literal["right", "left"] | None = None,
        model: Path | None = None,
        files: str = "*",
        masks: Path | None = None,
        colour: Path | None = None,
        json: Path | None = None,
        fit: bool = False,
    ) -> int:
        """Predict the 21 joints of the hand in each depth image of a folder, a few images in memory at a time.

        The network sees each image five times, turned about its middle, and the mean of what it sees there counts.

        Args:
            folder: depth images of one hand: 16-bit PNG or .npy, subfolders included.
            camera: focal lengths and principal point in pixels; without the latter, each image's centre.
            unit_mm: millimetres of one count of the files (1 for Kinect, 0.125 for Intel SR305, 1000 for metres).
            out: CSV file for frame, joint, x_mm, y_mm, z_mm (camera frame: right, down, forward) and confidence (0 to 1).
            side: which hand it is, by default the model's; right without --model.
            model: folder that hrlib refine has written; without it, the shipped base model.
            files: only images whose name matches this pattern, e.g. "depth_*.png".
            masks: folder of images of the same names that are not 0 on the hand; then nothing is segmented.
            colour: folder of aligned colour images of the same names, where the hand wears a dark wristband.
            json: JSON file for the same, with the reasons why frames are left out.
            fit: also fit each predicted pose to its frame, and make movements even; better joints, about 0.1 s a frame.
        """
        from statistics import median

        from tqdm import tqdm

        from .hand.rig import load_hand
        from .network.checkpoint import load_network
        from .personal.joint_files import joint_files
        from .personal.run import user_frames
        from .personal.track import from_mirror, track
        from .refine.saved import load_refined, refined_side

        hand = load_hand()
        net, hand = (load_network(hand)[0], hand) if model is None else load_refined(model, hand)
        side = side or ("right" if model is None else refined_side(model))
        images = user_frames(folder, camera, unit_mm, side, files, masks, colour)
        sure, left_out = [], {}
        with joint_files(out, json) as joints, tqdm(total=len(images), desc="predict", disable=len(images) < 50) as bar:
            for shots, lost in track(net, hand, images, fit=fit):
                left_out |= lost
                joints.leave_out(lost)
                if shots is not None:
                    joints.add(shots.names, from_mirror(shots.joints_mm, side), shots.confidence)
                    sure += shots.confidence.tolist()
                bar.update(len(lost) + (0 if shots is None else len(shots)))
            some = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
            if not sure:
                raise ValueError(f"no hand in any of the {len(left_out)} frames ({some}); check --camera and --unit-mm")
        if left_out:
            print(f"{len(left_out)} of {len(images)} frames left out ({some}{'; ...' if len(left_out) > 3 else ''})")
        where = f"{out} and {json}" if json else f"{out}"
        print(f"predict: {len(sure)} frames, median confidence {median(sure):.2f}; joints in {where}")
        return 0

    return predict


def _export() -> Callable[..., int]:
    def export(out: Path, model: Path | None = None, cube_mm: float = 250.0) -> int:
        """Write the network and the hand's kinematics as one ONNX file, for other programs.

        Args:
            out: the file; its input is the crop's depth image, its first output the 21 joints about the crop's centre.
            model: folder that hrlib refine has written; without it, the shipped base model.
            cube_mm: edge of the cube that frames are cropped to.
        """
        from .hand.rig import load_hand
        from .network.checkpoint import load_network
        from .network.onnx import export_onnx
        from .refine.saved import load_refined

        hand = load_hand()
        net, hand = (load_network(hand)[0], hand) if model is None else load_refined(model, hand)
        export_onnx(out, net, hand, cube_mm)
        print(f"export: {out}, {out.stat().st_size / 1e6:.1f} MB; inputs and outputs: see hrlib.network.onnx")
        return 0

    return export


def record(
    out: Path, seconds: float = 20.0, width: int = 640, height: int = 480, rate: int = 30, delay: float = 3.0
) -> int:
    """Record depth images of an Intel RealSense camera into a folder that `hrlib refine` reads.

    Args:
        out: new or empty folder for the images, 16-bit PNG, and camera.json.
        seconds: how long.
        width: of the depth image in pixels, one of the camera's own sizes.
        height: of the depth image in pixels.
        rate: images a second.
        delay: seconds to get ready in.
    """
    from .frames.realsense import record

    count, command = record(out, seconds, width, height, rate, delay)
    print(f"record: {count} images in {out}; next: {command}")
    return 0


COMMANDS = {
    "reproduce": reproduce,
    "claims": claims,
    "fetch": fetch,
    "pretrain": Options(_pretrain, "Train the base model on synthetic frames."),
    "refine": Options(_refine, "Adapt model and hand to one user's depth images."),
    "predict": Options(_predict, "Predict the joints in a folder of depth images."),
    "export": Options(_export, "Write the network as an ONNX file."),
    "record": record,
}


def _commands(asked: str | None) -> dict[str, Callable[..., int]]:
    """The functions of COMMANDS; of the `Options`, only the one that is asked for is made, the others are just named."""

    def named(options: Options):
        def command() -> int:
            raise AssertionError("only ever listed")

        command.__doc__ = options.help
        return command

    def function(name, command):
        if not isinstance(command, Options):
            return command
        return command.make() if name == asked else named(command)

    return {name: function(name, command) for name, command in COMMANDS.items()}


def main() -> int:
    """Run a command. Errors that the user can mend are one line and status 2; HRLIB_DEBUG=1 shows the traceback."""
    try:
        commands = _commands(sys.argv[1] if len(sys.argv) > 1 else None)
        return tyro.extras.subcommand_cli_from_dict(commands, prog="hrlib", description="Refine 3D hand poses.") or 0
    except KeyboardInterrupt:
        print("hrlib: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if os.environ.get("HRLIB_DEBUG") == "1":
            raise
        text = error.strerror if isinstance(error, OSError) and error.filename is None and error.strerror else error
        print(f"hrlib: {text}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
