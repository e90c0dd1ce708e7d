"""The method on a batch, every intermediate kept (Fig. 1): the notebooks, the training and the widgets all call this."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from .frames.crop import IMAGE_SIZE
from .frames.crops import Crops
from .hand.kinematics import forward_kinematics, joint_positions
from .hand.rig import HandRig
from .hand.skinning import skin, skinning_transforms
from .losses import FINGER_RADIUS_MM, LossWeights, collision_loss, depth_loss, physical_loss, weighted_sum
from .network.model import PoseModel
from .network.posenet import Prediction, wrist_to_anchor_mm
from .network.predict import predict
from .render import splat_depth
from .support.checks import require_one_of

SIZE = (IMAGE_SIZE, IMAGE_SIZE)


@dataclass(frozen=True)
class PipelineSettings:
    """How predictions become a loss."""

    radius_px: float = 5.0  # r of Eq. 5, in pixels of the 120
    terms: tuple[str, ...] = ("depth", "collision", "physical")  # which parts of Eq. 1 count
    weights: LossWeights = LossWeights()
    # "offset" takes the network's offset head. "com" moves the visible part of the posed cloud to the crop's centre, where
    # the frame's visible points have theirs: the paper's theta has no translation
    translation: str = "offset"
    finger_radius_mm: float = FINGER_RADIUS_MM  # of the cylinders of Eq. 7
    backend: str | None = None  # of `splat_depth`; None chooses by the tensors' device

    def __post_init__(self):
        require_one_of(("offset", "com"), translation=self.translation)
        unknown = set(self.terms) - {"depth", "collision", "physical"}
        if unknown or not self.terms:
            raise ValueError(f"terms must be some of depth, collision, physical; got {self.terms}")


@dataclass(frozen=True)
class Step:
    """What one pass through the method computes, in order. B images, N points of P."""

    rotations: Float[Tensor, "B 16 4"]  # theta
    T_cam_joint: Float[Tensor, "B 16 4 4"]  # joint frames in the camera frame, mm
    joints_mm: Float[Tensor, "B 21 3"]  # in the camera frame
    cloud: Float[Tensor, "B N 3"]  # f_skin(P, M), in the crop frame
    rendered: Float[Tensor, "B 120 120"]  # f_depth(f_skin(P, M))
    target: Float[Tensor, "B 120 120"]  # f_depth(P_D)
    terms: dict[str, Float[Tensor, " B"]]  # depth (no unit), collision (mm), physical (rad)
    loss: Float[Tensor, " B"]

    def detach(self) -> "Step":
        """The same numbers without their graph."""
        parts = {name: part.detach() for name, part in vars(self).items() if name != "terms"}
        return Step(terms={name: term.detach() for name, term in self.terms.items()}, **parts)


def evaluate_step(
    prediction: Prediction,
    hand: HandRig,
    crops: Crops,
    settings: PipelineSettings = PipelineSettings(),
    cloud_mm: Float[Tensor, "*B N 3"] | None = None,
    target: Float[Tensor, "B 120 120"] | None = None,
) -> Step:
    """From the network's prediction to the loss of Eq. 1; the functions below are its steps, in order.

    >>> hand = hrlib.load_hand()
    >>> network, _ = hrlib.load_network(hand)
    >>> crops = hrlib.crop_hand(depth_mm, camera, mask=hrlib.find_hand(depth_mm, camera).mask)
    >>> step = hrlib.evaluate_step(network(crops.image), hand, crops)
    >>> step.joints_mm.shape, step.loss.requires_grad
    (torch.Size([1, 21, 3]), True)

    Args:
        prediction, hand, crops, settings: what was predicted, the rig to pose, the frames, and how.
        cloud_mm: the hand's shape P, one for all images or one each; by default the rig's own.
        target: `splat_target(crops, settings)` if it is known already.

    Raises:
        ValueError: parts that are something else, of other numbers of images or other dtypes.
    """
    _check_inputs(prediction, hand, crops, target)
    P, theta = hand.cloud_mm if cloud_mm is None else cloud_mm, prediction.rotations
    T_cam_joint = forward_kinematics(hand, theta, wrist_position(prediction, hand, crops))  # Sec. 3.3.1
    cloud = posed_cloud(hand, P, T_cam_joint, crops)  # Eq. 2
    if settings.translation == "com":
        T_cam_joint, cloud = centred(T_cam_joint, cloud, crops, settings)
    rendered = depth_image(cloud, settings)  # Eq. 3-5
    target = splat_target(crops, settings) if target is None else target  # Eq. 3-5 of the frame's points
    joints_mm = joint_positions(hand, T_cam_joint)
    terms = {
        "depth": depth_loss(rendered, target),  # Eq. 6
        "collision": collision_loss(joints_mm, settings.finger_radius_mm),  # Eq. 7
        "physical": physical_loss(theta, hand.limits_rad),  # Eq. 8
    }
    loss = weighted_sum({name: terms[name] for name in settings.terms}, settings.weights)  # Eq. 1
    return Step(theta, T_cam_joint, joints_mm, cloud, rendered, target, terms, loss)


def _check_inputs(prediction: Prediction, hand: HandRig, crops: Crops, target: Tensor | None) -> None:
    """What the kernels would say in words of their own."""
    given, wanted = (prediction, hand, crops), (Prediction, HandRig, Crops)
    if not all(map(isinstance, given, wanted)):
        got = ", ".join(type(part).__name__ for part in given)
        raise ValueError(f"wanted evaluate_step(prediction, hand, crops), got {got}")
    counts = {"prediction": prediction.rotations, "crops": crops.image} | ({} if target is None else {"target": target})
    if len({len(part) for part in counts.values()}) > 1:
        told = ", ".join(f"{name} of {len(part)}" for name, part in counts.items())
        raise ValueError(f"wanted one number of images, got {told}")
    if (dtype := prediction.rotations.dtype) != (own := hand.cloud_mm.dtype) and not torch.is_autocast_enabled("cpu"):
        raise ValueError(
            f"prediction is of {dtype}, and hand of {own}; see hrlib.network.model.ask, or hand.to(device, dtype)"
        )


def wrist_position(prediction: Prediction, hand: HandRig, crops: Crops) -> Float[Tensor, "B 3"]:
    """The wrist in the camera frame, mm: back from the predicted place of the middle finger's base.

    A network without an offset head puts that base at the crop's centre.
    """
    anchor_mm = crops.centre_mm
    if prediction.offset is not None:
        anchor_mm = anchor_mm + prediction.offset * crops.cube_mm
    return anchor_mm - wrist_to_anchor_mm(prediction.rotations, hand)


def posed_cloud(
    hand: HandRig, cloud_mm: Float[Tensor, "*B N 3"], T_cam_joint: Float[Tensor, "B 16 4 4"], crops: Crops
) -> Float[Tensor, "B N 3"]:
    """f_skin(P, M) of Eq. 2 in the crop frame: `to_crop` of the posed points, whose weights sum to one.

    The sixteen matrices M are brought there instead, which are less than two thousand points.
    """
    M = skinning_transforms(hand, T_cam_joint)
    scale = M.new_tensor([1.0, 1.0, 1.0, crops.cube_mm]) / crops.cube_mm  # of the rows; the last stays (0, 0, 0, 1)
    shift = pad((0.5 - crops.centre_mm / crops.cube_mm)[:, None, :, None], (3, 0, 0, 1))  # in the last column
    return skin(cloud_mm, hand.cloud_weights, M * scale[:, None] + shift)


def centred(
    T_cam_joint: Float[Tensor, "B 16 4 4"], cloud: Float[Tensor, "B N 3"], crops: Crops, settings: PipelineSettings
) -> tuple[Float[Tensor, "B 16 4 4"], Float[Tensor, "B N 3"]]:
    """Joint frames and cloud, moved until the visible part of the cloud is centred in the crop (translation "com")."""
    shift = 0.5 - visible_centre(cloud, settings)
    return T_cam_joint + pad((shift * crops.cube_mm)[:, None, :, None], (3, 0, 0, 1)), cloud + shift[:, None]


def visible_centre(cloud: Float[Tensor, "B N 3"], settings: PipelineSettings) -> Float[Tensor, "B 3"]:
    """Mean over the covered pixels of the point that is seen there: what a depth camera would average."""
    with torch.no_grad():
        _, winner = splat_depth(to_pixels(cloud), settings.radius_px, SIZE, settings.backend, return_winners=True)
        winner = winner.flatten(1).long()
        count = torch.zeros(cloud.shape[:2], dtype=cloud.dtype, device=cloud.device)
        count.scatter_add_(1, winner.clamp_min(0), (winner >= 0).to(cloud.dtype))
        share = count / count.sum(1, keepdim=True).clamp_min(1)
    return (share[..., None] * cloud).sum(1)


def depth_image(points: Float[Tensor, "B N 3"], settings: PipelineSettings) -> Float[Tensor, "B 120 120"]:
    """f_depth of Eq. 3-5, of points in the crop frame."""
    return splat_depth(to_pixels(points), settings.radius_px, SIZE, settings.backend)


def to_pixels(points: Float[Tensor, "*B N 3"]) -> Float[Tensor, "*B N 3"]:
    """Crop frame -> (u px, v px, z): the orthographic view of the cube, the first pixel's centre at 0."""
    size, half = points.new_tensor([IMAGE_SIZE, IMAGE_SIZE, 1.0]), points.new_tensor([0.5, 0.5, 0.0])
    rows, count = points.flatten(-2), points.shape[-2]  # one long row an image: three numbers at a time are slow
    return (rows * size.repeat(count) - half.repeat(count)).unflatten(-1, (count, 3))


