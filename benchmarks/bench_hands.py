"""Hands of one's own, from file to refined model: the WebXR hand, whose bones are found by name, and a scan with a map.

Writes benchmarks/results/hands.json. For each hand the shipped model learns 20,000 synthetic frames of people who have that
rig (`hrlib pretrain --hand FILE --start base`), in runs/hands. It is compared with the shipped model as it is, which poses
the rig but never saw it, on held-out synthetic frames. Then a simulated person with a smaller hand of the rig is refined
for without labels. Goes on where a stopped run was; runs of single hands may share the work. About five minutes of one core
a hand. Nothing is chosen by these numbers: two test people have these hands.

With --figure, draws figures/hands.png instead: the template and both hands in the same poses.
"""

import argparse
import json
import time
from pathlib import Path

import by_user
import numpy as np
import torch
from matplotlib.figure import Figure

from hrlib.companion import results
from hrlib.companion.hand_explorer import look
from hrlib.datasets.fetch import dataset_folder
from hrlib.drawing import plots
from hrlib.evaluation.joint_errors import errors_without, joint_error_mm
from hrlib.hand.files import skinned_glb
from hrlib.hand.from_file import hand_from_file
from hrlib.hand.joints import FINGERS, JOINT_POINTS
from hrlib.hand.named_poses import LETTERS, PRESETS, pose, rest_angles
from hrlib.hand.rig import HandRig, load_hand
from hrlib.method import predicted_joints
from hrlib.network.checkpoint import load_network
from hrlib.network.known import told_what_it_sees
from hrlib.network.posenet import PoseNet
from hrlib.network.predict import predict_turned
from hrlib.refine import RECIPES, refine
from hrlib.refine.gauss_newton import fitted_poses
from hrlib.support.paths import BASE_MODEL, BENCHMARKS, HAND_ASSET, RUNS
from hrlib.synthetic.frames import Synthesiser, SyntheticBatch
from hrlib.synthetic.many_hands import FRAMES
from hrlib.synthetic.people import SimulatedUser, record
from hrlib.training.pretrain import PretrainSettings, pretrain

HANDS = ("webxr", "scan")
LEARNING = PretrainSettings(steps=100, batch=200, learning_rate=3e-4, checkpoint_every=10)
SMALLER = 0.92  # the simulated person's hand, times the rig's
HELD_OUT_SEED = 10**6  # of synthetic frames; training's seeds are below


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hands", nargs="+", default=HANDS, help="some of them, kept for a run with all of them")
    parser.add_argument("--frames", type=int, default=200, help="held-out synthetic frames of each hand")
    parser.add_argument("--train", type=int, default=200, help="unlabelled frames of each simulated person")
    parser.add_argument("--test", type=int, default=100, help="test frames of each simulated person")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "hands.json")
    parser.add_argument("--figure", action="store_true", help="only draw the hands, in seconds")
    arguments = parser.parse_args()
    if arguments.figure:
        return draw()
    parameters = {key: getattr(arguments, key) for key in ("frames", "train", "test")}
    parameters |= {"learning": LEARNING, "smaller": SMALLER}
    files = data_files()
    made = results.provenance(parameters, LEARNING.seed, files | {"hand": HAND_ASSET, "base model": BASE_MODEL})
    kept = by_user.Partial(arguments.out, "+".join(arguments.hands), made)
    if rows := kept.rows(arguments.hands, HANDS, lambda name: row(name, arguments)):
        kept.finish("hands", {"hands": rows}, {}, "full")


# -- side by side -----------------------------------------------------------------------------------------------------


def draw() -> None:
    """Write figures/hands.png and .json."""
    hands = {"template": load_hand(), "WebXR hand": load("webxr"), "scan of a hand": load("scan")}
    poses = {"as modelled": None, "open": PRESETS["open"], "fist": PRESETS["fist"]}
    poses |= {"point": PRESETS["point"], "pinch": PRESETS["pinch"], "letter Y": LETTERS["Y"]}
    metrics = {
        name: {"vertices": len(hand.vertices_mm), "palm_mm": hand.bones_mm[7].norm().item()}
        for name, hand in hands.items()
    }
    made = results.provenance({"poses": list(poses)}, None, data_files() | {"hand": HAND_ASSET})
    results.save_figure(sheet(hands, poses), "hands", {"hands": metrics}, {}, made, "full")


def sheet(hands: dict[str, HandRig], poses: dict[str, dict[str, float] | None]) -> Figure:
    """A row for each hand: its mesh with the 21 points in each pose, given as angles in degrees or None for its rest pose."""
    figure, axes = plots.grid(len(hands), len(poses), 1.5)
    for row, (name, hand) in zip(axes, hands.items(), strict=True):
        for axis, (title, angles) in zip(row, poses.items(), strict=True):
            rotations = pose(rest_angles(hand) if angles is None else angles, within_limits=False)
            axis.imshow(look(hand, rotations.to(hand.vertices_mm), 380).mesh)
            plots._bare(axis, title if hand is hands["template"] else "")
        row[0].set_ylabel(name)
    return figure


# -- the files --------------------------------------------------------------------------------------------------------


