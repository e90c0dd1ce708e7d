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


@dataclass(frozen=True)
class Options:
    """A command whose signature needs imports. make: returns the function; help: what the list of commands says."""

    make: Callable[[], Callable[..., int]]
    help: str


def reproduce(profile: Literal["smoke", "quick", "full"] = "quick", only: tuple[str, ...] = ()) -> int:
    """Run the notebooks and regenerate the figures.

    Args:
        profile: smoke (does it run?), quick (all within 20 minutes on two cores) or full (the paper's protocol).
        only: notebooks by their first characters, e.g. 03 04.
    """
    from .reproduce import reproduce

    return reproduce(profile, only)


def claims(readme: bool = False) -> int:
    """Print what the figures and benchmarks claim, and whether it holds; exit status 1 where one does not.

    Args:
        readme: also write the table into README.md.
    """
    from . import claims, paths
    from .results import gather_claims

    gathered = gather_claims(paths.FIGURES, paths.BENCHMARKS)
    print(claims.as_text(gathered))
    if readme:
        claims.write_into(paths.ROOT / "README.md", gathered)
    return int(not all(claim["holds"] for claim in gathered))


def _pretrain() -> Callable[..., int]:
    import tyro

    from .network import NetworkSettings
    from .pretrain import PretrainSettings
    from .synthetic import SyntheticSettings

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

        The defaults are those of the shipped base model; the paper's network is --backbone alexnet --keep-probability 0.75.

        Several processes share each batch: torchrun --nproc-per-node 2 -m hrlib pretrain --out DIR

        Args:
            out: folder for base.safetensors (the model), training.json (settings and curve) and state.pt (to go on).
            start: checkpoint whose weights to begin with, of the same network settings.
            device: cpu, cuda or cuda:1; by default CUDA where there is one.
        """
        from . import pretrain
        from .hand import load_hand

        record = pretrain.pretrain(load_hand(), out, settings, network, frames, start, device=device)
        if _first_process():
            last = record["curve"][-1:]
            error = f", mean joint error {last[0]['joint_error_mm']:.1f} mm on training frames" if last else ""
            print(f"pretrain: {record['steps_done']} steps{error}; model in {out / 'base.safetensors'}, ", end="")
            print(f"curve in {out / 'training.json'}")
        return 0

    return pretrain


def _crops(folder: Path, camera: tuple[float, ...], unit_mm: float, side: str, limit: int | None = None):
    """Crops of a folder's first frames, and those frames; says which were left out."""
    from .camera import Camera
    from .crop import crop_frames
    from .datasets.folder import DepthFolder

    if limit is not None and limit < 1:
        raise ValueError(f"--frames must be at least 1, got {limit}")
    images = DepthFolder(folder, Camera(*camera) if len(camera) == 4 else camera, unit_mm, side=side)
    if limit is not None:
        del images.names[limit:]
    crops, kept, left_out = crop_frames(images)
    if left_out and _first_process():
        some = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
        print(f"{len(left_out)} of {len(images)} frames left out ({some}{'; ...' if len(left_out) > 3 else ''})")
    return crops, kept


def _first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"  # of torchrun's


