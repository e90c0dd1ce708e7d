"""Pictures of posed hands: shaded meshes and skeletons."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from PIL import Image, ImageDraw
from torch import Tensor

from ..frames.crop import IMAGE_SIZE
from ..frames.crops import Crops
from ..hand.joints import POINT_PARENTS
from ..hand.kinematics import forward_kinematics
from ..hand.rig import HandRig
from ..hand.skinning import skin, skinning_transforms
from ..method import to_crop, wrist_position
from ..network.posenet import Prediction
from .style import FINGER_COLOURS, INK

FAR = 40.0  # cubes from the camera to the hand: nearly orthographic, like the splatted images beside it
LIGHT = np.array([-0.45, -0.6, -0.66])  # from the upper left, behind the camera
SKIN, WHITE = np.array([232, 190, 165]), (255, 255, 255)  # RGB
AMBIENT = 0.35  # share of the light that reaches every surface
UNKNOWN_LIGHT = 0.25  # of pixels at the outline, which have no neighbour to tell their slope


def empty_cube(centre_mm: Float[Tensor, "B 3"], cube_mm: float = 250.0) -> Crops:
    """Cubes in which nothing was measured, to draw hands in that no frame shows."""
    count = len(centre_mm)
    image, points = torch.zeros(count, IMAGE_SIZE, IMAGE_SIZE), torch.zeros(count, 0, 3)
    return Crops(image, points, centre_mm, torch.zeros(count, dtype=torch.long), cube_mm)


def shaded_hands(
    hand: HandRig,
    T_cam_joint: Float[Tensor, "B 16 4 4"],
    crops: Crops,
    size: int = 240,
    background: tuple[int, int, int] = WHITE,
) -> UInt8[np.ndarray, "B S S 3"]:
    """The posed mesh in each frame's cube, seen from the camera's side: RGB pictures `size` pixels wide."""
    from ..synthetic.rasterise import rasterise

    vertices = skin(hand.vertices_mm, hand.weights, skinning_transforms(hand, T_cam_joint.detach()))
    cube = to_crop(vertices, crops).numpy() - 0.5
    cube = np.concatenate([cube[..., :2], cube[..., 2:] + FAR], -1) * 1000
    cameras = np.tile(np.float32([size * FAR, size * FAR, size / 2 - 0.5, size / 2 - 0.5]), (len(cube), 1))
    depth = rasterise(cube, hand.faces.numpy(), cameras, (size, size))
    return shade(depth, 1000 / size, background)


def predicted_hands(
    hand: HandRig, prediction: Prediction, crops: Crops, size: int = 240
) -> UInt8[np.ndarray, "B S S 3"]:
    """`shaded_hands` of predicted poses."""
    T_cam_joint = forward_kinematics(hand, prediction.rotations, wrist_position(prediction, hand, crops))
    return shaded_hands(hand, T_cam_joint, crops, size)


def shade(
    depth: Float[np.ndarray, "B H W"], mm_per_px: float, background: tuple[int, int, int] = WHITE
) -> UInt8[np.ndarray, "B H W 3"]:
    """Lambert shading of depth images in mm (0 = background): RGB."""
    covered = depth > 0
    dv, du = np.gradient(np.where(covered, depth, np.nan), axis=(1, 2))
    du, dv = du[covered] / mm_per_px, dv[covered] / mm_per_px  # of the hand's pixels: most of a picture is background
    normal = np.stack([du, dv, -np.ones_like(du)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    lit = np.nan_to_num(normal @ LIGHT, nan=UNKNOWN_LIGHT).clip(0, 1)
    picture = np.full((*depth.shape, 3), background, np.uint8)
    picture[covered] = SKIN * (AMBIENT + (1 - AMBIENT) * lit[:, None])
    return picture


def draw_skeleton(
    axes: Axes,
    joints_mm: Float[Tensor, "21 3"] | Float[np.ndarray, "21 3"],
    crops: Crops,
    index: int,
    size: int,
    **line,
) -> None:
    """Draw the bones of one frame over its crop, which is `size` pixels wide (orthographic)."""
    p = to_crop(torch.as_tensor(joints_mm)[None], crops[index])[0, :, :2].numpy() * size - 0.5
    for child, parent in enumerate(POINT_PARENTS):
        if parent >= 0:
            colour = FINGER_COLOURS[(child - 1) // 4]
            axes.plot(*p[[parent, child]].T, **({"color": colour, "lw": 1.6, "solid_capstyle": "round"} | line))
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))  # a bone may leave the crop


def with_skeleton(picture: UInt8[np.ndarray, "S S 3"], points: Float[np.ndarray, "21 3"]) -> UInt8[np.ndarray, "S S 3"]:
    """The picture with bones between points of the crop frame. Without matplotlib: widgets and videos must be quick."""
    size = len(picture)
    twice = (2 * size, 2 * size)  # reduced below: smooth lines
    image = Image.fromarray(picture).resize(twice, Image.Resampling.NEAREST)
    draw, xy = ImageDraw.Draw(image), points[:, :2] * 2 * size
    width = max(2, size // 60)
    for child in np.argsort(-points[1:, 2]) + 1:  # far bones first
        draw.line([*xy[POINT_PARENTS[child]], *xy[child]], FINGER_COLOURS[(child - 1) // 4], width)
        draw.circle(tuple(xy[child]), width, INK)
    return np.asarray(image.reduce(2))
