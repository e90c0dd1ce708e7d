"""The exported network against PyTorch: the same joints for any batch, one file, and errors that name the remedy."""

import copy
import inspect
import os
import pickle
import re
import runpy
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import command
from core_fixtures import CAMERA, drawn_frames, template

import hrlib
from hrlib.datasets.fetch import dataset_folder
from hrlib.frames.crop import crop_hand
from hrlib.frames.crops import Crops, concatenate
from hrlib.hand.from_file import hand_from_file
from hrlib.hand.joints import POINT_NAMES
from hrlib.hand.rig import save_hand
from hrlib.method import predicted_joints
from hrlib.network import onnx as onnx_export
from hrlib.network.backbones import BACKBONES
from hrlib.network.checkpoint import HAND, load_network, save_network
from hrlib.network.posenet import NetworkSettings, PoseNet
from hrlib.network.predict import predict
from hrlib.refine.saved import TRAINED

CONSUMER = Path(__file__).parents[2] / "docs" / "onnx_consumer.py"
onnx = pytest.importorskip("onnx")


def random_crops(count: int, cube_mm: float = 250.0) -> Crops:
    generator = torch.Generator().manual_seed(count)
    image = torch.rand(count, 120, 120, generator=generator)
    centre = torch.tensor([10.0, -20.0, 600.0]) + torch.randn(count, 3, generator=generator) * 30
    return Crops(image, torch.zeros(count, 1280, 3), centre, torch.full((count,), 5), cube_mm)


def network(backbone: str = "votes", rotation: str = "6d", offset: bool = True) -> PoseNet:
    torch.manual_seed(0)
    net = PoseNet(NetworkSettings(rotation=rotation, offset=offset, backbone=backbone)).eval()
    with torch.no_grad():
        net.theta.weight.mul_(100)  # a new network says the neutral pose, whatever it sees
        if net.offset is not None:
            net.offset.weight.normal_(0, 0.01)
    return net


@pytest.mark.parametrize(
    "backbone, rotation, offset",
    [("votes", "6d", True), ("alexnet", "quaternion", False), ("resnet", "euler", True), ("alexnet", "6d", True)],
)
def test_equals_pytorch_for_any_batch(backbone, rotation, offset):
    assert backbone in BACKBONES
    net, hand = network(backbone, rotation, offset), template()
    onnx_net = onnx_export.OnnxPredictor(onnx_export.export_bytes(net, hand), threads=1)
    for count, batch in ((1, 200), (5, 2)):
        crops = random_crops(count)
        expected = predict(net, crops)
        got, joints_mm = onnx_net.run(crops, batch)
        dots = (got.rotations * expected.rotations).sum(-1).abs()  # q and -q are one rotation
        torch.testing.assert_close(dots, torch.ones(count, 16), rtol=0, atol=1e-5)
        for name in ("offset", "points"):
            ours, theirs = getattr(got, name), getattr(expected, name)
            assert (ours is None) == (theirs is None)
            if ours is not None:
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        # float32 convolutions in another order: some 1e-6 of 600 mm
        torch.testing.assert_close(joints_mm, predicted_joints(expected, hand, crops), rtol=0, atol=1e-2)
    assert joints_mm.std(0).max() > 1  # the frames do differ


@pytest.mark.parametrize("rotation", ["6d", "quaternion"])
def test_numbers_that_name_no_rotation_are_the_neutral_one_there_too(rotation):
    net, hand, crops = network("alexnet", rotation), template(), random_crops(3)
    with torch.no_grad():
        net.theta.weight.zero_()
        net.theta.bias.zero_()
    got, joints_mm = onnx_export.OnnxPredictor(onnx_export.export_bytes(net, hand), threads=1).run(crops)
    expected = predict(net, crops)
    torch.testing.assert_close(got.rotations, expected.rotations, rtol=0, atol=1e-5)
    torch.testing.assert_close(joints_mm, predicted_joints(expected, hand, crops), rtol=0, atol=1e-2)