def _refine() -> Callable[..., int]:
    import tyro

    def refine(
        folder: Annotated[Path, tyro.conf.Positional],
        camera: tuple[float, float] | tuple[float, float, float, float],
        unit_mm: float,
        out: Path,
        side: Literal["right", "left"] = "right",
        recipe: Literal["best", "paper", "depth"] = "best",
        model: Path | None = None,
        frames: int | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        seed: int = 0,
    ) -> int:
        """Adapt model and hand to the hand in a folder of depth images. The same command again goes on where it stopped.

        Args:
            folder: depth images of one hand in the order they were taken: 16-bit PNG or .npy, subfolders included.
            camera: focal lengths and principal point in pixels, FX FY [CX CY]; without the latter, each image's centre.
            unit_mm: millimetres of one count of the files (1 for Kinect, 0.125 for Intel SR305, 1000 for metres).
            out: folder for model, hand (safetensors, npz, ply), curve.json, and state.pt (to go on).
            side: which hand it is.
            recipe: best; paper (Eq. 1, weights and point cloud); depth (the same with the depth term alone).
            model: checkpoint to begin with, by default the shipped base model.
            frames: use no more than the first so many images.
            epochs: of the recipes paper and depth.
            steps: of learning in each round of the recipe best.
            seed: of all that is random.
        """
        from dataclasses import asdict, replace

        from . import paths
        from .adapted import save_refined
        from .checkpoint import load_network
        from .hand import load_hand
        from .refine import RECIPES, PaperSettings, refine

        settings, lengths = RECIPES[recipe], {"epochs": epochs, "steps": steps}
        of_recipe = "epochs" if isinstance(settings, PaperSettings) else "steps"
        for name, value in lengths.items():
            if value is not None and name != of_recipe:
                raise ValueError(f"--{name} is no option of the recipe {recipe}, whose length is --{of_recipe}")
        chosen = {} if lengths[of_recipe] is None else {of_recipe: lengths[of_recipe]}
        settings, hand = replace(settings, seed=seed, **chosen), load_hand()
        net, _ = load_network(hand, model or paths.BASE_MODEL)
        crops, _ = _crops(folder, camera, unit_mm, side, frames)
        refined = refine(net, hand, crops, settings, out)
        if _first_process():
            start = (model or paths.BASE_MODEL).name
            record = {"recipe": recipe, "frames": len(crops), "side": side, "start": start, "refine": asdict(settings)}
            save_refined(out, refined, hand, record)
            for warning in refined.warnings:
                print(f"warning: {warning}")
            print(
                f"refine: {len(crops)} frames, recipe {recipe}; model, hand and curve in {out}; use them with ", end=""
            )
            print(f"hrlib predict --model {out}")
        return 0

    return refine


def _predict() -> Callable[..., int]:
    import tyro

    def predict(
        folder: Annotated[Path, tyro.conf.Positional],
        camera: tuple[float, float] | tuple[float, float, float, float],
        unit_mm: float,
        out: Path,
        side: Literal["right", "left"] = "right",
        model: Path | None = None,
    ) -> int:
        """Predict the 21 joints of the hand in each depth image of a folder.

        Args:
            folder: depth images of one hand: 16-bit PNG or .npy, subfolders included.
            camera: focal lengths and principal point in pixels, FX FY [CX CY]; without the latter, each image's centre.
            unit_mm: millimetres of one count of the files (1 for Kinect, 0.125 for Intel SR305, 1000 for metres).
            out: CSV file for frame, joint, x_mm, y_mm, z_mm (camera frame: right, down, forward) and confidence (0 to 1).
            side: which hand it is.
            model: folder that hrlib refine has written; without it, the shipped base model.
        """
        import csv
        import io

        from .adapted import confidence, load_refined
        from .checkpoint import load_network
        from .evaluate import predict, predicted_joints
        from .hand import load_hand
        from .joints import POINT_NAMES
        from .results import write_bytes_atomically

        hand = load_hand()
        net, hand = (load_network(hand)[0], hand) if model is None else load_refined(model, hand)
        crops, kept = _crops(folder, camera, unit_mm, side)
        prediction = predict(net, crops)
        joints_mm, sure = predicted_joints(prediction, hand, crops), confidence(prediction, hand, crops)
        if side == "left":
            joints_mm = joints_mm * joints_mm.new_tensor([-1.0, 1.0, 1.0])  # back from the mirror
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("frame", "joint", "x_mm", "y_mm", "z_mm", "confidence"))
        for frame, points, value in zip(kept, joints_mm.tolist(), sure.tolist(), strict=True):
            for name, point in zip(POINT_NAMES, points, strict=True):
                table.writerow((frame.name, name, *(f"{x:.2f}" for x in point), f"{value:.4g}"))
        write_bytes_atomically(out, text.getvalue().encode())
        print(f"predict: {len(kept)} frames, median confidence {sure.median():.2f}; joints in {out}")
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
        from .adapted import load_refined
        from .checkpoint import load_network
        from .hand import load_hand
        from .onnx_export import export_onnx

        hand = load_hand()
        net, hand = (load_network(hand)[0], hand) if model is None else load_refined(model, hand)
        export_onnx(out, net, hand, cube_mm)
        print(f"export: {out}, {out.stat().st_size / 1e6:.1f} MB; inputs and outputs are told by hrlib.onnx_export")
        return 0

    return export


COMMANDS = {
    "reproduce": reproduce,
    "claims": claims,
    "pretrain": Options(_pretrain, "Train the base model on synthetic frames."),
    "refine": Options(_refine, "Adapt model and hand to one user's depth images."),
    "predict": Options(_predict, "Predict the joints in a folder of depth images."),
    "export": Options(_export, "Write the network as an ONNX file."),
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
    import tyro

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
