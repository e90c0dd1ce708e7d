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
        network: Annotated[NetworkSettings, flat] = NetworkSettings(rotation="6d", batch_norm=True),
        frames: SyntheticSettings = SyntheticSettings(),
    ) -> int:
        """Train the base model on synthetic frames. The same command again goes on where it stopped.

        Several processes share each batch: torchrun --nproc-per-node 2 -m hrlib pretrain --out DIR

        Args:
            out: folder for base.safetensors (the model), training.json (settings and curve) and state.pt (to go on).
            start: checkpoint whose weights to begin with, of the same network settings.
            device: cpu, cuda or cuda:1; by default CUDA where there is one.
        """
        from . import pretrain
        from .hand import load_hand

        record = pretrain.pretrain(load_hand(), out, settings, network, frames, start, device=device)
        if os.environ.get("RANK", "0") == "0":  # the first of torchrun's processes
            last = record["curve"][-1:]
            error = f", mean joint error {last[0]['joint_error_mm']:.1f} mm on training frames" if last else ""
            print(f"pretrain: {record['steps_done']} steps{error}; model in {out / 'base.safetensors'}, ", end="")
            print(f"curve in {out / 'training.json'}")
        return 0

    return pretrain


COMMANDS = {
    "reproduce": reproduce,
    "claims": claims,
    "pretrain": Options(_pretrain, "Train the base model on synthetic frames."),
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
