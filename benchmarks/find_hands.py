"""How well hands are found: in scenes that the finder has not seen, and in all real frames at hand.

    python benchmarks/find_hands.py [--scenes 2000]

Reads the real sets below HRLIB_DATA_MIRROR. Writes benchmarks/results/finder.json, and a sheet of real frames with what was
found in them, figures/finder_SET.png, for people to look at: most sets have no labels. No weight and no threshold comes from
real frames. Two choices were made after a look at them: the nearest surface is searched, too, and geometry is asked where the
finder sees no hand. So the shares of real frames flatter a little. About four minutes on one core.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from tqdm import tqdm

from hrlib.companion import results
from hrlib.datasets.fetch import dataset_folder
from hrlib.datasets.fingerspelling import Fingerspelling
from hrlib.datasets.msra import MSRA_CAMERA
from hrlib.datasets.real_joints import RealJoints
from hrlib.drawing.plots import grid, show_picture
from hrlib.drawing.style import INK, ORANGE, SKY, WIDTH_IN
from hrlib.evaluation.found import LEAST_INSIDE
from hrlib.frames.camera import Camera
from hrlib.frames.find import crop_frame
from hrlib.frames.finder import HAND, TOGETHER_MM, Found, connected, find_hand
from hrlib.frames.folder import DepthFolder
from hrlib.frames.frame import Frame
from hrlib.personal.side import LOOKS
from hrlib.support.paths import BENCHMARKS, FINDER, mirror
from hrlib.synthetic.scenes import draw_scenes

SEED = 1_000_000  # of the first held-out scenes; data/finder/build.py trains on small seeds
SR305 = Camera(476.007, 476.007, 313.683, 242.755)
AT_ONCE = 100  # scenes drawn at once
SHOWN, COLUMNS = 24, 8  # frames of a sheet
TINTS = {"hand": to_rgb(SKY), "forearm": to_rgb(ORANGE)}  # of the masks


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=2000, help="held-out synthetic scenes")
    parser.add_argument("--profile", default="full", help="smoke: figures go to build/smoke")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made = results.provenance(
        {"scenes": arguments.scenes}, SEED, {f"finder {part}": path for part, path in FINDER.items()}
    )
    metrics = {"held_out": held_out(arguments.scenes), "real": {}}
    for name, frames in real_frames().items():
        metrics["real"][name], sheet = judged(name, frames)
        results.save_figure(sheet, f"finder_{name}", metrics["real"][name], {}, made, arguments.profile)
    metrics["ms_640x480"] = milliseconds(DepthFolder(dataset_folder("sr305"), SR305, 0.125)[0])
    results.write_result(BENCHMARKS / "finder.json", "finder", metrics, values_of(metrics), made, arguments.profile)


def values_of(metrics: dict) -> dict[str, float]:
    """The claims' values."""
    return {
        "finder-iou": metrics["held_out"]["iou_median"],
        "finder-side": metrics["held_out"]["side_right"],
        "finder-real": min(row["share"] for row in metrics["real"].values()),
        "finder-time": metrics["ms_640x480"],
    }


def held_out(count: int) -> dict:
    """IoU, side and presence of hands in unseen synthetic scenes."""
    ious, sides, arms, hands, nothing = [], [], [], [], []
    for first in tqdm(range(0, count, AT_ONCE), "held-out scenes"):
        scenes = draw_scenes(min(AT_ONCE, count - first), SEED + first)
        for i in range(len(scenes)):
            depth_mm, camera = scenes.depth_mm[i], Camera(*map(float, scenes.intrinsics[i]))
            found = find_hand(depth_mm, camera)
            if not scenes.hand[i]:
                nothing.append(found.hand)
                continue
            hands.append(found.hand)
            truth = shown_hand(scenes.label[i] == HAND, found.mask, depth_mm, camera)
            ious.append((found.mask & truth).sum() / max(1, (found.mask | truth).sum()))
            if scenes.shows_side[i]:
                sides.append(found.right if scenes.right[i] else 1 - found.right)
                arms.append(found.forearm.any())
    ious, hands, nothing, sides, arms = map(np.array, (ious, hands, nothing, sides, arms))
    return {
        "with_a_hand": len(hands),
        "without": len(nothing),
        "iou_median": float(np.median(ious)),
        "iou_mean": float(ious.mean()),
        "iou_over_half": float((ious > 0.5).mean()),
        "side_right": float((sides > 0.5).mean()),
        "side_right_with_forearm": float((sides[arms] > 0.5).mean()),
        "side_right_without_forearm": float((sides[~arms] > 0.5).mean()),
        "side_right_of_folders": float((folders_of(sides).mean(1) > 0.5).mean()),
        "scenes_with_forearm": int(arms.sum()),
        "side_scenes": len(sides),
        "hand_auc": float((hands[:, None] > nothing).mean()),
        "hands_found": float((hands > 0.5).mean()),
        "others_refused": float((nothing <= 0.5).mean()),
    }


