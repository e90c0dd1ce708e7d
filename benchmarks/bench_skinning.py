"""Kinematics and skinning (Sec. 3.3.1, Eq. 2) against smplx on the same arrays and equal work, forward and backward.

    pip install smplx && python benchmarks/bench_skinning.py      # half a minute; writes benchmarks/results/skinning.json

Both pose the hand's cloud P with the same rotations, and their points are checked equal before anything is timed. smplx's
`lbs` regresses joints and adds blend shapes too. So what counts is the time of its own lines without them; the whole is timed
beside it.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.hand.joints import PARENTS
from hrlib.hand.kinematics import forward_kinematics
from hrlib.hand.rig import load_hand
from hrlib.hand.skinning import skin, skinning_transforms
from hrlib.support.paths import BENCHMARKS, HAND_ASSET
from hrlib.synthetic.poses import sample_poses


def make_case(batch: int) -> dict:
    """The same poses in both conventions: quaternions in anatomical frames, and matrices relative to the parent's at rest."""
    hand, generator = load_hand(), torch.Generator().manual_seed(0)
    q = sample_poses(batch, hand, generator)
    wrist_mm = torch.tensor([0.0, 0.0, 500.0]) + 20 * torch.randn(batch, 3, generator=generator)
    turned = skinning_transforms(hand, forward_kinematics(hand, q, wrist_mm))[:, :, :3, :3]
    parents = torch.tensor(PARENTS)
    local = torch.cat([turned[:, :1], turned[:, parents[1:]].mT @ turned[:, 1:]], 1)
    return {"hand": hand, "q": q, "wrist_mm": wrist_mm, "local": local, "parents": parents}


def ours(case):
    """A function of nothing: posed points [B, N, 3], and the leaves that gradients are taken in."""
    hand, P, q = case["hand"], case["hand"].cloud_mm.clone().requires_grad_(), case["q"].clone().requires_grad_()

    def run():
        M = skinning_transforms(hand, forward_kinematics(hand, q, case["wrist_mm"]))
        return skin(P, hand.cloud_weights, M)

    return run, (P, q)


def smplx_whole(case):
    from smplx.lbs import lbs

    hand = case["hand"]
    P, local = hand.cloud_mm.clone().requires_grad_(), case["local"].clone().requires_grad_()
    points, batch = len(P), len(local)
    regressor = hand.joints_mm @ torch.linalg.pinv(hand.cloud_mm.double()).float()  # the joints, from these points
    betas, shapes = torch.zeros(batch, 1), torch.zeros(points, 3, 1)
    pose_shapes = torch.zeros(9 * 15, 3 * points)
    shift = (case["wrist_mm"] - hand.joints_mm[0])[:, None]

    def run():
        arrays = (P[None].expand(batch, -1, -1), shapes, pose_shapes, regressor, case["parents"], hand.cloud_weights)
        return lbs(betas, local, *arrays, pose2rot=False)[0] + shift

    return run, (P, local)


def smplx_core(case):
    """The lines of `lbs` that do what ours do: its chain of transforms, blended and applied as it does."""
    from smplx.lbs import batch_rigid_transform

    hand = case["hand"]
    P, local = hand.cloud_mm.clone().requires_grad_(), case["local"].clone().requires_grad_()
    batch = len(local)
    joints, ones = hand.joints_mm[None].expand(batch, -1, -1), torch.ones(batch, len(P), 1)
    shift = (case["wrist_mm"] - hand.joints_mm[0])[:, None]

    def run():
        _, A = batch_rigid_transform(local, joints, case["parents"])
        T = (hand.cloud_weights @ A.flatten(2)).unflatten(2, (4, 4))
        at = torch.cat([P[None].expand(batch, -1, -1), ones], 2)[..., None]
        return (T @ at)[:, :, :3, 0] + shift

    return run, (P, local)


CANDIDATES = {"hrlib": ours, "smplx lbs": smplx_whole, "smplx without blend shapes": smplx_core}


def measure(case, repeats: int) -> dict:
    """Largest difference of the points in mm, and milliseconds forward and backward, the candidates taken by turns."""
    made = {name: make(case) for name, make in CANDIDATES.items()}
    expected = made["hrlib"][0]().detach()
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    differences, gradients = {}, {}
    for name, (run, leaves) in made.items():
        out = run()
        differences[name] = (out.detach() - expected).abs().max().item()
        gradients[name] = torch.autograd.grad(out, leaves, weight)[0]
        assert differences[name] < 0.01, f"{name} poses other points: {differences[name]} mm off"
    # lbs also moves the joints with the points, so its gradient is another one; without that, it is ours
    gap = (gradients["smplx without blend shapes"] - gradients["hrlib"]).abs().max()
    assert gap < 1e-4 * gradients["hrlib"].abs().max(), f"the gradients in the points differ by {gap}"
    times = {name: {"forward": [], "backward": []} for name in made}
    for _ in tqdm(range(repeats), desc=", ".join(made)):
        for name, (run, leaves) in made.items():
            started = time.perf_counter()
            out = run()
            between = time.perf_counter()
            torch.autograd.grad(out, leaves, weight)
            times[name]["backward"].append(1e3 * (time.perf_counter() - between))
            times[name]["forward"].append(1e3 * (between - started))
    fold = {name: {part: statistics.median(t) for part, t in parts.items()} for name, parts in times.items()}
    least = {name: {part: min(t) for part, t in parts.items()} for name, parts in times.items()}
    return {"difference_mm": differences, "median_ms": fold, "min_ms": least}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 100])
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "skinning.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    metrics = {"points": 2048, "threads": arguments.threads}
    metrics["batches"] = {str(batch): measure(make_case(batch), arguments.repeats) for batch in arguments.batches}
    middle = metrics["batches"].get("32") or next(iter(metrics["batches"].values()))
    fold = middle["median_ms"]
    metrics["times_as_fast"] = {  # forward and backward: on equal work
        part + tail: fold[rival][part] / fold["hrlib"][part]
        for tail, rival in (("", "smplx without blend shapes"), (" (whole lbs)", "smplx lbs"))
        for part in ("forward", "backward")
    }
    print({name: round(value, 2) for name, value in metrics["times_as_fast"].items()})
    values = {f"skinning-{part}": metrics["times_as_fast"][part] for part in ("forward", "backward")}
    made = results.provenance({"repeats": arguments.repeats, "threads": arguments.threads}, 0, {"hand": HAND_ASSET})
    profile = "quick" if arguments.repeats >= 15 else "smoke"
    results.write_result(arguments.out, "skinning", metrics, values, made, profile)


if __name__ == "__main__":
    main()
