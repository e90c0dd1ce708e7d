"""Make data/pseudo_nyu/poses.safetensors: our hand fitted to the labels of NYU's test set, frame by frame.

    python data/pseudo_nyu/build.py

Needs the labels below HRLIB_DATA_MIRROR (`hrlib fetch published`). A few minutes on two cores.
"""

from hrlib.datasets.pseudo import NYU_POSES, load_poses, real_labels, save_poses
from hrlib.datasets.published import TEST_SETS
from hrlib.evaluation.joint_errors import errors_mm
from hrlib.hand.inverse_kinematics import fit_to_joints
from hrlib.hand.rig import load_hand

ORIGIN = {
    "what": "poses of hrlib's template hand, fitted to the joint labels of the NYU Hand Pose test set",
    "labels": "Tompson, Stein, LeCun, Perlin: Real-Time Continuous Pose Recovery of Human Hands Using Convolutional "
    "Networks, ACM Transactions on Graphics 33(5), 2014",
    "licence": "CC BY 4.0, as that of the labels",
}


def main():
    template, labels = load_hand(), real_labels("nyu")
    poses = fit_to_joints(labels, TEST_SETS["nyu"].subject, template, "nyu")
    save_poses(NYU_POSES, poses, template, ORIGIN)
    residual, rounding = (
        errors_mm(load_poses(NYU_POSES, template).fitted_mm.numpy(), x) for x in (labels, poses.fitted_mm.numpy())
    )
    print(
        f"{len(labels)} frames, {residual.mean():.2f} mm from the 36 labels in the mean, {rounding.max():.3f} mm rounding"
    )
    print(f"written to {NYU_POSES.parent.name}/{NYU_POSES.name}, {NYU_POSES.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
