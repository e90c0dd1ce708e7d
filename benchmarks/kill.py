"""Kill processes at random moments, and look whether anything was lost.

    python benchmarks/kill.py              # 100 kills, some minutes; writes results/kill.json
    python benchmarks/kill.py --kills 20 --out /tmp/kill.json

What is killed (SIGKILL, which nobody can catch): processes that write files, states and checkpoints over and over, an export,
a training, and a refinement. After each kill all files must be whole, the newest or the one before. A training and a
refinement go on after each kill, and must end with the very numbers of an unbroken run. "Lost" counts whatever is not so.
"""

import argparse
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.hand.rig import load_hand
from hrlib.network.checkpoint import load_network, save_network
from hrlib.network.onnx import OnnxPredictor, export_onnx
from hrlib.network.posenet import NetworkSettings, PoseNet
from hrlib.refine import PaperSettings, refine
from hrlib.support import paths
from hrlib.support.files import write_together
from hrlib.support.state_files import read_state, write_state
from hrlib.support.tensor_files import read_tensors
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings
from hrlib.training.pretrain import PretrainSettings, pretrain

SMALL = NetworkSettings(backbone="resnet", rotation="6d", keep_probability=1.0)
FRAMES = SyntheticSettings(window_px=96, focal_px=180.0)
TRAINING = PretrainSettings(steps=6, batch=2, memory=1, checkpoint_every=1, curve_every=1, bfloat16=False)
REFINEMENT = PaperSettings(epochs=4, batch=2, micro=2)
BYTES = 2**21  # of each file that is written over and over


@dataclass(frozen=True)
class Job:
    """Something to kill."""

    run: Callable[[Path], None]  # in a folder
    check: Callable[[Path], None]  # raises an error for what is lost there
    share: int  # of the kills
    longest_s: float | None  # after which it is killed at the latest; None: it ends by itself, and goes on after a kill


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


JOBS = {
    "two files": Job(write_files, check_files, 30, 0.5),
    "state": Job(write_states, check_state, 25, 0.5),
    "checkpoint": Job(write_networks, check_network, 20, 1.0),
    "export": Job(export, check_export, 5, 8.0),
    "pretraining": Job(train, check_training, 10, None),
    "refinement": Job(refine_some, check_refinement, 10, None),
}


def begin(job: Job, folder: Path) -> int:
    """The number of a new process that runs the job."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 1)
        job.run(folder)
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)


def kill_after(child: int, seconds: float) -> int | None:
    """Kill a process after that time; its exit status if it ends before, else None."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return None if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL else 0


def torment(job: Job, kills: int, chance: random.Random, progress: tqdm) -> dict:
    """Kill a job so many times; counts, and what was lost."""
    counts = {"tried": 0, "survived": 0, "lost": []}
    with TemporaryDirectory() as whole, TemporaryDirectory() as folder:
        unbroken, folder, longest_s = None, Path(folder), job.longest_s
        if longest_s is None:
            began = time.monotonic()
            assert kill_after(begin(job, Path(whole)), 3600) == 0, "the unbroken run failed"
            unbroken, longest_s = weights(Path(whole)), 0.7 * (time.monotonic() - began)
        while counts["tried"] < kills:
            status = kill_after(begin(job, folder), chance.uniform(0, longest_s))
            fault = None if status in (None, 0) else f"exit status {status}"
            if status is None:
                counts["tried"] += 1
                progress.update()
            try:
                job.check(folder)
                if status == 0 and unbroken and not same(weights(folder), unbroken):
                    fault = "the resumed run ends elsewhere than the unbroken one"
            except Exception as error:
                fault = f"{error!r}"
            if fault:
                counts["lost"].append(fault)
            elif status is None:
                counts["survived"] += 1
            if status is not None:  # done: the next one begins anew
                for path in folder.iterdir():
                    path.unlink()
        finish(job, folder, unbroken, counts)
    return counts


def finish(job: Job, folder: Path, unbroken: dict | None, counts: dict) -> None:
    """Let the last run go on to its end, and look for what killed processes left behind."""
    if unbroken:
        if kill_after(begin(job, folder), 3600) != 0 or not same(weights(folder), unbroken):
            counts["lost"].append("the last run did not end as the unbroken one")
    else:
        kill_after(begin(job, folder), 5 * job.longest_s)
        with suppress(Exception):
            job.check(folder)
    left = [path.name for path in folder.glob(".*.partial")]
    if len(left) > 2:  # those of the process killed last
        counts["lost"].append(f"{len(left)} temporary files are left")


def weights(folder: Path) -> dict:
    (name,) = (n for n in ("refined.safetensors", "base.safetensors") if (folder / n).exists())
    return read_tensors(folder / name)[1]


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=paths.BENCHMARKS / "kill.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shares = {name: JOBS[name].share for name in arguments.only}
    plan = [name for name in shares for _ in range(round(arguments.kills * shares[name] / sum(shares.values())))]
    plan += [arguments.only[0]] * (arguments.kills - len(plan))
    plan = plan[: arguments.kills]
    jobs, chance = {}, random.Random(arguments.seed)
    with tqdm(total=len(plan), desc="kill") as progress:
        for name in arguments.only:
            if plan.count(name):
                jobs[name] = torment(JOBS[name], plan.count(name), chance, progress)
    counts = {key: sum(job[key] for job in jobs.values()) for key in ("tried", "survived")}
    counts["lost"] = sum(len(job["lost"]) for job in jobs.values())
    parameters = {"kills": arguments.kills, "only": arguments.only}
    made = results.provenance(parameters, arguments.seed, {"hand": paths.HAND_ASSET})
    results.write_result(arguments.out, "kill", counts | {"jobs": jobs}, {}, made, "full")
    print(f"tried {counts['tried']}, survived {counts['survived']}, lost {counts['lost']}")
    return int(counts["lost"] > 0)


if __name__ == "__main__":
    sys.exit(main())
