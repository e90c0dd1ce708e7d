"""Models, hands and states on disk: a flipped bit, values that no training leaves, indices that point nowhere."""

import json

import pytest
import torch
from core_fixtures import template
from safetensors.torch import load, save

from hrlib.hand.rig import asset_tensors, load_hand
from hrlib.network.checkpoint import load_network, save_network
from hrlib.network.onnx import export_bytes
from hrlib.network.posenet import NetworkSettings, PoseNet
from hrlib.support.state_files import read_state, write_state
from hrlib.support.tensor_files import read_tensors, tensor_bytes


def test_the_same_tensors_are_the_same_bytes_and_each_flipped_bit_is_seen(tmp_path):
    tensors, meta = (
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1), "c": torch.zeros(0, 3)},
        {"x": "é", "y": "1"},
    )
    content, path = tensor_bytes(tensors, meta), tmp_path / "a.safetensors"
    assert content == tensor_bytes(dict(reversed(tensors.items())), dict(reversed(meta.items())))
    path.write_bytes(content)
    stored_meta, stored = read_tensors(path)
    assert stored_meta == meta and all(torch.equal(stored[name], tensors[name]) for name in tensors)
    key = content.index(b"sha256")
    for place in range(len(content)):
        if key <= place < key + 6:
            continue  # without its digest, the file is as older ones are
        broken = bytearray(content)
        broken[place] ^= 4
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="a.safetensors"):
            read_tensors(path)


def altered(change, tmp_path):
    """A checkpoint as older versions wrote them, without a digest, of which `change` changes the weights."""
    path = tmp_path / "net.safetensors"
    torch.manual_seed(0)
    save_network(path, PoseNet(NetworkSettings(backbone="resnet")), template(), {})
    content = path.read_bytes()
    meta = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    tensors = load(content)
    change(tensors, meta)
    path.write_bytes(save(tensors, {key: value for key, value in meta.items() if key != "sha256"}))
    return path


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t, m: t["theta.weight"].fill_(float("nan")), "NaN or infinite"),
        (lambda t, m: t["theta.bias"].fill_(float("inf")), "NaN or infinite"),
        (lambda t, m: t["hidden.weight"].mul_(1e5), "a trained network's are below"),
        (lambda t, m: m.update(training="[]"), "record of its training"),
        (lambda t, m: m.update(shape="[1, 2]"), "knows one hand"),
        (lambda t, m: m.update(network="[1]"), "not a PoseNet checkpoint"),
    ],
)
def test_networks_that_no_training_leaves_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=f"net.safetensors.*{message}"):
        load_network(template(), altered(change, tmp_path))


@pytest.mark.parametrize(
    "key, change, message",
    [
        ("vertices_mm", lambda x: x * float("nan"), "NaN or infinite"),
        ("vertices_mm", lambda x: x * 1000, "lengths are in millimetres"),
        ("joints_mm", lambda x: x / 10, "the palm is .* mm long"),
        ("faces", lambda x: x + 1000, "faces must be indices from 0 to"),
        ("cloud_face", lambda x: x - 1, "cloud_face must be indices from 0 to"),
        ("cloud_bary", lambda x: 2 * x, "cloud_bary must be shares of one"),
        ("R_wrist_rest", lambda x: -x, "must be rotations"),
        ("tips_mm", lambda x: x[:4], "tips_mm must be"),
        ("morph/hand-scale+/joints_mm", lambda x: x[:4], "morph hand-scale. is of another hand"),
    ],
)
def test_hands_that_are_none_are_refused(tmp_path, key, change, message):
    tensors = asset_tensors(template())
    tensors[key] = change(tensors[key]).contiguous()
    (tmp_path / "hand.safetensors").write_bytes(save(tensors, {"hand": json.dumps({"name": "x"})}))
    with pytest.raises(ValueError, match=f"hand.safetensors.*{message}"):
        load_hand(tmp_path / "hand.safetensors")


def test_a_changed_state_is_refused_and_an_older_one_read(tmp_path):
    path = tmp_path / "state.pt"
    write_state(path, {"config": {}, "x": torch.arange(4.0)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="state.pt is no state of a run .*delete it to begin anew"):
        read_state(path, "a run")
    torch.save({"config": {}, "x": 1}, path)
    assert read_state(path, "a run")["x"] == 1


@pytest.mark.parametrize("cube_mm", [float("nan"), 0.0, -5.0, 1e9])
def test_cubes_that_hold_no_hand_are_not_exported(cube_mm):
    with pytest.raises(ValueError, match="cube_mm must be 50 to 1000 mm"):
        export_bytes(PoseNet(), template(), cube_mm)
