"""A step of supervised learning on frames whose pose is known (Sec. 4.1): the loss, the step, and its record on a GPU."""

import copy
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..frames.crops import Crops
from ..hand.joints import POINT_NAMES
from ..hand.kinematics import forward_kinematics, joint_positions, points_of_hands
from ..hand.rig import HandRig
from ..hand.rotations import rotation_matrix
from ..method import wrist_position
from ..network.model import checked
from ..network.posenet import ANCHOR, Prediction
from ..synthetic.frames import SyntheticBatch

# of the mean error of a shape's eight logarithms; 0.03 counts as much as 6 mm of the joints. With an eighth of it, the network
# said the same of every hand after 280,000 images
SHAPE_WEIGHT = 4.0
TOLD_SHARE = 0.5  # of the frames whose hand's shape the network is told, where it can be told
TOLD_ERROR = 0.03  # standard deviation of what it is told about the truth: a fitted shape errs by about that


def pose_loss(
    prediction: Prediction, truth: SyntheticBatch, hand: HandRig, joint_weight: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Supervised loss, and the mean joint error in mm.

    The loss is the sum of up to five terms. The mean squared error of the rotations is taken on their matrices, because a
    rotation is two quaternions. The mean distance of the 21 joints weighs each rotation by what it moves. Networks that
    vote for points or predict an offset have the points' mean distance and the offset's squared error. One that knows a
    population has the shape's error.

    Args:
        prediction: of the network.
        truth: about the same frames.
        hand: whose joints are compared.
        joint_weight: of the distances, in units of the cube.
    """
    rotation = (rotation_matrix(prediction.rotations) - rotation_matrix(truth.rotations)).square().mean()
    joints_mm, offset = _posed(prediction, truth, hand)
    joint_error_mm = (joints_mm - truth.joints_mm).norm(dim=-1).mean()
    loss = rotation + joint_weight * joint_error_mm / truth.crops.cube_mm
    if prediction.offset is not None:
        loss = loss + (prediction.offset - offset).square().sum(-1).mean()
    if prediction.points is not None:
        seen = (truth.joints_mm - truth.crops.centre_mm[:, None]) / truth.crops.cube_mm
        loss = loss + joint_weight * (prediction.points - seen).norm(dim=-1).mean()
    if prediction.shape is not None and truth.shape is not None:
        loss = loss + SHAPE_WEIGHT * (prediction.shape - truth.shape).abs().mean()
    return loss, joint_error_mm.detach()


def _posed(prediction: Prediction, truth: SyntheticBatch, hand: HandRig) -> tuple[Tensor, Tensor]:
    """Joints [B, 21, 3] (mm) in the predicted pose, with true bones where there are many hands; and the true offset [B, 3]."""
    if truth.bones_mm is None:
        T = forward_kinematics(hand, prediction.rotations, wrist_position(prediction, hand, truth.crops))
        return joint_positions(hand, T), truth.true_prediction(hand).offset
    anchor = POINT_NAMES.index(ANCHOR)
    offset = (truth.joints_mm[:, anchor] - truth.crops.centre_mm) / truth.crops.cube_mm
    # posed with the wrist at the origin, then moved until the anchor is where it is predicted
    joints_mm = points_of_hands(truth.bones_mm, prediction.rotations, torch.zeros_like(truth.wrist_mm))
    at_mm = truth.crops.centre_mm + prediction.offset * truth.crops.cube_mm
    return joints_mm + (at_mm - joints_mm[:, anchor])[:, None], offset


def train_step(
    net: nn.Module, optimiser: torch.optim.Optimizer, batch: SyntheticBatch, hand: HandRig, joint_weight: float,
    bfloat16: bool = False, share: float = 1.0,
) -> Float[Tensor, "2"]:  # fmt: skip
    """One step of the optimiser; returns loss and joint error (mm). Net, batch and hand are on one device.

    Args:
        net: the network, or what shares it between processes.
        optimiser: of its parameters.
        batch: this process's frames.
        hand: the hand they show.
        joint_weight: as in `pose_loss`.
        bfloat16: compute the network in it.
        share: of the whole batch that this process has, times the number of processes, whose gradients are averaged.
    """
    shape = () if batch.shape is None else (told(batch.shape),)
    with torch.autocast(batch.rotations.device.type, torch.bfloat16, enabled=bfloat16):
        prediction = checked(net, net(batch.crops.image, *shape), len(batch), values=False)
    loss, error = pose_loss(prediction, batch, hand, joint_weight)
    optimiser.zero_grad(set_to_none=True)
    (loss * share).backward()
    optimiser.step()
    return torch.stack([loss.detach(), error])


def told(shape: Float[Tensor, "B 8"]) -> Float[Tensor, "B 8"]:
    """What a network is told of hands of these shapes in training: of some nothing (NaN), of the others nearly the truth."""
    known = torch.rand_like(shape[:, :1]) < TOLD_SHARE
    return torch.where(known, shape + TOLD_ERROR * torch.randn_like(shape), torch.nan)


class Replayed:
    """`train_step` on a CUDA device, recorded as a graph when it has been called a few times, and replayed from then on.

    A step is some six hundred small operations, which take the CPU longer to ask for than the device to do. Arguments but
    the batch must stay what they were, and the batch of one size.
    """

    WARM_UP = 3  # libraries choose their kernels and make room in the first calls

    def __init__(self, step: Callable[..., Tensor]):
        self.step, self.calls, self.graph = step, 0, None
        self.stream = torch.cuda.Stream()

    def __call__(self, net, optimiser, batch: SyntheticBatch, *others) -> Tensor:
        self.calls += 1
        if self.calls <= self.WARM_UP:  # on a stream of its own, as recording will be
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                numbers = self.step(net, optimiser, batch, *others)
            torch.cuda.current_stream().wait_stream(self.stream)
            return numbers
        if self.graph is None:
            self.batch = copy.deepcopy(batch)
            self.graph = torch.cuda.CUDAGraph()
            # the thread that makes frames goes on while this is recorded, which does nothing yet
            with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
                self.numbers = self.step(net, optimiser, self.batch, *others)
        for kept, new in zip(tensors(self.batch), tensors(batch), strict=True):
            kept.copy_(new)
        self.graph.replay()
        return self.numbers.clone()


def tensors(batch: SyntheticBatch) -> list[Tensor]:
    """What is learnt from."""
    return [batch.crops.image, batch.crops.centre_mm, *(part for part in batch.parts()[1:] if part is not None)]


def without_points(parts: Sequence[Tensor], cube_mm: float) -> SyntheticBatch:
    """The frames of these `tensors`; the crops have no points, from which nothing is learnt."""
    image, centre_mm, *truth = parts
    none = torch.zeros(len(image), dtype=torch.int64, device=image.device)
    crops = Crops(image, image.new_empty(len(image), 0, 3).float(), centre_mm, none, cube_mm)
    return SyntheticBatch(crops, *truth)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
