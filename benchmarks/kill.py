"""Stop processes at random moments, and look whether anything was lost.

    python benchmarks/kill.py              # 100 times, a quarter of an hour on two idle cores; writes results/kill.json
    python benchmarks/kill.py --kills 20 --out /tmp/kill.json

Signals come in turn: KILL, which nobody can catch, TERM (a system shuts down), HUP (a terminal closes), INT (Ctrl-C). What they
stop: processes that write files, states and checkpoints over and over, an export, a training, a refinement, and `hrlib
reproduce` with one notebook. After each signal all files must be whole, the newest or the one before, and no process may be
left. Training, refinement and figures go on afterwards, and must end with the very numbers of an unbroken run. "Lost" counts
whatever is not so.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import survival
import torch
from PIL import Image
from repeat import figure_digests, made_by_smoke
from tqdm import tqdm

from hrlib.companion import results
from hrlib.companion.reproduce import reproduce
from hrlib.hand.rig import load_hand
from hrlib.network.checkpoint import load_network, save_network
from hrlib.network.onnx import OnnxPredictor, export_onnx
from hrlib.network.posenet import NetworkSettings, PoseNet
from hrlib.refine import PaperSettings, refine
from hrlib.support import paths
from hrlib.support.files import write_together
from hrlib.support.state_files import read_state, write_state
from hrlib.support.stops import STOPS, signals_as_ctrl_c, stopped_by
from hrlib.support.tensor_files import read_tensors
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings
from hrlib.training.pretrain import PretrainSettings, pretrain

SMALL = NetworkSettings(backbone="resnet", rotation="6d", keep_probability=1.0)
FRAMES = SyntheticSettings(window_px=96, focal_px=180.0)
TRAINING = PretrainSettings(steps=6, batch=2, memory=1, checkpoint_every=1, curve_every=1, bfloat16=False)
REFINEMENT = PaperSettings(epochs=4, batch=2, micro=2)
BYTES = 2**21  # of each file that is written over and over
SIGNALS = (signal.SIGKILL, *sorted(STOPS, reverse=True))
NOTEBOOK = "03"  # draws in the least time
PATIENCE_S = 600.0  # for a process to end after a signal, on a busy machine
ORPHANS_S = 60.0  # for what it has started to end as well
MARK, ORIGIN = "HRLIB_KILL_RUN", os.getpid()  # in the environment of what a killed process has started


@dataclass(frozen=True)
class Job:
    """Something to kill."""

    run: Callable[[Path], None]  # in a folder
    check: Callable[[Path], None]  # raises an error for what is lost there
    share: int  # of the kills
    # after which it is killed at the latest; None: it ends by itself, and goes on after a kill
    longest_s: float | None = None
    outcome: Callable[[Path], dict] | None = None  # of one that ends by itself: the same after an unbroken run


def write_files(folder: Path) -> None:
    for i in range(10**6):
        write_together({folder / name: bytes([i % 251]) * BYTES for name in ("a.bin", "b.bin")})


def check_files(folder: Path) -> None:
    for path in folder.glob("*.bin"):
        content = path.read_bytes()
        assert len(content) == BYTES and content == content[:1] * BYTES, f"{path.name} is half written"


def write_states(folder: Path) -> None:
    for i in range(10**6):
        write_state(folder / "state.pt", {"config": {}, "step": i, "weights": torch.full((BYTES // 4,), float(i))})


def check_state(folder: Path) -> None:
    if (folder / "state.pt").exists():
        state = read_state(folder / "state.pt", "a test")
        assert (state["weights"] == state["step"]).all()


def write_networks(folder: Path) -> None:
    for i in range(10**6):
        torch.manual_seed(i)
        save_network(folder / "net.safetensors", PoseNet(SMALL), load_hand(), {"seed": i})


def check_network(folder: Path) -> None:
    if (folder / "net.safetensors").exists():
        load_network(load_hand(), folder / "net.safetensors")


def export(folder: Path) -> None:
    net, hand = PoseNet(SMALL).eval(), load_hand()
    for _ in range(10**6):
        export_onnx(folder / "net.onnx", net, hand)


def check_export(folder: Path) -> None:
    if (folder / "net.onnx").exists():
        OnnxPredictor(folder / "net.onnx", 1)


def train(folder: Path) -> None:
    pretrain(load_hand(), folder, TRAINING, SMALL, FRAMES, progress=False, device="cpu")


def check_training(folder: Path) -> None:
    if (folder / "state.pt").exists():
        assert read_state(folder / "state.pt", "a training")["step"] >= 1
    if (folder / "base.safetensors").exists():
        load_network(load_hand(), folder / "base.safetensors")


def refine_some(folder: Path) -> None:
    hand = load_hand()
    torch.manual_seed(0)
    crops = Synthesiser(hand, FRAMES).batch(4, 1).crops
    refined = refine(PoseNet(SMALL).eval(), hand, crops, REFINEMENT, folder, progress=False)
    save_network(folder / "refined.safetensors", refined.net, hand, {})


def check_refinement(folder: Path) -> None:
    if (folder / "state.pt").exists():
        assert read_state(folder / "state.pt", "a refinement")["done"] >= 1


def draw(folder: Path) -> None:
    status = reproduce("smoke", (NOTEBOOK,))
    if status > 128:
        raise KeyboardInterrupt  # as it was stopped, and told so
    assert status == 0, f"status {status}"


def check_figures(folder: Path) -> None:
    for path in (path for path in made_by_smoke() if path.name.startswith(NOTEBOOK)):
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        else:
            json.loads(path.read_text())
    for page in paths.BUILD.glob("*.html"):
        assert page.read_text().rstrip().endswith("</html>"), f"{page.name} is half written"


def drawn(folder: Path) -> dict[str, str]:
    made = figure_digests(path for path in made_by_smoke() if path.name.startswith(NOTEBOOK))
    assert made, f"notebook {NOTEBOOK} drew nothing"
    return made


def weights(folder: Path) -> dict[str, bytes]:
    (name,) = (n for n in ("refined.safetensors", "base.safetensors") if (folder / n).exists())
    return {key: value.numpy().tobytes() for key, value in read_tensors(folder / name)[1].items()}


JOBS = {
    "two files": Job(write_files, check_files, 28, 0.5),
    "state": Job(write_states, check_state, 23, 0.5),
    "checkpoint": Job(write_networks, check_network, 19, 1.0),
    "export": Job(export, check_export, 5, 8.0),
    "pretraining": Job(train, check_training, 10, outcome=weights),
    "refinement": Job(refine_some, check_refinement, 10, outcome=weights),
    "figures of a notebook": Job(draw, check_figures, 5, outcome=drawn),
}


def begin(job: Job, folder: Path) -> int:
    """The number of a new process that runs the job; what it says goes to a file beside the folder."""

    def work() -> int:
        os.environ[MARK] = str(ORIGIN)
        try:
            with signals_as_ctrl_c():
                survival.take_signals()
                job.run(folder)
        except KeyboardInterrupt:
            return stopped_by()[0]
        return 0

    return survival.forked(said(folder), work)


def said(folder: Path) -> Path:
    return folder.with_suffix(".txt")


def kill_after(child: int, seconds: float, number: int = signal.SIGKILL) -> int | None:
    """Send a process the signal after that time; its exit status, or None where the signal ended it.

    Raises AssertionError for a process that goes on for `PATIENCE_S`, which is killed then.
    """
    status = ended_within(child, seconds)
    if status is not None:
        return status
    os.kill(child, number)
    status = ended_within(child, PATIENCE_S)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise AssertionError(f"{signal.Signals(number).name} did not end it")
    return None if status in (-number, 128 + number) else status


def ended_within(child: int, seconds: float) -> int | None:
    """The exit status of a process; None if it does not end within that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def check_orphans() -> None:
    """Raise AssertionError for processes that outlive by `ORPHANS_S` the killed ones that started them (known on Linux)."""
    end = time.monotonic() + ORPHANS_S
    while left := orphans():
        assert time.monotonic() < end, f"processes go on: {left}"
        time.sleep(0.1)


