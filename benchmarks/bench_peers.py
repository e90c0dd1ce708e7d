"""Other people's programs on the same work, in the same run: what a user could take instead of a part of this library.

    pip install --no-deps smplx pytorch-kinematics arm-pytorch-utilities pytorch-seed lxml
    python benchmarks/bench_peers.py --mediapipe-python VENV/bin/python      # five minutes; writes results/peers.json

- MediaPipe's hand landmarks (VENV: see mediapipe_hands.py) on depth frames of the development people A-D, drawn grey.
- pytorch-kinematics: the joints' places from the angles; smplx: the skin.
- open3d: depth images by ray casting, and the hand's cloud fitted to a frame by ICP.

Where both do the same, their outputs are checked equal before anything is timed. Times are those of the processor, of all
threads together, the smallest of several: other programs disturb them least. A peer that is not installed is left out.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import bench_skinning
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from hrlib.companion import results
from hrlib.evaluation.joint_errors import joint_error_mm
from hrlib.frames.find import crop_frames
from hrlib.frames.frame import Frame
from hrlib.hand.joints import JOINT_POINTS, PARENTS
from hrlib.hand.kinematics import forward_kinematics, joint_positions
from hrlib.hand.rig import HandRig, load_hand
from hrlib.hand.rotations import euler_angles, from_euler
from hrlib.hand.skinning import skin, skinning_transforms
from hrlib.method import from_crop, on_the_hand, predicted_joints, wrist_position
from hrlib.network.checkpoint import load_network
from hrlib.network.known import told_what_it_sees
from hrlib.network.predict import predict_turned
from hrlib.refine.gauss_newton import FitSettings, fitted_poses
from hrlib.support.paths import BASE_MODEL, BENCHMARKS, HAND_ASSET
from hrlib.synthetic.frames import Synthesiser
from hrlib.synthetic.people import USERS
from hrlib.synthetic.poses import sample_poses
from hrlib.synthetic.rasterise import rasterise

EQUAL_MM = 0.01  # float32 of 700 mm
PEERS = ("mediapipe", "pytorch-kinematics", "smplx", "open3d-cpu", "open3d")
# how a depth frame becomes a grey image: a user without the library would try some
GREYS = ("near is bright", "near is dark", "shaded")
REACH_MM, ICP_STEPS = 10.0, 30  # of ICP: how far points may be apart (30 mm do worse); its steps


def cpu_ms(function: Callable, repeats: int) -> float:
    """Milliseconds of all processors that a call takes, the least of some."""
    taken = []
    for _ in range(repeats + 1):
        began = time.process_time()
        function()
        taken.append(1e3 * (time.process_time() - began))
    return min(taken[1:])


# -- kinematics and skin ------------------------------------------------------------------------------------------------


def urdf_of(hand: HandRig) -> str:
    """The hand as a robot: three turns about x, z and y at each finger's joint, and links without a body to its 15 joints."""
    from scipy.spatial.transform import Rotation

    parts = ['<robot name="hand"><link name="j0"/>']
    for joint in range(1, 16):
        T = hand.T_parent_neutral[joint].double().numpy()
        rpy, xyz = Rotation.from_matrix(T[:3, :3]).as_euler("xyz"), T[:3, 3]
        before = f"j{PARENTS[joint]}"
        origins = (f'<origin xyz="{_words(xyz)}" rpy="{_words(rpy)}"/>', "", "")
        for axis, name, origin in zip(("1 0 0", "0 0 1", "0 1 0"), "abj", origins, strict=True):
            link = f"{name}{joint}"
            parts.append(f'<link name="{link}"/><joint name="turn_{link}" type="revolute">{origin}<axis xyz="{axis}"/>')
            parts.append(f'<parent link="{before}"/><child link="{link}"/>')
            parts.append('<limit lower="-9" upper="9" effort="1" velocity="1"/></joint>')
            before = link
    return "".join(parts) + "</robot>"


def _words(numbers) -> str:
    return " ".join(f"{number:.10g}" for number in numbers)