def folders_of(sides: Float[np.ndarray, " N"]) -> Float[np.ndarray, "K L"]:
    """What is said of scenes, as many together as tell the side of a folder; the last few are left out."""
    return sides[: len(sides) // LOOKS * LOOKS].reshape(-1, LOOKS)


def shown_hand(
    truth: Bool[np.ndarray, "H W"], mask: Bool[np.ndarray, "H W"], depth_mm: Float[np.ndarray, "H W"], camera: Camera
) -> Bool[np.ndarray, "H W"]:
    """Of the pixels of one or two hands, those of the hand that the mask is on: it, and the pieces of it that lie apart."""
    label, count = connected(depth_mm, truth)
    on = np.bincount(label[mask], minlength=count + 1)
    on[0] = 0
    if not on.any():
        return truth
    middles = [camera.cloud(depth_mm, label == k).mean(0) for k in range(1, count + 1)]
    own = np.linalg.norm(middles - middles[on.argmax() - 1], axis=1) < TOGETHER_MM
    return np.concatenate([[False], own])[label]


def real_frames() -> dict[str, Sequence[Frame]]:
    """All real frames at hand, by data set."""
    counts = np.loadtxt(mirror() / "msra_frame" / "msra-hand.txt")
    msra = np.where(counts < 1000, counts, 0).astype(np.float32)
    return {
        "sr305": DepthFolder(dataset_folder("sr305"), SR305, 0.125),
        "nyu_frame": DepthFolder(dataset_folder("nyu_frame"), Camera(588.03, 587.07, 320, 240), encoding="nyu"),
        "msra_frame": [Frame("msra-hand.txt", msra, MSRA_CAMERA)],
        "asl_fingerspelling": Fingerspelling("test"),
        "handpose_x_plus": RealJoints("handpose_x_plus"),
        "d435_table": RealJoints("d435_table"),
    }


def judged(name: str, frames: Sequence[Frame]) -> tuple[dict, Figure]:
    """Share of the frames with a usable hand, each frame for itself, and a sheet of frames."""
    reasons, right, lost, seen = Counter(), [], 0, []
    shown = set(np.linspace(0, len(frames) - 1, min(SHOWN, len(frames))).round().astype(int).tolist())
    for i in tqdm(range(len(frames)), name):
        frame = frames[i]
        found, (crop, reason) = find_hand(frame.depth_mm, frame.camera), crop_frame(frame)
        if crop is None:
            reasons[reason] += 1
        else:
            right.append(found.right)
            if isinstance(frames, RealJoints):
                from_centre = np.abs(frames.joints_mm[i] - crop.centre_mm[0].numpy())
                lost += (from_centre < crop.cube_mm / 2).all(-1).mean() < LEAST_INSIDE
        if i in shown:
            seen.append((tinted(frame, found), "refused" if crop is None else f"{found.hand:.2f}"))
    result = {
        "frames": len(frames), "found": len(right), "share": len(right) / len(frames),
        "something_else": int(lost) if isinstance(frames, RealJoints) else None,
        "said_to_be_right": float(np.mean(np.array(right) > 0.5)) if right else None,
        "refused": dict(reasons.most_common(5)),
    }  # fmt: skip
    return result, sheet(seen)


def sheet(seen: Sequence[tuple[Float[np.ndarray, "H W 3"], str]]) -> Figure:
    """Pictures in rows, each with a few words in its corner."""
    columns = min(COLUMNS, len(seen))
    rows, cell = -(-len(seen) // columns), min(2.2, WIDTH_IN / columns)
    figure, axes = grid(rows, columns, cell)
    tallest = min(1.25, max(picture.shape[0] / picture.shape[1] for picture, _ in seen))
    figure.set_size_inches(cell * columns, 1.03 * cell * rows * tallest)
    figure.subplots_adjust(top=1, bottom=0, hspace=0.04)
    behind = {"boxstyle": "square,pad=0.15", "fc": INK, "ec": "none", "alpha": 0.7}  # readable on a near hand
    for axis in axes.flat:
        axis.axis("off")
    for axis, (picture, score) in zip(axes.flat, seen, strict=False):
        show_picture(axis, picture)
        axis.text(0.04, 0.95, score, color="white", va="top", transform=axis.transAxes, bbox=behind)
    return figure


def tinted(frame: Frame, found: Found) -> Float[np.ndarray, "H W 3"]:
    """The depth image in grey, near is bright, with the masks in colour."""
    measured = frame.depth_mm > 0
    low, high = np.percentile(frame.depth_mm[measured], (1, 95)) if measured.any() else (0, 1)
    near = np.where(measured, 1 - 0.8 * np.clip((frame.depth_mm - low) / (high - low + 1), 0, 1), 0)
    picture = np.stack([near] * 3, -1)
    for mask, name in ((found.mask, "hand"), (found.forearm, "forearm")):
        picture[mask] *= TINTS[name]
    step = max(1, picture.shape[0] // 240)
    return picture[::step, ::step]


def milliseconds(frame: Frame, rounds: int = 50) -> float:
    """Median time of `find_hand` on one frame in one thread. Of the processor: other programs' time does not count."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        find_hand(frame.depth_mm, frame.camera)
        times.append(1000 * (time.process_time() - began))
    return float(np.median(times))


if __name__ == "__main__":
    main()