def data_files() -> dict[str, Path]:
    """The published files of both hands."""
    return {"webxr": webxr_file(), "scan": dataset_folder("tzionas_hands") / "hand_R.npz"}


def webxr_file() -> Path:
    """The hand of the W3C's WebXR input profiles, as it is published."""
    return dataset_folder("rigs") / "webxr_generic_hand" / "right.glb"


def scan_file(folder: Path) -> tuple[Path, Path]:
    """The scanned hand of Tzionas et al. as a .glb with its own bones, and the map of these bones; written into `folder`."""
    with np.load(dataset_folder("tzionas_hands") / "hand_R.npz") as hand:
        T_rest = np.tile(np.eye(4), (len(hand["rest"]), 1, 1))
        T_rest[:, :3] = hand["rest"]
        T_rest[:, :3, 3] /= 1000
        bones = list(zip(map(str, hand["bones"]), hand["parents"].tolist(), T_rest, strict=True))
        mesh = hand["vertices"] / 1000, hand["faces"], hand["weights"].astype(float)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scan.glb").write_bytes(skinned_glb("scan", bones, mesh))
    (folder / "scan.json").write_text(json.dumps(scan_bones(), indent=1))
    return folder / "scan.glb", folder / "scan.json"


def scan_bones() -> dict[str, str | list[str]]:
    """Its fingers have numbers, the little one's is 0, and each a bone in the palm, which is the thumb's base."""
    thumb = {"thumb_base": "RFing.4_Hand", "thumb_middle": "RFing.4_0", "thumb_far": "RFing.4_1"}
    fingers = {
        f"{finger}_{part}": f"RFing.{3 - i}_{k}"
        for i, finger in enumerate(FINGERS[1:])
        for k, part in enumerate(("base", "middle", "far"))
    }
    return {"wrist": ["Lower Arm R", *(f"RFing.{i}_Hand" for i in range(4))]} | thumb | fingers


def load(name: str) -> HandRig:
    """A rig, as `hrlib pretrain --hand FILE [--bones MAP]` loads it."""
    return hand_from_file(webxr_file()) if name == "webxr" else hand_from_file(*scan_file(RUNS / "hands"))


# -- from file to refined model ---------------------------------------------------------------------------------------


def row(name: str, arguments: argparse.Namespace) -> dict:
    """All numbers of one hand; times are of the processor, since other programs may run."""
    began = time.process_time()
    hand = load(name)
    loaded_s = time.process_time() - began
    out = RUNS / "hands" / name
    settings = load_network(load_hand())[0].settings
    began = time.process_time()
    pretrain(hand, out, LEARNING, settings, FRAMES, BASE_MODEL, device="cpu")
    pretrain_s = time.process_time() - began
    net, _ = load_network(hand, out / "base.safetensors")
    shipped, _ = load_network(load_hand())
    held_out = Synthesiser(hand, FRAMES).batch(arguments.frames, HELD_OUT_SEED)
    user = SimulatedUser(f"{name}, smaller", "a smaller hand of the rig, Kinect", scale=SMALLER, seed=20 + len(name))
    test = record(user, hand, arguments.test, "test", progress=False)
    train = record(user, hand, arguments.train, "train", progress=False)
    began = time.process_time()
    refined = refine(net, hand, train.crops, RECIPES["best"], progress=False)
    refine_s = time.process_time() - began
    before, after = (ways(net, hand, test), ways(refined.net, refined.hand, test, told=False))
    return {
        "vertices": len(hand.vertices_mm),
        "load_s": loaded_s,
        "pretrain_s": pretrain_s,
        "images": LEARNING.steps * LEARNING.batch,
        "held_out": {"shipped": ways(shipped, hand, held_out), "trained": ways(net, hand, held_out)},
        "person": {"frames": len(train), "test_frames": len(test), "shipped": ways(shipped, hand, test)}
        | {"before": before, "after": after, "refine_s": refine_s, "warnings": list(refined.warnings)},
    }


def ways(net: PoseNet, hand: HandRig, test: SyntheticBatch, told: bool = True) -> dict[str, float]:
    """Mean error of 16 joints, mm: as `hrlib predict` sees the frames, without each joint's offset, and with poses fitted."""
    net, hand = told_what_it_sees(net, hand, test.crops) if told else (net, hand)
    began = time.process_time()
    seen = predict_turned(net, test.crops)
    seen_ms = 1000 * (time.process_time() - began) / len(test)
    fitted = fitted_poses(hand, test.crops, seen, progress=False).prediction
    points, better = (predicted_joints(prediction, hand, test.crops) for prediction in (seen, fitted))
    joints = list(JOINT_POINTS)
    without = errors_without("hand", points.numpy(), test.joints_mm.numpy())[:, joints]
    return {
        "mean16": float(joint_error_mm(points, test.joints_mm, JOINT_POINTS).mean()),
        "offset_removed": float(without.mean()),
        "fitted": float(joint_error_mm(better, test.joints_mm, JOINT_POINTS).mean()),
        "predict_ms": seen_ms,
    }


if __name__ == "__main__":
    torch.manual_seed(LEARNING.seed)
    main()
