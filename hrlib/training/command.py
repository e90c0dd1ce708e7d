"""The command `hrlib pretrain`: its options are the settings of other modules, so it is imported only when asked for."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..hand.gltf import hand_from_file
from ..hand.rig import load_hand, save_hand
from ..network.posenet import NetworkSettings
from ..support.parallel import first_process
from ..synthetic.frames import SyntheticSettings
from ..synthetic.many_hands import FRAMES
from . import pretrain as training

Flat = tyro.conf.OmitArgPrefixes  # --steps, not --settings.steps


def pretrain(
    out: Path,
    start: Annotated[Path | None, tyro.conf.arg(aliases=["--begin-with"])] = None,
    device: str | None = None,
    settings: Annotated[training.PretrainSettings, Flat] = training.PretrainSettings(),
    network: Annotated[NetworkSettings, Flat] = NetworkSettings(
        rotation="6d", keep_probability=1.0, backbone="votes", shape=True
    ),
    frames: SyntheticSettings = FRAMES,
    hand: Path | None = None,
    bones: Path | None = None,
    side: Literal["right", "left"] = "right",
) -> int:
    """Train the base model on synthetic frames. The same command again goes on where it stopped.

    The network is by default that of the shipped base model, which knows a population. One that knows the template's hand alone
    is --no-shape --batch-norm, the paper's also --backbone alexnet --keep-probability 0.75.

    Several processes share each batch: torchrun --nproc-per-node 2 -m hrlib pretrain --out DIR. There --start is called
    --begin-with, since torchrun would take the former for an option of its own.

    Args:
        out: folder for base.safetensors (the model), training.json (settings and curve) and state.pt (to go on).
        start: checkpoint whose weights to begin with, of the same network settings.
        device: cpu, cuda or cuda:1; by default CUDA where there is one.
        hand: rigged hand to train for, .glb, .gltf or .safetensors, by default the template; out gets it as hand.safetensors.
        bones: JSON file that names the bone of each joint in a glTF; by default they are found by their names.
        side: which hand a glTF holds; a left one is mirrored.
    """
    rig = load_hand() if hand is None else hand_from_file(hand, bones, side)
    record = training.pretrain(rig, out, settings, network, frames, start, device=device)
    if first_process():
        if hand is not None:
            save_hand(out / "hand.safetensors", rig, f"{hand.name}")
        last = record["curve"][-1:]
        error = f", mean joint error {last[0]['joint_error_mm']:.1f} mm on training frames" if last else ""
        print(f"pretrain: {record['steps_done']} steps{error}; model in {out / 'base.safetensors'}, ", end="")
        print(f"curve in {out / 'training.json'}")
    return 0