def splat_target(crops: Crops, settings: PipelineSettings = PipelineSettings()) -> Float[Tensor, "B 120 120"]:
    """f_depth(P_D): the frame's own points through the same renderer (Fig. 2, image 5). Constant: cache it."""
    return depth_image(crops.points, settings)


def to_crop(points_mm: Float[Tensor, "B N 3"], crops: Crops) -> Float[Tensor, "B N 3"]:
    """Camera frame, mm -> crop frame, [0, 1]^3 inside the cube."""
    return (points_mm - crops.centre_mm[:, None]) / crops.cube_mm + 0.5


def from_crop(points: Float[Tensor, "B N 3"], crops: Crops) -> Float[Tensor, "B N 3"]:
    """Crop frame -> camera frame, mm."""
    return (points - 0.5) * crops.cube_mm + crops.centre_mm[:, None]


def true_prediction(
    rotations: Float[Tensor, "B 16 4"], wrist_mm: Float[Tensor, "B 3"], hand: HandRig, crops: Crops
) -> Prediction:
    """The prediction that a perfect network would make for a known pose; inverse of `wrist_position`."""
    anchor_mm = wrist_mm + wrist_to_anchor_mm(rotations, hand)
    return Prediction(rotations, (anchor_mm - crops.centre_mm) / crops.cube_mm)


