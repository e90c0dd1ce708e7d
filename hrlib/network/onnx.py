"""The network and the hand's kinematics as one ONNX file, and its use through ONNX Runtime (the extra `onnx`).

A frame at a time, as a camera gives them, ONNX Runtime is more than twice as fast as PyTorch, whose calls cost more than
the sums in them. On batches of 64 it saves a few tenths of a millisecond a frame, and exporting takes as long as it saves
on some 2000 frames: `hrlib predict` stays with PyTorch. The graph ends at the joints, so nothing small is left to PyTorch.
"""

import copy
import io
import json
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import roma
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from ..frames.crop import IMAGE_SIZE
from ..frames.crops import Crops
from ..hand.joints import PARENTS, POINT_ORDER, TIP_PARENTS
from ..hand.kinematics.reference import LEVELS
from ..hand.rig import HandRig
from ..hand.rotations import rotation_matrix
from ..method import ANCHOR
from ..support.files import write_bytes_atomically
from .backbones import FirstConv, Votes
from .posenet import PoseNet, Prediction
from .rotation_heads import to_quaternion

OPSET = 17  # the oldest that has all operators used here
FORMAT = "hrlib PoseNet and kinematics 1"


class _Graph(nn.Module):
    """Image -> joints about the crop's centre, theta, and whatever else the network says. Plain tensors only.

    The same as `evaluate.predicted_joints` in a fifth of the operations, each of which costs ONNX Runtime microseconds: a
    point's place is linear in the orientations of the joints before it.
    """

    def __init__(self, net: PoseNet, hand: HandRig, cube_mm: float):
        super().__init__()
        self.net, self.cube_mm = _for_export(net), cube_mm
        by_level = [0, *(joint for level in LEVELS for joint in range(16)[level])]
        self.arms_mm = _arms_mm(hand)[:, by_level].flatten(1)
        self.neutral = hand.R_parent_neutral.mT.contiguous()
        self.products = _products()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        numbers, offset, points = self.net.numbers(image)
        if self.net.settings.rotation == "6d":
            axes = _axes(numbers)
            rotations = _quaternions(axes, self.products)
        else:
            rotations = to_quaternion(numbers)
            axes = rotation_matrix(rotations).transpose(-2, -1)
        # matrices are transposed here (their rows are axes), so products are in the other order
        local = axes @ self.neutral
        levels = [local[:, :1]]
        for level in LEVELS:
            levels.append(local[:, level] @ levels[-1])
        joints_mm = self.arms_mm @ torch.cat(levels, 1).reshape(-1, 48, 3)
        if offset is not None:
            joints_mm = joints_mm + self.cube_mm * offset[:, None]
        return joints_mm, *(part for part in (rotations, offset, points) if part is not None)


def _arms_mm(hand: HandRig) -> Tensor:
    """What each joint's orientation adds to the 21 points: [21, 16, 3] mm, in the joint's own frame.

    A point is the sum over the joints of R_cam_joint times this, counted from the base of the middle finger.
    """
    arms_mm = hand.joints_mm.new_zeros(21, 16, 3)
    arms_mm[0, 0] = -hand.joints_mm[ANCHOR]
    for point, (parent, bone_mm) in enumerate(
        zip([*PARENTS[1:], *TIP_PARENTS], [*hand.bones_mm[1:], *hand.tip_bones_mm], strict=True), 1
    ):
        arms_mm[point] = arms_mm[parent]
        arms_mm[point, parent] += bone_mm
    return arms_mm[list(POINT_ORDER)]


def _axes(numbers: Tensor) -> Tensor:
    """6D numbers [B, 16, 6] -> the axes of each joint, a row each, [B, 16, 3, 3]; as `network.to_quaternion` has them."""
    first, second, eye = numbers[..., :3], numbers[..., 3:], torch.eye(3)
    x = _unit(first, eye[0])
    away = eye[x.abs().argmin(-1)]
    other = away - (x * away).sum(-1, keepdim=True) * x
    y = _unit(second - (x * second).sum(-1, keepdim=True) * x, other / other.norm(dim=-1, keepdim=True))
    z = x[..., [1, 2, 0]] * y[..., [2, 0, 1]] - x[..., [2, 0, 1]] * y[..., [1, 2, 0]]
    return torch.stack([x, y, z], -2)


def _unit(v: Tensor, otherwise: Tensor) -> Tensor:
    length = v.norm(dim=-1, keepdim=True)
    return torch.where(length < 1e-6, otherwise, v / length)


def _quaternions(axes: Tensor, products: Tensor) -> Tensor:
    """Rotations as their axes [B, 16, 3, 3], a row each -> unit quaternions xyzw [B, 16, 4], as `roma` has them.

    Each row of 4 q q^T is a multiple of q; the one with the largest diagonal entry is normalised (Markley 2008).
    """
    entries = axes.flatten(-2) @ products[:9] + products[9]  # [B, 16, 16]
    row = torch.eye(4)[entries[..., ::5].argmax(-1)]
    q = (row[..., None, :] @ entries.reshape(-1, 16, 4, 4)).reshape(-1, 16, 4)
    return q / q.norm(dim=-1, keepdim=True)