def orphans() -> list[str]:
    known, begins = [], f"{MARK}={ORIGIN}\0".encode()
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if begins in (place / "environ").read_bytes():
                known.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:100])
    return known


def torment(job: Job, kills: int, chance: random.Random, numbers: Iterator[int], progress: tqdm) -> dict:
    """Send a job so many signals; counts, and what was lost."""
    counts = {"tried": 0, "survived": 0, "lost": [], "signals": {}}
    with TemporaryDirectory() as home:
        whole, folder = Path(home) / "whole", Path(home) / "broken"
        whole.mkdir()
        folder.mkdir()
        unbroken, longest_s = None, job.longest_s
        if longest_s is None:
            began = time.monotonic()
            assert kill_after(begin(job, whole), 3600) == 0, f"the unbroken run failed: {said(whole).read_text()}"
            unbroken, longest_s = job.outcome(whole), 0.7 * (time.monotonic() - began)
        number = next(numbers)
        while counts["tried"] < kills:
            fault = status = None
            try:
                status = kill_after(begin(job, folder), chance.uniform(0, longest_s), number)
                check_orphans()
                job.check(folder)
                assert status in (None, 0), f"exit status {status}: {said(folder).read_text(errors='replace')[-600:]}"
                assert status is None or not unbroken or job.outcome(folder) == unbroken, (
                    "the resumed run ends elsewhere than the unbroken one"
                )
            except Exception as error:
                fault = f"{signal.Signals(number).name}: {error!r}"
                counts["lost"].append(fault)
            if status is None:
                counts["tried"] += 1
                counts["survived"] += not fault
                name = signal.Signals(number).name
                counts["signals"][name] = counts["signals"].get(name, 0) + 1
                if counts["tried"] < kills:
                    number = next(numbers)
                progress.update()
            else:  # done: the next one begins anew
                for path in folder.iterdir():
                    path.unlink()
        finish(job, folder, unbroken, counts)
    return counts


