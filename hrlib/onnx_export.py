"""The network and the hand's kinematics as one ONNX file, and its use through ONNX Runtime (the extra `onnx`).

A frame at a time, as a camera gives them, ONNX Runtime is about twice as fast as PyTorch, whose calls cost more than the
sums in them; on large batches both are as fast. The graph ends at the joints, so that nothing small is left to PyTorch.
"""

import copy
import io
import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .crop import Crops
from .hand import HandRig
from .kinematics import forward_kinematics, joint_positions
from .network import IMAGE_SIZE, FirstConv, PoseNet, Prediction
from .pipeline import wrist_position
from .results import write_bytes_atomically

OPSET = 17  # the oldest that has all operators used here
FORMAT = "hrlib PoseNet and kinematics 1"


class _Graph(nn.Module):
    """Image -> joints about the crop's centre, theta, and whatever else the network says. Plain tensors only."""

    def __init__(self, net: PoseNet, hand: HandRig, cube_mm: float):
        super().__init__()
        self.net, self.hand, self.cube_mm = _with_plain_convolutions(net), hand, cube_mm

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        said = self.net(image)
        empty = image.new_zeros(0)
        # the crop's centre is left at 0: whoever calls adds it
        crops = Crops(image, empty, image.new_zeros(1, 3), empty, self.cube_mm)
        wrist_mm = wrist_position(said, self.hand, crops)
        joints_mm = joint_positions(self.hand, forward_kinematics(self.hand, said.rotations, wrist_mm))
        return joints_mm, *(part for part in (said.rotations, said.offset, said.points) if part is not None)


def _with_plain_convolutions(net: PoseNet) -> PoseNet:
    """The same network in eval mode, whose first layer is one convolution: ONNX wants weights that are constants."""
    net = copy.deepcopy(net).cpu().eval()
    for module in list(net.modules()):
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
