"""How good the shipped base model is, how far the simulated users are from it, and what labels would bring.

Writes benchmarks/results/users.json: the floor (the base model) and the ceiling (a supervised oracle with true poses and
true bones) of every refinement. About 15 minutes on two cores with the default numbers.
"""

import argparse
from pathlib import Path

import torch
from bench_refine import three_ways

from hrlib.companion import results
from hrlib.evaluation.found import FoundFrames
from hrlib.evaluation.joint_errors import joint_error_mm
from hrlib.hand.joints import JOINT_POINTS
from hrlib.hand.kinematics import forward_kinematics, joint_positions
from hrlib.hand.rig import load_hand
from hrlib.method import predict_joints, wrist_position
from hrlib.network.checkpoint import load_network
from hrlib.support.paths import BENCHMARKS, HAND_ASSET, ONE_HAND_MODEL
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings
from hrlib.synthetic.people import USERS, record
from hrlib.training.oracle import OracleSettings, fit_oracle

CLEAN_SEED = 4_000_000_000  # of frames that no training has drawn


def error_mm(joints, truth) -> dict:
    """Mean and median over the frames, of 16 joints and of all 21 points."""
    frame = joint_error_mm(joints, truth, JOINT_POINTS)
    return {"mean16": frame.mean(), "median16": frame.median(), "mean21": joint_error_mm(joints, truth).mean()}


def clean_error(net, template, frames: int, noise_share: float) -> dict:
    """The base model on fresh synthetic frames of the template's hand."""
    maker = Synthesiser(template, SyntheticSettings(noise_share=noise_share))
    joints, truth = [], []
    for start in range(0, frames, 250):
        batch = maker.batch(min(250, frames - start), CLEAN_SEED + start)
        joints.append(predict_joints(net, template, batch.crops))
        truth.append(batch.joints_mm)
    return error_mm(torch.cat(joints), torch.cat(truth))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=4000, help="frames that each oracle learns from")
    parser.add_argument("--test", type=int, default=1000, help="test frames of each user")
    parser.add_argument("--clean", type=int, default=2000, help="fresh frames of the template's hand")
    parser.add_argument("--epochs", type=int, default=OracleSettings.epochs)
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "users.json")
    arguments = parser.parse_args()
    template = load_hand()
    net, training = load_network(template, ONE_HAND_MODEL)
    metrics = {
        "clean": clean_error(net, template, arguments.clean, 0.0),
        "kinect_noise": clean_error(net, template, arguments.clean, 1.0),
        "users": {},
    }
    for name, user in USERS.items():
        hand, test = user.hand(template), record(user, template, arguments.test, "test")
        train = record(user, template, arguments.train, "train")
        oracle = fit_oracle(net, user, template, train, OracleSettings(epochs=arguments.epochs))
        # what the template's bones cost alone: the true pose, posed with them
        truth = test.true_prediction(template)
        with_template = joint_positions(
            template, forward_kinematics(template, truth.rotations, wrist_position(truth, template, test.crops))
        )
        metrics["users"][name] = row = {
            "description": user.description,
            "test_frames": len(test),
            "test_left_out": test.left_out,
            "test_lost": int(FoundFrames("", test.crops, [], test.joints_mm.double().numpy(), {}).lost.sum()),
            "train_frames": len(train),
            "base": three_ways(net, template, test),
            "base_true_bones": error_mm(predict_joints(net, hand, test.crops), test.joints_mm),
            "true_pose_template_bones": error_mm(with_template, test.joints_mm),
            "oracle": three_ways(oracle, hand, test),
        }
        print(f"{name}: base {row['base']['once']['mean16']:.1f} mm, oracle {row['oracle']['once']['mean16']:.1f} mm")
    parameters = {
        "train": arguments.train,
        "test": arguments.test,
        "clean": arguments.clean,
        "epochs": arguments.epochs,
    }
    parameters["trained"] = {key: training[key] for key in ("steps_done", "seconds") if key in training}
    made = results.provenance(parameters, 0, {"hand": HAND_ASSET, "base model": ONE_HAND_MODEL})
    profile = "quick" if arguments.train >= 4000 else "smoke"
    results.write_result(arguments.out, "users", metrics, values_of(metrics), made, profile)


def values_of(metrics: dict) -> dict[str, float]:
    """The claims' values."""
    clean, base = float(metrics["clean"]["mean16"]), [u["base"]["once"]["mean16"] for u in metrics["users"].values()]
    return {"base-clean": clean, "users-far-mean": sum(base) / len(base) / clean}


if __name__ == "__main__":
    main()
