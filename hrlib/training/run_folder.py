"""What a pretraining keeps on disk: state.pt to go on, base.safetensors and hand.safetensors to use, training.json to read."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch

from ..hand.rig import HandRig, save_hand
from ..network.checkpoint import HAND, save_network
from ..network.posenet import PoseNet, fold_batch_norm
from ..support.files import write_json
from ..support.state_files import cannot_save, read_state, write_state


@dataclass
class Progress:
    """How far a training has come."""

    step: int = 0  # steps done
    curve: list[dict] = field(default_factory=list)  # mean loss and joint error of every `curve_every` steps
    recent: list[list[float]] = field(default_factory=list)  # loss and joint error of each step since then
    seconds: float = 0.0  # spent on those steps


class RunFolder:
    """The files of one training of a hand, in the folder `out`.

    settings: named dataclasses, which a run that goes on must have in common with its state. start: record of the
    checkpoint that the training begins with. writes: whether this process is the one that writes.
    """

    def __init__(self, out: Path, settings: dict, hand: HandRig, start: dict | None, writes: bool):
        self.out, self.hand, self.writes = out, hand, writes
        self.state_file, self.saved = out / "state.pt", 0
        self.defaults = _plain({name: type(value)() for name, value in settings.items()})
        self.config = _plain(settings) | {"hand": hand.fingerprint}
        if start is not None:
            self.config["start"] = start

    def read(self) -> tuple[dict, Progress] | None:
        """What `save` wrote to state.pt (with "net" and "optimiser"), and how far it is; None without such a file.

        Raises:
            ValueError: the file is damaged, or of a run with other settings.
        """
        if not self.state_file.exists():
            return None
        state = read_state(self.state_file, "a training")
        # a setting that is newer than the file had its default's effect
        stored = state["config"] | {name: new | state["config"].get(name, {}) for name, new in self.defaults.items()}
        if self.hand.has_fingerprint(stored.get("hand")):
            stored["hand"] = self.config["hand"]  # an older file names the hand in another form
        if stored != self.config:
            flat = [{f"{k}.{n}": v for k in self.defaults for n, v in x[k].items()} for x in (stored, self.config)]
            changed = [f"{k} {flat[0].get(k)} -> {v}" for k, v in flat[1].items() if flat[0].get(k) != v]
            what = ", ".join(changed) or "another hand or start"
            raise ValueError(f"{self.out} holds a run with other settings; choose another folder or delete it ({what})")
        self.saved = state["step"]
        return state, Progress(**{f.name: state[f.name] for f in fields(Progress)})

    def save(self, progress: Progress, net: PoseNet, optimiser: torch.optim.Optimizer, frames_drawn: int) -> dict:
        """Write what is needed to go on, and the network as it is shipped: float16, normalisation folded in.

        Returns:
            The record in training.json, in every process.

        Raises:
            OSError: a file cannot be written; says what is kept.
        """
        counts = {"steps_done": progress.step, "frames_drawn": frames_drawn, "seconds": progress.seconds}
        record = self.config | counts
        if not self.writes:
            return record | {"curve": progress.curve}
        parts = {"config": self.config, "net": net.state_dict(), "optimiser": optimiser.state_dict()}
        shipped = PoseNet(net.settings)  # on the CPU, and without what several processes add
        shipped.load_state_dict(net.state_dict())
        shipped = fold_batch_norm(shipped) if net.settings.batch_norm else shipped
        try:
            write_state(self.state_file, parts | vars(progress))
            self.saved = progress.step
            save_hand(self.out / HAND, self.hand, f"the hand of {self.out.name}")
            save_network(self.out / "base.safetensors", shipped, self.hand, record, torch.float16)
            write_json(self.out / "training.json", record | {"curve": progress.curve})
        except OSError as error:
            run = f"the training to {self.out} after step {progress.step}"
            raise cannot_save(error, run, f"what {self.state_file} holds, {self.saved} steps,") from error
        return record | {"curve": progress.curve}


def _plain(settings: dict) -> dict:
    """Settings as JSON gives them back: a tuple is a list."""
    return json.loads(json.dumps({name: asdict(value) for name, value in settings.items()}))