def predict_joints(net: PoseModel, hand: HandRig, crops: Crops) -> Float[Tensor, "B 21 3"]:
    """The 21 points that the network predicts, posed with `hand`, mm in the camera frame."""
    return predicted_joints(predict(net, crops), hand, crops)


def predicted_joints(prediction: Prediction, hand: HandRig, crops: Crops) -> Float[Tensor, "B 21 3"]:
    """The 21 points of the posed hand, mm in the camera frame."""
    wrist_mm = wrist_position(prediction, hand, crops)
    return joint_positions(hand, forward_kinematics(hand, prediction.rotations, wrist_mm))


def voted_joints(prediction: Prediction, crops: Crops) -> Float[Tensor, "B 21 3"]:
    """The 21 points that the network votes for, of no hand's bones, mm in the camera frame."""
    return from_crop(prediction.points + 0.5, crops)


def without_forearm(
    crops: Crops,
    T_cam_joint: Float[Tensor, "B 16 4 4"],
    wrist_mm: float,
    settings: PipelineSettings = PipelineSettings(),
) -> Float[Tensor, "B 120 120"]:
    """`splat_target` of the points on the hand alone; wrist_mm: see `on_the_hand`."""
    keep = on_the_hand(crops.points, T_cam_joint, crops, wrist_mm)[..., None] > 0
    return depth_image(torch.where(keep, crops.points, aside(crops.points)), settings)


def on_the_hand(
    points: Float[Tensor, "B M 3"], T_cam_joint: Float[Tensor, "B 16 4 4"], crops: Crops, wrist_mm: float
) -> Float[Tensor, "B M"]:
    """1 for points (crop frame) more than `wrist_mm` before the wrist, towards the fingers; 0 for the others."""
    along, wrist = T_cam_joint[:, 0, :3, 1].detach(), T_cam_joint[:, 0, :3, 3].detach()  # y runs along the hand
    place = (points - 0.5) * crops.cube_mm + (crops.centre_mm - wrist)[:, None]
    return ((place * along[:, None]).sum(-1) > wrist_mm).to(points.dtype)


def aside(like: Tensor) -> Float[Tensor, " 3"]:
    """A place in the crop frame that is too far off for any pixel and any neighbour."""
    return like.new_tensor([-2.0, -2.0, 0.5])