def kinematics(batch: int, repeats: int) -> dict:
    """Joints of posed hands from the same angles, the wrist at the origin."""
    import pytorch_kinematics

    hand = load_hand()
    chain = pytorch_kinematics.build_chain_from_urdf(urdf_of(hand)).to(dtype=torch.float32)
    angles = euler_angles(sample_poses(batch, hand, torch.Generator().manual_seed(0)))
    angles[:, 0] = 0
    order = [name.removeprefix("turn_") for name in chain.get_joint_parameter_names()]
    flat = {f"{name}{j}": angles[:, j, part] for j in range(1, 16) for name, part in (("a", 0), ("b", 1), ("j", 2))}
    theirs_in, wrist_mm = torch.stack([flat[name] for name in order], 1), torch.zeros(batch, 3)

    def ours():
        return forward_kinematics(hand, from_euler(angles), wrist_mm)[:, :, :3, 3]

    def theirs():
        frames = chain.forward_kinematics(theirs_in)
        return torch.stack([frames[f"j{joint}"].get_matrix()[:, :3, 3].expand(batch, 3) for joint in range(16)], 1)

    apart = (ours() - theirs()).abs().max().item()
    assert apart < EQUAL_MM, f"pytorch-kinematics places joints {apart} mm elsewhere"
    ms = {"hrlib": cpu_ms(ours, repeats), "pytorch-kinematics": cpu_ms(theirs, repeats)}
    return {"hands": batch, "difference_mm": apart, "ms": ms, "times_as_fast": ms["pytorch-kinematics"] / ms["hrlib"]}


def skinning(batch: int, repeats: int) -> dict:
    """The skin's points from the same rotations; what is compared is in bench_skinning.py."""
    case = bench_skinning.make_case(batch)
    runs = {name: make(case)[0] for name, make in bench_skinning.CANDIDATES.items()}
    expected = runs["hrlib"]().detach()
    apart = {name: (run().detach() - expected).abs().max().item() for name, run in runs.items()}
    assert max(apart.values()) < EQUAL_MM, f"smplx poses other points: {apart}"
    ms = {name: cpu_ms(run, repeats) for name, run in runs.items()}
    ratio = {name: ms[name] / ms["hrlib"] for name in ms if name != "hrlib"}
    return {"hands": batch, "points": expected.shape[1], "difference_mm": apart, "ms": ms, "times_as_fast": ratio}


# -- depth images ---------------------------------------------------------------------------------------------------------