@pytest.mark.parametrize("mode", ["double", "default dtype", "default device", "autocast", "inference"])
def test_a_mode_of_torch_changes_no_exported_number(mode):
    net, hand, crops = network(), template(), random_crops(2)
    expected = predicted_joints(predict(net, crops), hand, crops)
    if mode == "double":
        net, hand = copy.deepcopy(net).double(), hand.to(torch.float64)
    modes = {"autocast": torch.autocast("cpu", torch.bfloat16), "inference": torch.inference_mode()}
    try:
        torch.set_default_dtype(torch.float64 if mode == "default dtype" else torch.float32)
        torch.set_default_device("meta" if mode == "default device" else None)
        with modes.get(mode, nullcontext()):
            exported = onnx_export.export_bytes(net, hand)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    predictor = pickle.loads(pickle.dumps(onnx_export.OnnxPredictor(exported, threads=1)))  # as for another process
    joints_mm = predictor.run(crops)[1]
    assert joints_mm.dtype == torch.float32
    torch.testing.assert_close(joints_mm, expected, rtol=0, atol=1e-2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_waits_for_the_end_of_an_export():
    """Else its process would find torch's exporter, or its lock, in use for ever."""
    order, started = [], threading.Event()

    def export():
        with onnx_export.EXPORTING:
            started.set()
            time.sleep(0.3)
            order.append("exported")

    thread = threading.Thread(target=export)
    thread.start()
    started.wait()
    if not (child := os.fork()):
        free = onnx_export.EXPORTING.acquire(timeout=1)
        os._exit(0 if free and order == ["exported"] else 1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_one_file_that_says_what_it_is(tmp_path):
    hand, file = template(), tmp_path / "net.onnx"
    onnx_export.export_onnx(file, network(), hand, cube_mm=220.0)
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    predictor = onnx_export.OnnxPredictor(file, threads=1)
    assert (predictor.cube_mm, predictor.hand_fingerprint) == (220.0, hand.fingerprint)
    with pytest.raises(ValueError, match=r"cube of 250.0 mm.*exported for 220.0 mm"):
        predictor.run(random_crops(1))
    predictor.run(replace(random_crops(1), cube_mm=220.0))
    with pytest.raises(ValueError, match="at least one frame"):
        predictor.run(random_crops(1, 220.0)[:0])


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The base model as `hrlib export` writes it."""
    path = tmp_path_factory.mktemp("onnx") / "hand.onnx"
    onnx_export.export_onnx(path, load_network(template())[0], template())
    return path


def consume(monkeypatch, shipped, path, images) -> dict:
    """Names of docs/onnx_consumer.py after it ran on images."""
    np.save(path, images)
    monkeypatch.setattr(sys, "argv", ["onnx_consumer.py", *map(str, (shipped, path, *vars(CAMERA).values()))])
    return runpy.run_path(str(CONSUMER))


def test_a_program_without_hrlib(shipped, tmp_path, monkeypatch):
    """docs/onnx_consumer.py, batches of every size, against the network on crops of the same pixels."""
    frames, _ = drawn_frames()
    images = np.stack([frame.depth_mm for frame in frames])
    consumer = consume(monkeypatch, shipped, tmp_path / "depth.npy", images)
    behind_mm = inspect.signature(consumer["crop"]).parameters["behind_mm"].default
    nearest = [(image > 0) & (image < image[image > 0].min() + behind_mm) for image in images]
    crops = concatenate([crop_hand(image, CAMERA, near) for image, near in zip(images, nearest, strict=True)])
    with torch.no_grad():
        expected = predicted_joints(
            load_network(template())[0](crops.image), template(), crops
        ).numpy()  # nothing is turned
    for some in (slice(0, 1), slice(1, 4), slice(0, 6)):
        ours = consume(monkeypatch, shipped, tmp_path / "depth.npy", images[some])["joints"]
        np.testing.assert_allclose(ours, expected[some], rtol=0, atol=0.3)  # a pixel of an outline may round otherwise
    seen = hrlib.predict(images[5], CAMERA, fit=False)  # five views, the finder's mask
    assert np.linalg.norm(consumer["joints"][5] - seen.joints_mm, axis=1).mean() < 10


def test_the_program_is_short_and_prints_names_and_numbers(shipped, tmp_path, capsys, monkeypatch):
    consumer = consume(monkeypatch, shipped, tmp_path / "depth.npy", drawn_frames()[0][5].depth_mm)
    rows = [row.split(",") for row in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[1]) for row in rows] == [("0", name) for name in POINT_NAMES]
    np.testing.assert_allclose(np.array([row[2:] for row in rows], float), consumer["joints"][0], rtol=0, atol=0.006)
    text = CONSUMER.read_text()
    assert len(text.splitlines()) <= 30 and not re.search(r"import (hrlib|torch)|from (hrlib|torch)", text)


def test_what_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="hrlib export"):
        onnx_export.OnnxPredictor(tmp_path / "nothing.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match="no ONNX model"):
        onnx_export.OnnxPredictor(tmp_path / "text.onnx")
    other = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["x"], ["y"])],
            "g",
            [onnx.helper.make_tensor_value_info("x", 1, [1])],
            [onnx.helper.make_tensor_value_info("y", 1, [1])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", onnx_export.OPSET)],
        ir_version=8,
    )
    with pytest.raises(ValueError, match="not one of hrlib's"):
        onnx_export.OnnxPredictor(other.SerializeToString())


@pytest.mark.parametrize(
    "hand, cube_mm, message", [("hand.glb", 250.0, "hand must be a rig"), (None, "250", "cube_mm must")]
)
def test_what_is_not_exported(hand, cube_mm, message):
    with pytest.raises(ValueError, match=message):
        onnx_export.export_bytes(network(), hand or template(), cube_mm)


def test_command_writes_the_shipped_model(tmp_path, capsys):
    assert command("export", "--out", tmp_path / "base.onnx") == 0
    (tmp_path / "model.safetensors").write_bytes(bytes(range(8, 80)))
    assert command("export", "--out", tmp_path / "model.safetensors") == 2, "a model is not replaced by its export"
    assert (tmp_path / "model.safetensors").read_bytes() == bytes(range(8, 80))
    assert command("export", "--out", tmp_path / "base.onnx") == 0, "an export is"
    assert "base.onnx" in capsys.readouterr().out
    hand, crops = template(), random_crops(2)
    joints_mm = onnx_export.OnnxPredictor(tmp_path / "base.onnx", threads=1).run(crops)[1]
    expected = predicted_joints(predict(load_network(hand)[0], crops), hand, crops)
    torch.testing.assert_close(joints_mm, expected, rtol=0, atol=1e-2)


@pytest.mark.mirror
def test_a_foreign_hand_is_predicted_and_exported(tmp_path):
    """The WebXR hand with the base model's weights, as a training on it begins: hrlib.predict and ONNX pose this hand."""
    hand = hand_from_file(dataset_folder("rigs") / "webxr_generic_hand" / "right.glb")
    save_network(tmp_path / TRAINED, load_network(template())[0], hand, {"side": "right"})
    save_hand(tmp_path / HAND, hand, "WebXR")
    frames, truth = drawn_frames()
    seen = hrlib.predict(frames[4].depth_mm, CAMERA, model=tmp_path)
    assert seen.side == "right" and seen.hand.has_fingerprint(hand.fingerprint)
    assert np.linalg.norm(seen.joints_mm - truth[4].numpy(), axis=1).mean() < 20  # mm; another person's bones
    posed = hrlib.pose_hand(hand, seen.rotations, seen.wrist_mm)
    np.testing.assert_allclose(posed.joints_mm, seen.joints_mm, rtol=0, atol=1e-3)

    assert command("export", "--model", tmp_path, "--out", tmp_path / "webxr.onnx") == 0
    exported, crops = onnx_export.OnnxPredictor(tmp_path / "webxr.onnx", threads=1), random_crops(2)
    assert exported.hand_fingerprint == hand.fingerprint
    expected = predicted_joints(predict(load_network(hand, tmp_path / TRAINED)[0], crops), hand, crops)
    torch.testing.assert_close(exported.run(crops)[1], expected, rtol=0, atol=1e-2)