def _products() -> Tensor:
    """[10, 16]: the entries of 4 q q^T, q a unit quaternion xyzw, as sums of its rotation's transposed entries and of one."""
    q = roma.random_unitquat(64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    entries = pad(rotation_matrix(q).mT.flatten(1), (0, 1), value=1.0)
    return torch.linalg.lstsq(entries, 4 * torch.einsum("bi,bj->bij", q, q).flatten(1)).solution.round().float()


def _points(votes: Votes, up: Tensor) -> Tensor:
    """`Votes.points` with the places last: softmax and sums run along memory."""
    weight, bias = (part.unflatten(0, (21, 4)).transpose(0, 1).flatten(0, 1) for part in votes.vote.parameters())
    vote = conv2d(up, weight[..., None, None], bias).reshape(-1, 4, 21, 225)
    share = vote[:, 0].softmax(-1)
    moved = (share[:, None] * vote[:, 1:]).sum(-1)  # [B, 3, 21]
    return share @ votes.places + votes.REACH * moved.transpose(1, 2)


def _for_export(net: PoseNet) -> PoseNet:
    """The same network in eval mode, whose first layer is one convolution: ONNX wants weights that are constants."""
    net = copy.deepcopy(net).cpu().eval()
    for module in list(net.modules()):
        if isinstance(module, Votes):
            module.points = partial(_points, module)
        for name, child in module.named_children():
            if isinstance(child, FirstConv):
                plain = nn.Conv2d(1, child.out_channels, child.kernel_size, child.stride, child.padding)
                plain.load_state_dict(child.state_dict())
                setattr(module, name, plain)
    return net


def export_bytes(net: PoseNet, hand: HandRig, cube_mm: float = 250.0) -> bytes:
    """An ONNX model of any batch size: input image [B, 120, 120] (1 - z of the crop frame, 0 where there is nothing).

    Outputs: joints_mm [B, 21, 3], the points of `joints.POINT_NAMES` in the camera's axes, counted from the crop's centre;
    rotations [B, 16, 4], unit quaternions xyzw; offset [B, 3] and points [B, 21, 3] in the crop frame, where the network
    has them. cube_mm: the edge of the crops' cube, which the graph needs to place the hand. The file's metadata hold format,
    cube_mm, the hand's fingerprint and the network's settings. Raises ImportError where the package onnx is missing.
    """
    _require("onnx")
    import onnx

    graph = _Graph(net, hand, float(cube_mm))
    names = ["joints_mm", "rotations"]
    names += [name for name, has in (("offset", net.offset is not None), ("points", net.voted)) if has]
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # shapes are checked while tracing, and the tracing exporter is the small one
        torch.onnx.export(
            graph,
            (torch.zeros(2, IMAGE_SIZE, IMAGE_SIZE),),
            file,
            input_names=["image"],
            output_names=names,
            dynamic_axes={name: {0: "batch"} for name in ("image", *names)},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_model_from_string(file.getvalue())
    onnx.helper.set_model_props(
        model,
        {
            "format": FORMAT,
            "cube_mm": repr(float(cube_mm)),
            "hand": hand.fingerprint,
            "network": json.dumps(vars(net.settings)),
        },
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


def export_onnx(path: str | Path, net: PoseNet, hand: HandRig, cube_mm: float = 250.0) -> None:
    """Write `export_bytes` to one file, weights included, whole or not at all."""
    write_bytes_atomically(path, export_bytes(net, hand, cube_mm))


class OnnxPredictor:
    """An exported network, run by ONNX Runtime on the CPU.

    source: the file of `export_onnx`, or its bytes; threads: by default as many as torch uses.
    Raises ImportError without onnxruntime, FileNotFoundError, and ValueError for a file that is none of ours.
    """

    def __init__(self, source: str | Path | bytes, threads: int | None = None):
        _require("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # idle threads leave the core to others
        options.log_severity_level = 3
        if not isinstance(source, bytes):
            if not Path(source).is_file():
                raise FileNotFoundError(f"no ONNX model at {source}; write one with hrlib export --out {source}")
            source = Path(source).read_bytes()
        try:
            self.session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no common class of its errors
            raise ValueError(f"this is no ONNX model ({type(error).__name__}); write one with hrlib export") from error
        meta = self.session.get_modelmeta().custom_metadata_map
        if meta.get("format") != FORMAT:
            raise ValueError(f"the ONNX model is not one of hrlib's ({FORMAT}); write one with hrlib export")
        self.cube_mm, self.hand_fingerprint = float(meta["cube_mm"]), meta["hand"]
        self.names = [output.name for output in self.session.get_outputs()]

    def run(self, crops: Crops, batch: int = 200) -> tuple[Prediction, Tensor]:
        """What the network predicts, and the 21 joints [B, 21, 3] mm in the camera frame, `batch` crops at a time.

        Raises ValueError for crops of another cube than the one it was exported for.
        """
        if crops.cube_mm != self.cube_mm:
            raise ValueError(
                f"crops have a cube of {crops.cube_mm} mm, the model was exported for {self.cube_mm} mm; "
                f"export it with cube_mm={crops.cube_mm}"
            )
        image = crops.image.detach().cpu().numpy().astype(np.float32, copy=False)
        parts = [self.session.run(None, {"image": image[i : i + batch]}) for i in range(0, len(image), batch)]
        whole = (
            (parts[0] if len(parts) == 1 else [np.concatenate(p) for p in zip(*parts, strict=True)]) if parts else []
        )
        said = dict(zip(self.names, (torch.from_numpy(p) for p in whole), strict=False))
        if not said:
            raise ValueError("crops must hold at least one frame, got none")
        prediction = Prediction(said["rotations"], said.get("offset"), said.get("points"))
        return prediction, said["joints_mm"] + crops.centre_mm[:, None]


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise ImportError(f"the package {package} is not installed; pip install 'hrlib[onnx]' brings it")
