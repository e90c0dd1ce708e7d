"""The network and the hand's kinematics as one ONNX file, and its use through ONNX Runtime.

A frame at a time, as a camera gives them, ONNX Runtime is more than twice as fast as PyTorch, whose calls cost more than
the sums in them. On batches of 64 it saves a few tenths of a millisecond a frame, and exporting takes as long as it saves
on some 2000 frames: `hrlib predict` stays with PyTorch. The graph ends at the joints, so nothing small is left to PyTorch.
"""

import copy
import io
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..frames.crop import IMAGE_SIZE
from ..frames.crops import Crops
from ..hand.joints import POINT_NAMES, POINT_PARENTS
from ..hand.kinematics import forward_kinematics, joint_positions
from ..hand.rig import HandRig, check_rig
from ..support.autograd import for_every_use
from ..support.files import read_whole, write_bytes_atomically
from ..support.onnx_files import session
from .model import PoseModel, named
from .posenet import PoseNet, Prediction, wrist_to_anchor_mm

OPSET = 17  # the oldest that has all operators used here
CUBES_MM = (50.0, 1000.0)  # edges of cubes that hold a hand, and not more than a room's corner
FORMAT = "hrlib PoseNet and kinematics 1"
IMAGE = {"image": (2, IMAGE_SIZE, IMAGE_SIZE)}  # what a PoseNet is traced with
EXPORTING = RLock()  # torch exports one graph at a time
if hasattr(os, "register_at_fork"):  # a forked process would find a half-done export, which nobody ends
    os.register_at_fork(before=EXPORTING.acquire, after_in_parent=EXPORTING.release, after_in_child=EXPORTING.release)
ONNX_BEGINS = b"\x08\x08\x12"  # tags of the version of the format and of what wrote it, in a file of this opset


class _Graph(nn.Module):
    """Image -> joints about the crop's centre, and what the network predicts. Plain tensors only.

    Tracing records the same torch code that `hrlib predict` runs. Writing the kinematics and the rotation head a second
    time, in a fifth of the operations, made a frame 8 % faster and batches not at all (base model, one thread).
    """

    def __init__(self, net: PoseNet, hand: HandRig, cube_mm: float):
        super().__init__()
        self.net, self.hand, self.cube_mm = copy.deepcopy(net).cpu().float().eval(), hand, cube_mm

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        prediction = self.net(image)
        rotations, offset = prediction.rotations, prediction.offset
        anchor_mm = torch.zeros_like(rotations[:, 0, :3]) if offset is None else self.cube_mm * offset
        T = forward_kinematics(self.hand, rotations, anchor_mm - wrist_to_anchor_mm(rotations, self.hand))
        parts = (joint_positions(self.hand, T), rotations, offset, prediction.points)
        return tuple(part for part in parts if part is not None)