def ray_casting(batch: int, repeats: int) -> dict:
    """Depth images of 640x480 of the same posed meshes; a scene of open3d is built anew for each pose, as it must be."""
    import open3d as o3d

    hand, generator = load_hand(), torch.Generator().manual_seed(0)
    wrist_mm = torch.tensor([0.0, 0.0, 500.0]) + 40 * torch.randn(batch, 3, generator=generator)
    T = forward_kinematics(hand, sample_poses(batch, hand, generator), wrist_mm)
    vertices = skin(hand.vertices_mm, hand.weights, skinning_transforms(hand, T)).numpy()
    faces, camera = Synthesiser(hand).hand.faces.numpy(), np.array([475.0, 475.0, 319.5, 239.5], np.float32)
    (fx, fy, cx, cy), (v, u) = camera, np.mgrid[:480, :640].astype(np.float32)
    rays = np.stack([np.zeros_like(u)] * 3 + [(u - cx) / fx, (v - cy) / fy, np.ones_like(u)], -1)
    rays, triangles = o3d.core.Tensor(rays), o3d.core.Tensor(faces.astype(np.uint32))

    def ours():
        return rasterise(vertices, faces, np.tile(camera, (batch, 1)), (480, 640))

    def theirs():
        images = []
        for mesh in vertices:
            scene = o3d.t.geometry.RaycastingScene(nthreads=1)
            scene.add_triangles(o3d.core.Tensor(mesh), triangles)
            depth = scene.cast_rays(rays, nthreads=1)["t_hit"].numpy()  # the rays' z is 1, so t is z
            images.append(np.where(np.isfinite(depth), depth, 0))
        return np.stack(images)

    differs = (np.abs(ours() - theirs()) > EQUAL_MM).sum((1, 2))
    # outlines that pass within rounding of a pixel's centre may fall to either side
    assert differs.max() <= 8, f"open3d sees {differs.max()} pixels of an image otherwise"
    ms = {"hrlib": cpu_ms(ours, repeats) / batch, "open3d": cpu_ms(theirs, max(2, repeats // 4)) / batch}
    return {
        "images": batch,
        "pixels_that_differ": int(differs.max()),
        "ms": ms,
        "times_as_fast": ms["open3d"] / ms["hrlib"],
    }


# -- frames of A-D --------------------------------------------------------------------------------------------------------


def grey(frame: Frame, how: str) -> np.ndarray:
    """A depth frame as an 8-bit picture: what is measured fills the range of greys, the rest is black."""
    z = frame.depth_mm.astype(np.float32)
    seen = z > 0
    low, high = np.percentile(z[seen], (1, 99))
    share = np.clip((z - low) / max(high - low, 1.0), 0, 1)
    if how == "shaded":  # light from the camera on a smoothed surface: the steeper, the darker
        filled = ndimage.gaussian_filter(ndimage.median_filter(np.where(seen, z, high), 5), 1.5)
        steep_v, steep_u = (g * frame.camera.fx / np.maximum(filled, 1) for g in np.gradient(filled))
        value = 0.3 + 0.7 / np.sqrt(1 + steep_u**2 + steep_v**2)
    else:
        value = 1 - 0.8 * share if how == "near is bright" else 0.2 + 0.8 * share
    return np.where(seen, 255 * value, 0).astype(np.uint8)


def seen_by_mediapipe(python: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, images=images)
        script = Path(__file__).with_name("mediapipe_hands.py")
        subprocess.run(list(map(str, (python, script, source, target))), check=True, stderr=subprocess.DEVNULL)
        return dict(np.load(target))


def aligned(points: np.ndarray, truth: np.ndarray, how: str) -> np.ndarray:
    """[F, 21, 3] moved to the truth: by its middle ("moved"), also sized ("sized"), also turned ("turned")."""
    x, y = points - points.mean(1, keepdims=True), truth - truth.mean(1, keepdims=True)
    if how == "turned":
        U, _, Vt = np.linalg.svd(np.einsum("fki,fkj->fij", y, x))
        U[:, :, 2] *= np.sign(np.linalg.det(U @ Vt))[:, None]
        x = np.einsum("fij,fkj->fki", U @ Vt, x)
    if how != "moved":
        x = x * ((x * y).sum((1, 2)) / (x * x).sum((1, 2)))[:, None, None]
    return x + truth.mean(1, keepdims=True)


def errors_of(points: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean error (mm) of 21 points in each way to align."""
    ways = ("moved", "sized", "turned")
    return {way: float(np.linalg.norm(aligned(points, truth, way) - truth, axis=-1).mean()) for way in ways}


def flat_error(pixels: np.ndarray, truth_mm: np.ndarray, frames: list[Frame]) -> np.ndarray:
    """[F]: mean distance in the image, in mm at the hand's distance."""
    focal = np.array([frame.camera.fx for frame in frames])[:, None]
    centre = np.array([(frame.camera.cx, frame.camera.cy) for frame in frames])[:, None]
    shown = truth_mm[..., :2] / truth_mm[..., 2:] * focal[..., None] + centre
    return np.linalg.norm(pixels - shown, axis=-1).mean(1) * truth_mm[..., 2].mean(1) / focal[:, 0]


def icp(cloud_mm: Tensor, frame_mm: np.ndarray) -> np.ndarray:
    """[4, 4]: the motion that ICP finds from the posed hand's cloud to a frame's points."""
    import open3d as o3d

    clouds = [o3d.geometry.PointCloud(o3d.utility.Vector3dVector(np.float64(x))) for x in (cloud_mm, frame_mm)]
    registration = o3d.pipelines.registration
    stop = registration.ICPConvergenceCriteria(max_iteration=ICP_STEPS)
    way = registration.TransformationEstimationPointToPoint()  # point to plane does worse here, robust or not
    return registration.registration_icp(clouds[0], clouds[1], REACH_MM, np.eye(4), way, stop).transformation


def people(count: int, python: Path | None) -> dict:
    """Errors and times on every tenth test frame of A-D: ours, MediaPipe, and ICP from where the network sees the hand."""
    template = load_hand()
    net, rows = load_network(template)[0], {}
    for name, user in tqdm(USERS.items(), "people"):
        frames = user.frames(template, count, "test", every=10)
        began = time.process_time()
        crops, kept, left_out = crop_frames(frames, progress=False)
        found_ms = 1e3 * (time.process_time() - began) / len(frames)
        truth = np.stack([frame.truth.joints_mm for frame in kept])
        own, hand = told_what_it_sees(net, template, crops)
        began = time.process_time()
        prediction = predict_turned(own, crops)
        seen_ms = 1e3 * (time.process_time() - began) / len(crops)
        fitted_poses(hand, crops[:2], prediction[:2], progress=False)  # compiles
        began = time.process_time()
        fit = fitted_poses(hand, crops, prediction, progress=False).prediction
        fit_ms = 1e3 * (time.process_time() - began) / len(crops)
        seen, fitted = (predicted_joints(p, hand, crops).numpy() for p in (prediction, fit))
        row = {"frames": len(frames), "ours": {"found": len(crops) / len(frames)}}
        row["ours"] |= {"seen": errors_of(seen, truth), "fitted": errors_of(fitted, truth)}
        row["ours"]["ms"] = {"find and crop": found_ms, "five views": seen_ms, "fit": fit_ms}
        if find_spec("open3d"):
            row["icp"] = rigid(hand, crops, prediction, truth)
            row["icp"] |= {
                "before_mm": _mean16(seen, truth),
                "our_fit_mm": _mean16(fitted, truth),
                "our_fit_ms": fit_ms,
            }
        if python:
            row["mediapipe"] = mediapipe_on(
                python, frames, {f.name: joints for f, joints in zip(kept, fitted, strict=True)}
            )
        rows[name] = row
    return rows


def _mean16(points: np.ndarray, truth: np.ndarray) -> float:
    return float(joint_error_mm(points, truth, JOINT_POINTS).mean())


def rigid(hand: HandRig, crops, prediction, truth: np.ndarray) -> dict:
    """ICP moves the hand as it was seen, its fingers as they are: mean error (mm) of 16 joints, and ms a frame."""
    T = forward_kinematics(hand, prediction.rotations, wrist_position(prediction, hand, crops))
    clouds = skin(hand.cloud_mm, hand.cloud_weights, skinning_transforms(hand, T))
    front = clouds[..., 2] < clouds[..., 2].median(1, keepdim=True).values  # a frame has no backs
    joints, points = joint_positions(hand, T).numpy(), from_crop(crops.points, crops)
    of_hand = on_the_hand(crops.points, T, crops, FitSettings().wrist_mm) > 0  # no forearm, as in our fit
    moved, began = [], time.process_time()
    for i, count in enumerate(crops.count.tolist()):
        motion = icp(clouds[i][front[i]], points[i, :count][of_hand[i, :count]].numpy())
        moved.append(joints[i] @ motion[:3, :3].T + motion[:3, 3])
    return {"icp_mm": _mean16(np.stack(moved), truth), "icp_ms": 1e3 * (time.process_time() - began) / len(crops)}


def mediapipe_on(python: Path, frames: list[Frame], ours: dict[str, np.ndarray]) -> dict:
    """Each way to draw frames grey: share found, errors where both find the hand, and ours on the same frames."""
    truth = np.stack([frame.truth.joints_mm for frame in frames])
    every = seen_by_mediapipe(python, np.stack([grey(frame, how) for how in GREYS for frame in frames]))
    row = {"version": str(every.pop("version"))}
    for number, how in enumerate(GREYS):
        seen = {key: values[number * len(frames) :][: len(frames)] for key, values in every.items()}
        both = [i for i, frame in enumerate(frames) if seen["found"][i] and frame.name in ours]
        row[how] = {"found": float(seen["found"].mean()), "both": len(both), "ms": float(np.median(seen["cpu_ms"]))}
        if both:
            flat = flat_error(seen["pixels"][both], truth[both], [frames[i] for i in both])
            mine = np.stack([ours[frames[i].name] for i in both])
            row[how] |= {"flat_mm": float(np.median(flat)), "points_mm": errors_of(seen["world_mm"][both], truth[both])}
            row[how] |= {"ours_mm": errors_of(mine, truth[both])}
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=40, help="of each development person")
    parser.add_argument("--batch", type=int, default=32, help="hands posed and drawn together")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--mediapipe-python", type=Path, default=None, help="of an environment that has mediapipe")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "peers.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    metrics = {}
    for module, name, measure in (
        ("pytorch_kinematics", "kinematics", kinematics),
        ("smplx", "skinning", skinning),
        ("open3d", "ray casting", ray_casting),
    ):
        if find_spec(module):
            metrics[name] = measure(arguments.batch, arguments.repeats)
            print(name, {key: metrics[name][key] for key in ("ms", "times_as_fast")}, flush=True)
        else:
            print(f"{name}: {module} is not installed", file=sys.stderr)
    metrics["people"] = people(arguments.frames, arguments.mediapipe_python)
    versions = {name: metadata.version(name) for name in PEERS if _installed(name)}
    first = next(iter(metrics["people"].values()))
    metrics["versions"] = versions | ({"mediapipe": first["mediapipe"]["version"]} if "mediapipe" in first else {})
    parameters = {"frames": arguments.frames, "batch": arguments.batch, "repeats": arguments.repeats, "threads": 1}
    made = results.provenance(parameters, 0, {"hand": HAND_ASSET, "base model": BASE_MODEL})
    results.write_result(arguments.out, "peers", metrics, {}, made, "quick" if arguments.frames >= 40 else "smoke")


def _installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    main()