def finish(job: Job, folder: Path, unbroken: dict | None, counts: dict) -> None:
    """Let the last run go on to its end, and look for what killed processes left behind."""
    if unbroken:
        if kill_after(begin(job, folder), 3600) != 0 or job.outcome(folder) != unbroken:
            counts["lost"].append("the last run did not end as the unbroken one")
    else:
        kill_after(begin(job, folder), 5 * job.longest_s)
        with suppress(Exception):
            job.check(folder)
    left = [path.name for path in folder.glob(".*.partial")]
    if len(left) > 2:  # those of the process killed last
        counts["lost"].append(f"{len(left)} temporary files are left")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=paths.BENCHMARKS / "kill.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shares = {name: JOBS[name].share for name in arguments.only}
    plan = [name for name in shares for _ in range(arguments.kills * shares[name] // sum(shares.values()))]
    plan += [arguments.only[0]] * (arguments.kills - len(plan))
    jobs, chance, numbers = {}, random.Random(arguments.seed), cycle(SIGNALS)
    with tqdm(total=len(plan), desc="kill") as progress:
        for name in arguments.only:
            if plan.count(name):
                jobs[name] = torment(JOBS[name], plan.count(name), chance, numbers, progress)
    counts = survival.counted(jobs.values())
    parameters = {"kills": arguments.kills, "only": arguments.only}
    made = results.provenance(parameters, arguments.seed, {"hand": paths.HAND_ASSET})
    survival.write(arguments.out, "kill", counts, {"jobs": jobs}, made)
    print(f"tried {counts['tried']}, survived {counts['survived']}, lost {counts['lost']}")
    return int(counts["lost"] > 0)


if __name__ == "__main__":
    sys.exit(main())
