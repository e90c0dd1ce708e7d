"""The result of a refinement, and the state with which a stopped refinement goes on."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..frames.crops import Crops
from ..hand.rig import HandRig
from ..network.model import PoseModel
from ..support.progress import tqdm
from ..support.state_files import cannot_save, read_state, write_state

SAVE_EVERY_S = 60.0  # a state of 50 MB is written in less than a second


@dataclass(frozen=True)
class Refined:
    """The result of a refinement."""

    net: PoseModel  # the adapted network, in eval mode
    hand: HandRig  # the rig to pose with
    cloud_mm: Float[Tensor, "N 3"]  # P, at rest in the wrist's frame
    curve: list[dict]  # a record for each step or round
    warnings: tuple[str, ...]  # reasons not to trust the result


@dataclass(frozen=True)
class Processes:
    """The place of this process among those that share a run (`support.parallel.workers`); the first one writes."""

    rank: int = 0
    world: int = 1
    device: str | torch.device = "cpu"
    progress: bool = False  # whether this one shows progress bars


class State:
    """Steps done, curve and parts of a run, kept in `state.pt` in the folder `out`; None keeps nothing.

    The file belongs to the network, hand, frames and settings that the run begins with; crops = None asks for any frames.
    """

    def __init__(
        self, net: PoseModel, hand: HandRig, crops: Crops | None, settings, out: Path | None, processes=Processes()
    ):
        self.file = None if out is None else out / "state.pt"
        self.hand, self.processes = hand, processes
        start = round(sum(p.double().abs().sum().item() for p in net.parameters()), 3)
        self.config = {"settings": json.loads(json.dumps(asdict(settings))), "start": start, "hand": hand.fingerprint}
        if crops is not None:
            self.config["frames"] = [len(crops), frames_digest(crops)]
        self.done, self.curve = 0, []
        self._saved_at = time.monotonic()
        self.parts, self.extra = {}, {}

    def stored(self) -> dict | None:
        """The content of the file, None without one. Raises ValueError for the file of another run."""
        if self.file is None or not self.file.exists():
            return None
        stored = read_state(self.file, "a refinement", self.processes.device)
        config = stored["config"]
        if self.hand.has_fingerprint(config.get("hand")):
            config["hand"] = self.config["hand"]  # an older file names the hand in another form
        changed = [k for k in self.config if config.get(k) != self.config[k]]
        if changed:
            raise ValueError(
                f"{self.file.parent} holds a refinement with other {', '.join(changed)}; choose another folder or delete it"
            )
        return stored

    def restore(self, **parts) -> None:
        """Keep these modules, optimisers and tensors from now on, after giving them their stored content, if there is any.

        `extra` is any further dict of tensors and plain values, which the run may replace.
        """
        self.parts, stored = parts, self.stored()
        if stored is None:
            return
        try:
            self.done, self.curve, self.extra = stored["done"], stored["curve"], stored["extra"]
            for name, part in parts.items():
                if isinstance(part, Tensor):
                    part.data.copy_(stored["parts"][name])
                else:
                    part.load_state_dict(stored["parts"][name])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ValueError(f"{self.file} is damaged ({error!r}); delete it to begin anew") from error

    def save(self) -> None:
        """Write the file. Raises OSError if that fails; the file from before stays."""
        if self.file is None or self.processes.rank:
            return
        parts = {k: part.detach() if isinstance(part, Tensor) else part.state_dict() for k, part in self.parts.items()}
        stored = {"config": self.config, "done": self.done, "curve": self.curve, "parts": parts, "extra": self.extra}
        self._saved_at = time.monotonic()
        try:
            write_state(self.file, stored)
        except OSError as error:
            raise cannot_save(error, f"the refinement to {self.file.parent}", "what was saved before") from error

    def save_at_times(self) -> None:
        """Save after `SAVE_EVERY_S`: what is lost where a process is killed."""
        if time.monotonic() - self._saved_at > SAVE_EVERY_S:
            self.save()

    def stop(self) -> None:
        """Save, say how to go on, and raise KeyboardInterrupt."""
        self.save()
        if self.file is not None and not self.processes.rank:
            tqdm.write(f"stopped after {self.done} steps; the same again goes on from {self.file}")
        raise KeyboardInterrupt


def frames_digest(crops: Crops) -> str:
    """SHA-256 of the frames' images and centres in their order."""
    digest = hashlib.sha256()
    for part in zip(crops.image.split(256), crops.centre_mm.split(256), strict=True):
        for values in part:
            digest.update(values.cpu().float().reshape(-1).numpy())
    return digest.hexdigest()
