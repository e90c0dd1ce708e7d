"""The method on a batch, every intermediate kept (Fig. 1): the notebooks, the training and the widgets all call this."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from .frames.crop import IMAGE_SIZE
from .frames.crops import Crops
from .hand.kinematics import forward_kinematics, joint_positions
from .hand.rig import HandRig
from .hand.skinning import skin, skinning_transforms
from .losses import FINGER_RADIUS_MM, LossWeights, collision_loss, depth_loss, physical_loss, weighted_sum
from .network.posenet import PoseNet, Prediction, wrist_to_anchor_mm
from .network.predict import predict
from .render import splat_depth


@dataclass(frozen=True)
class PipelineSettings:
    """radius_px: r of Eq. 5 in pixels of the 120. terms: which parts of Eq. 1 count. translation: "offset" takes the
    network's offset head, "com" moves the visible part of the posed cloud to the crop's centre, which is where the frame's
    visible points have theirs (the paper's theta has no translation)."""

    radius_px: float = 5.0
    terms: tuple[str, ...] = ("depth", "collision", "physical")
    weights: LossWeights = LossWeights()
    translation: str = "offset"
    finger_radius_mm: float = FINGER_RADIUS_MM
    backend: str | None = None

    def __post_init__(self):
        if self.translation not in ("offset", "com"):
            raise ValueError(f"translation must be 'offset' or 'com', got {self.translation!r}")
        unknown = set(self.terms) - {"depth", "collision", "physical"}
        if unknown or not self.terms:
            raise ValueError(f"terms must be some of depth, collision, physical; got {self.terms}")


@dataclass(frozen=True)
class Step:
    """What one pass through the method computed, in order. B images, N points of P, M points of the frame."""

    rotations: Tensor  # theta [B, 16, 4]
    T_cam_joint: Tensor  # [B, 16, 4, 4] mm
    joints_mm: Tensor  # [B, 21, 3] camera frame
    cloud: Tensor  # f_skin(P, M), [B, N, 3] in the crop frame
    rendered: Tensor  # f_depth(f_skin(P, M)), [B, 120, 120]
    target: Tensor  # f_depth(P_D), [B, 120, 120]
    terms: dict[str, Tensor]  # each [B]
    loss: Tensor  # [B]

    def detach(self) -> "Step":
        """The same numbers without the graph that made them."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Step(
            **{k: {n: t.detach() for n, t in v.items()} if k == "terms" else v.detach() for k, v in parts.items()}
        )


def evaluate_step(
    prediction: Prediction,
    hand: HandRig,
    crops: Crops,
    settings: PipelineSettings = PipelineSettings(),
    cloud_mm: Tensor | None = None,
    target: Tensor | None = None,
) -> Step:
    """From the network's prediction to the loss of Eq. 1.

    cloud_mm [N, 3]: the hand's shape P if it is not the rig's own; target: `splat_target(crops)` if it is known already.
    """
    P = hand.cloud_mm if cloud_mm is None else cloud_mm
    theta = prediction.rotations
    T_cam_joint = forward_kinematics(hand, theta, wrist_position(prediction, hand, crops))  # 3.3.1
    cloud = posed_cloud(hand, P, T_cam_joint, crops)  # Eq. 2
    if settings.translation == "com":
        shift = 0.5 - visible_centre(cloud, settings)
        cloud = cloud + shift[:, None]
        T_cam_joint = translate(T_cam_joint, shift * crops.cube_mm)
    rendered = splat_depth(to_pixels(cloud), settings.radius_px, (IMAGE_SIZE, IMAGE_SIZE), settings.backend)  # Eq. 3-5
    target = splat_target(crops, settings) if target is None else target
    joints_mm = joint_positions(hand, T_cam_joint)
    terms = {
        "depth": depth_loss(rendered, target),  # Eq. 6
        "collision": collision_loss(joints_mm, settings.finger_radius_mm),  # Eq. 7
        "physical": physical_loss(theta, hand.limits_rad),  # Eq. 8
    }
    loss = weighted_sum({name: terms[name] for name in settings.terms}, settings.weights)  # Eq. 1
    return Step(theta, T_cam_joint, joints_mm, cloud, rendered, target, terms, loss)


def posed_cloud(hand: HandRig, cloud_mm: Tensor, T_cam_joint: Tensor, crops: Crops) -> Tensor:
    """f_skin(P, M) of Eq. 2, [B, N, 3] in the crop frame: `to_crop` of the posed points, whose weights sum to one.

    The sixteen matrices M are brought there instead, which are less than two thousand points.
    """
    M = skinning_transforms(hand, T_cam_joint)
    scale = M.new_tensor([1.0, 1.0, 1.0, crops.cube_mm]) / crops.cube_mm  # of the rows; the last stays (0, 0, 0, 1)
    shift = pad((0.5 - crops.centre_mm / crops.cube_mm)[:, None, :, None], (3, 0, 0, 1))  # in the last column
    return skin(cloud_mm, hand.cloud_weights, M * scale[:, None] + shift)


def wrist_position(prediction: Prediction, hand: HandRig, crops: Crops) -> Tensor:
    """[B, 3] mm in the camera frame: from the predicted place of the middle finger's base back to the wrist.

    A network without an offset head puts that base at the crop's centre.
    """
    anchor = crops.centre_mm
    if prediction.offset is not None:
        anchor = anchor + prediction.offset * crops.cube_mm
    return anchor - wrist_to_anchor_mm(prediction.rotations, hand)


def true_prediction(rotations: Tensor, wrist_mm: Tensor, hand: HandRig, crops: Crops) -> Prediction:
    """The prediction that a perfect network would make for a known pose; inverse of `wrist_position`."""
    anchor = wrist_mm + wrist_to_anchor_mm(rotations, hand)
    return Prediction(rotations, (anchor - crops.centre_mm) / crops.cube_mm)


def splat_target(crops: Crops, settings: PipelineSettings = PipelineSettings()) -> Tensor:
    """f_depth(P_D): the frame's own points through the same renderer, [B, 120, 120] (Fig. 2, image 5). Constant: cache it."""
    return splat_depth(to_pixels(crops.points), settings.radius_px, (IMAGE_SIZE, IMAGE_SIZE), settings.backend)


def to_crop(points_mm: Tensor, crops: Crops) -> Tensor:
    """Camera frame, mm [B, N, 3] -> crop frame, [0, 1]^3 inside the cube."""
    return (points_mm - crops.centre_mm[:, None]) / crops.cube_mm + 0.5


def from_crop(points: Tensor, crops: Crops) -> Tensor:
    """Crop frame [B, N, 3] -> camera frame, mm."""
    return (points - 0.5) * crops.cube_mm + crops.centre_mm[:, None]


def to_pixels(points: Tensor) -> Tensor:
    """Crop frame [B, N, 3] -> (u px, v px, z): the orthographic view of the cube, the first pixel's centre at 0."""
    size, half = points.new_tensor([IMAGE_SIZE, IMAGE_SIZE, 1.0]), points.new_tensor([0.5, 0.5, 0.0])
    rows, count = points.flatten(-2), points.shape[-2]  # one long row an image: three numbers at a time are slow
    return (rows * size.repeat(count) - half.repeat(count)).unflatten(-1, (count, 3))


def translate(T: Tensor, shift: Tensor) -> Tensor:
    """Transforms [B, J, 4, 4] moved by [B, 3]."""
    return torch.cat([T[..., :3], torch.cat([T[..., :3, 3] + shift[:, None], T[..., 3, 3:]], -1)[..., None]], -1)


def visible_centre(cloud: Tensor, settings: PipelineSettings) -> Tensor:
    """Mean over the covered pixels of the point that is seen there, [B, 3]: what a depth camera would average."""
    with torch.no_grad():
        size = (IMAGE_SIZE, IMAGE_SIZE)
        _, winner = splat_depth(to_pixels(cloud), settings.radius_px, size, settings.backend, return_winners=True)
        winner = winner.flatten(1).long()
        count = torch.zeros(cloud.shape[:2], dtype=cloud.dtype, device=cloud.device)
        count.scatter_add_(1, winner.clamp_min(0), (winner >= 0).to(cloud.dtype))
        share = count / count.sum(1, keepdim=True).clamp_min(1)
    return (share[..., None] * cloud).sum(1)


def aside(like: Tensor) -> Tensor:
    """A place [3] in the crop frame that is too far off for any pixel and any neighbour."""
    return like.new_tensor([-2.0, -2.0, 0.5])


def on_the_hand(points: Tensor, T_cam_joint: Tensor, crops: Crops, wrist_mm: float) -> Tensor:
    """[B, M]: 1 for points [B, M, 3] (crop frame) that lie farther than `wrist_mm` before the wrist, else 0."""
    R, wrist = T_cam_joint[:, 0, :3, 1].detach(), T_cam_joint[:, 0, :3, 3].detach()
    place = (points - 0.5) * crops.cube_mm + (crops.centre_mm - wrist)[:, None]
    return ((place * R[:, None]).sum(-1) > wrist_mm).to(points.dtype)


def without_forearm(
    crops: Crops, T_cam_joint: Tensor, wrist_mm: float, settings: PipelineSettings = PipelineSettings()
) -> Tensor:
    """The target image of the frame's points without those of the forearm, [B, 120, 120].

    T_cam_joint [B, 16, 4, 4]; wrist_mm: points behind the wrist, or nearer to it than this, are left out.
    """
    keep = on_the_hand(crops.points, T_cam_joint, crops, wrist_mm)[..., None] > 0
    points = torch.where(keep, crops.points, aside(crops.points))
    return splat_depth(to_pixels(points), settings.radius_px, (IMAGE_SIZE, IMAGE_SIZE), settings.backend)


def predict_joints(net: PoseNet, hand: HandRig, crops: Crops) -> Tensor:
    """The 21 points [B, 21, 3] mm in the camera frame that the network predicts, posed with `hand`."""
    return predicted_joints(predict(net, crops), hand, crops)


def predicted_joints(prediction: Prediction, hand: HandRig, crops: Crops) -> Tensor:
    """The 21 points [B, 21, 3] mm of the posed hand in the camera frame."""
    wrist_mm = wrist_position(prediction, hand, crops)
    return joint_positions(hand, forward_kinematics(hand, prediction.rotations, wrist_mm))


def voted_joints(prediction: Prediction, crops: Crops) -> Tensor:
    """The 21 points [B, 21, 3] mm in the camera frame that the network votes for, of no hand's bones."""
    return from_crop(prediction.points + 0.5, crops)
