"""The command `hrlib pretrain`: its options are the settings of other modules, so it is imported only when asked for."""

from pathlib import Path
from typing import Annotated

import tyro

from ..hand.from_file import HandFile
from ..network.posenet import NetworkSettings
from ..support.parallel import first_process
from ..support.paths import BASE_MODEL
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
    rig: Annotated[HandFile, Flat] = HandFile(),
) -> int:
    """Train the base model on synthetic frames. The same command again goes on where it stopped.

    The network is by default that of the shipped base model, which knows a population. One that knows a single hand is
    --no-shape --batch-norm, the paper's also --backbone alexnet --keep-probability 0.75. For a hand of your own begin with the
    shipped model: --hand FILE --start base --steps 100 --learning-rate 3e-4.

    Several processes share each batch: torchrun --nproc-per-node 2 -m hrlib pretrain --out DIR. There --start is called
    --begin-with, since torchrun would take the former for an option of its own.

    Args:
        out: folder for base.safetensors and hand.safetensors (the model), training.json (settings and curve) and state.pt (to
            go on).
        start: checkpoint whose weights to begin with, of the same network settings and of any hand; base is the shipped model.
        device: cpu, cuda or cuda:1; by default CUDA where there is one.
    """
    start = BASE_MODEL if start == Path("base") else start
    record = training.pretrain(rig.load(), out, settings, network, frames, start, device=device)
    if first_process():
        last = record["curve"][-1:]
        error = f", mean joint error {last[0]['joint_error_mm']:.1f} mm on training frames" if last else ""
        print(f"pretrain: {record['steps_done']} steps{error}; model in {out / 'base.safetensors'}, ", end="")
        print(f"curve in {out / 'training.json'}")
    return 0
