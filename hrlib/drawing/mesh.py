"""Pictures of posed hands: shaded meshes and skeletons."""

import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image, ImageDraw
from torch import Tensor

from ..frames.crops import Crops
from ..hand.joints import POINT_PARENTS
from ..hand.kinematics import forward_kinematics
from ..hand.rig import HandRig
from ..hand.skinning import skin, skinning_transforms
from ..method import to_crop, wrist_position
from ..network.posenet import Prediction
from .style import FINGER_COLOURS, INK


def shaded_hands(hand: HandRig, T_cam_joint: Tensor, crops: Crops, size: int = 240) -> np.ndarray:
    """The posed mesh in each frame's cube, seen from the camera's side, lit from the upper left: RGB [B, size, size, 3]."""
    from ..synthetic.rasterise import rasterise

    vertices = skin(hand.vertices_mm, hand.weights, skinning_transforms(hand, T_cam_joint.detach()))
    cube = to_crop(vertices, crops).numpy() - 0.5
    far = 40.0  # cubes away: as good as orthographic, like the splatted images beside it
    cube = np.concatenate([cube[..., :2], cube[..., 2:] + far], -1) * 1000
    cameras = np.tile(np.float32([size * far, size * far, size / 2 - 0.5, size / 2 - 0.5]), (len(cube), 1))
    depth = rasterise(cube, hand.faces.numpy(), cameras, (size, size))
    return shade(depth, 1000 / size)


def predicted_hands(hand: HandRig, prediction: Prediction, crops: Crops, size: int = 240) -> np.ndarray:
    """`shaded_hands` of predicted poses."""
    T_cam_joint = forward_kinematics(hand, prediction.rotations, wrist_position(prediction, hand, crops))
    return shaded_hands(hand, T_cam_joint, crops, size)


def shade(depth: np.ndarray, mm_per_px: float) -> np.ndarray:
    """Lambert shading of depth images [B, H, W] (0 = background) -> RGB uint8 [B, H, W, 3] on white."""
    covered = depth > 0
    filled = np.where(covered, depth, np.nan)
    dv, du = np.gradient(filled, axis=(1, 2))
    normal = np.stack([du / mm_per_px, dv / mm_per_px, -np.ones_like(du)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = np.array([-0.45, -0.6, -0.66])
    lit = np.nan_to_num(normal @ light, nan=0.25).clip(0, 1)
    colour = np.array([232, 190, 165]) * (0.35 + 0.65 * lit[..., None])
    return np.where(covered[..., None], colour, 255).astype(np.uint8)


def draw_skeleton(axes: Axes, joints_mm, crops: Crops, index: int, size: int, **line):
    """Joints [21, 3] mm of one frame as bones over its crop, drawn `size` pixels wide (orthographic)."""
    p = to_crop(torch.as_tensor(joints_mm)[None], crops[index])[0, :, :2].numpy() * size - 0.5
    for child, parent in enumerate(POINT_PARENTS):
        if parent >= 0:
            colour = FINGER_COLOURS[(child - 1) // 4]
            axes.plot(*p[[parent, child]].T, **({"color": colour, "lw": 1.6, "solid_capstyle": "round"} | line))


def with_skeleton(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The same without matplotlib, for pictures that must be quick: bones between 21 points [21, 3] of the crop frame over
    an RGB picture [S, S, 3]. It is drawn at twice its size and reduced, so that lines are smooth."""
    size = len(picture)
    image = Image.fromarray(picture).resize((2 * size, 2 * size), Image.Resampling.NEAREST)
    draw, xy = ImageDraw.Draw(image), points[:, :2] * 2 * size
    width = max(2, size // 60)
    for child in np.argsort(-points[1:, 2]) + 1:  # far bones first
        draw.line([*xy[POINT_PARENTS[child]], *xy[child]], FINGER_COLOURS[(child - 1) // 4], width)
        draw.circle(tuple(xy[child]), width, INK)
    return np.asarray(image.reduce(2))
