"""What a refinement gives, and what it keeps while it runs, to go on after a stop."""

import io
import json
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..hand.rig import HandRig
from ..network.posenet import PoseNet
from ..support.files import write_bytes_atomically


@dataclass(frozen=True)
class Refined:
    """net: the adapted network (eval mode); hand: the rig to pose with; cloud_mm [N, 3]: P; curve: one record a step or
    stage; warnings: what the run has to say against itself."""

    net: PoseNet
    hand: HandRig
    cloud_mm: Tensor
    curve: list[dict]
    warnings: tuple[str, ...]


class State:
    """What a run needs to go on: steps done, the curve, and the tensors that it names itself."""

    def __init__(self, net, hand, crops, settings, out, rank, device):
        self.file = None if out is None else Path(out) / "state.pt"
        self.writes, self.device = rank == 0, device
        weights = round(sum(p.double().abs().sum().item() for p in net.parameters()), 3)
        self.config = {"settings": json.loads(json.dumps(asdict(settings)))}
        if crops is not None:
            sums = (round(values.double().sum().item(), 3) for values in (crops.image, crops.centre_mm))
            self.config["frames"] = [len(crops), *sums]
        self.hand, self.config = hand, self.config | {"start": weights, "hand": hand.fingerprint}
        self.done, self.curve = 0, []

    def stored(self) -> dict | None:
        """What the file holds, if there is one; ValueError where it is of another run."""
        if self.file is None or not self.file.exists():
            return None
        try:
            stored = torch.load(self.file, self.device, weights_only=True)
            config = stored["config"]
        except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
            raise ValueError(f"{self.file} is no state of a refinement ({error!r}); delete it to begin anew") from error
        if self.hand.has_fingerprint(config.get("hand")):
            config["hand"] = self.config["hand"]  # an older file names the hand in another form
        changed = [k for k in self.config if config.get(k) != self.config[k]]
        if changed:
            raise ValueError(
                f"{self.file.parent} holds a refinement with other {', '.join(changed)}; choose another folder or delete it"
            )
        return stored

    def restore(self, **parts) -> dict:
        """Put the stored state into the given modules, optimisers and tensors, if there is one; returns its `extra`."""
        stored = self.stored()
        if stored is None:
            return {}
        self.done, self.curve = stored["done"], stored["curve"]
        for name, part in parts.items():
            if isinstance(part, Tensor):
                part.data.copy_(stored["parts"][name])
            else:
                part.load_state_dict(stored["parts"][name])
        return stored["extra"]

    def save(self, extra: dict | None = None, **parts):
        if self.file is None or not self.writes:
            return
        tensors = {
            name: part.detach() if isinstance(part, Tensor) else part.state_dict() for name, part in parts.items()
        }
        stored = {"config": self.config, "done": self.done, "curve": self.curve, "parts": tensors, "extra": extra or {}}
        buffer = io.BytesIO()
        torch.save(stored, buffer)
        try:
            write_bytes_atomically(self.file, buffer.getvalue())
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot save the refinement to {self.file.parent}: {error.strerror}. Free space there and run the same "
                "again; what was saved before is kept and goes on",
            ) from error

    def stop(self, **parts):
        self.save(**parts)
        if self.file is not None and self.writes:
            tqdm.write(f"stopped after {self.done} steps; the same again goes on from {self.file}")
        raise KeyboardInterrupt