def export_bytes(net: PoseModel, hand: HandRig, cube_mm: float = 250.0) -> bytes:
    """An ONNX model for any batch size: input image [B, 120, 120] (1 - z of the crop frame, 0 where there is nothing).

    Outputs: joints_mm [B, 21, 3], the points of `joints.POINT_NAMES` in the camera's axes, counted from the crop's centre;
    rotations [B, 16, 4], unit quaternions xyzw; offset [B, 3] and points [B, 21, 3] in the crop frame, where the network
    has them. The file's metadata hold format, cube_mm, names and parents of the joints, the hand's fingerprint and the
    network's settings. `docs/onnx_consumer.py` uses the file without hrlib.

    Args:
        net: any PoseNet.
        hand: the rig that it was trained with.
        cube_mm: edge of the crops' cube, which the graph needs to place the hand.

    Raises:
        ValueError: another network than a PoseNet, no rig, or a cube that holds no hand.
    """
    if not (isinstance(cube_mm, int | float | np.number) and CUBES_MM[0] <= cube_mm <= CUBES_MM[1]):  # NaN is not
        raise ValueError(f"cube_mm must be {CUBES_MM[0]:g} to {CUBES_MM[1]:g} mm, about a hand's size, got {cube_mm}")
    if not isinstance(net, PoseNet):
        raise ValueError(
            f"only a PoseNet is exported, got {named(net)}: export your own by torch.onnx, its theta first"
        )
    check_rig(hand)
    import onnx  # when it is needed: importing it takes a tenth of a second

    names = ["joints_mm", "rotations"]
    names += [name for name, has in (("offset", net.offset is not None), ("points", net.voted)) if has]
    graph = _Graph(net, hand.to("cpu", torch.float32), float(cube_mm))
    model = onnx.load_model_from_string(to_onnx(graph, IMAGE, names))
    network = json.dumps(vars(net.settings))
    meta = {"format": FORMAT, "cube_mm": repr(float(cube_mm)), "hand": hand.fingerprint, "network": network}
    meta |= {"joints": json.dumps(POINT_NAMES), "parents": json.dumps(POINT_PARENTS)}
    onnx.helper.set_model_props(model, meta)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def to_onnx(
    graph: nn.Module,
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Sequence[str] = (),
    sizes: Mapping[int, str] | None = None,
) -> bytes:
    """A graph as an ONNX model for any batch size. Any thread may ask, in any mode of torch's.

    Args:
        graph: takes float32 tensors, and gives one or a tuple of them.
        inputs: their names, and shapes to trace it with.
        outputs: names of what it gives; by default torch's.
        sizes: axes of the inputs that may have any size beside the batch's, and what to call them.

    Raises:
        RuntimeError: it can't be one.
    """
    file = io.BytesIO()
    with EXPORTING, warnings.catch_warnings(), for_every_use(), _float32(), torch.no_grad():
        warnings.simplefilter("ignore")  # shapes are checked while tracing, and the tracing exporter is the small one
        zeros = tuple(torch.zeros(shape) for shape in inputs.values())
        graph(*zeros)  # constants that torch code computes once and keeps are not part of the graph
        torch.onnx.export(
            graph,
            zeros,
            file,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: {0: "batch"} | (sizes or {}) for name in inputs}
            | {name: {0: "batch"} for name in outputs},
            opset_version=OPSET,
            dynamo=False,
        )
    return file.getvalue()


@contextmanager
def _float32() -> Iterator[None]:
    """The exporter writes plain numbers in torch's default dtype, and a graph of two dtypes is none."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def export_onnx(path: str | Path, net: PoseModel, hand: HandRig, cube_mm: float = 250.0) -> None:
    """Write `export_bytes` to one file, weights included, whole or not at all."""
    write_bytes_atomically(path, export_bytes(net, hand, cube_mm))


class OnnxPredictor:
    """An exported network, run by ONNX Runtime on the CPU.

    Args:
        source: the file of `export_onnx`, or its bytes.
        threads: by default as many as torch uses.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not one of ours.
    """

    def __init__(self, source: str | Path | bytes, threads: int | None = None):
        if not isinstance(source, bytes):
            if not Path(source).is_file():
                raise FileNotFoundError(f"no ONNX model at {source}; write one with hrlib export --out {source}")
            source = read_whole(source)
        try:
            self.session = session(source, threads or torch.get_num_threads())
        except ValueError as error:
            raise ValueError(f"this is {error}; write one with hrlib export") from error
        meta = self.session.get_modelmeta().custom_metadata_map
        if meta.get("format") != FORMAT:
            raise ValueError(f"the ONNX model is not one of hrlib's ({FORMAT}); write one with hrlib export")
        self.cube_mm, self.hand_fingerprint = float(meta["cube_mm"]), meta["hand"]
        self.names = [output.name for output in self.session.get_outputs()]

    def run(self, crops: Crops, batch: int = 200) -> tuple[Prediction, Float[Tensor, "B 21 3"]]:
        """The network's prediction, and the 21 joints in mm in the camera frame, `batch` crops at a time.

        Raises:
            ValueError: no crops, or crops of another cube than the one that the network was exported for.
        """
        if crops.cube_mm != self.cube_mm:
            raise ValueError(
                f"crops have a cube of {crops.cube_mm} mm, the model was exported for {self.cube_mm} mm; "
                f"export it with cube_mm={crops.cube_mm}"
            )
        if not len(crops):
            raise ValueError("crops must hold at least one frame, got none")
        image = crops.image.detach().cpu().numpy().astype(np.float32, copy=False)
        parts = [self.session.run(None, {"image": image[i : i + batch]}) for i in range(0, len(image), batch)]
        columns = parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]
        outputs = dict(zip(self.names, map(torch.from_numpy, columns), strict=True))
        prediction = Prediction(outputs["rotations"], outputs.get("offset"), outputs.get("points"))
        return prediction, outputs["joints_mm"] + crops.centre_mm[:, None]
