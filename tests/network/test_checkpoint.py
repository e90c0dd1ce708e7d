"""Checkpoints: round trip, the right hand, and files that are broken or half written."""

import json
import os

import pytest
import torch
from core_fixtures import template
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hrlib.network.checkpoint import load_network, save_network
from hrlib.network.posenet import NetworkSettings, PoseNet


def network(**settings) -> PoseNet:
    torch.manual_seed(0)
    return PoseNet(NetworkSettings(**settings)).eval()


@pytest.fixture
def saved(tmp_path):
    """A checkpoint and the network in it."""
    net = network()
    save_network(tmp_path / "net.safetensors", net, template(), {"steps": 3, "note": "é"})
    return tmp_path / "net.safetensors", net


def test_round_trip_is_exact(saved):
    path, net = saved
    loaded, training = load_network(template(), path)
    assert training == {"steps": 3, "note": "é"} and loaded.settings == net.settings and not loaded.training
    assert loaded.state_dict().keys() == net.state_dict().keys()
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_float16_halves_the_file_and_costs_little(saved, tmp_path):
    path, net = saved
    small = tmp_path / "half.safetensors"
    save_network(small, net, template(), {}, torch.float16)
    assert small.stat().st_size < 0.51 * path.stat().st_size
    loaded, _ = load_network(template(), small)
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    image = torch.rand(2, 120, 120, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(loaded(image).rotations, net(image).rotations, rtol=0, atol=2e-3)
    assert all(p.dtype == torch.float32 for p in net.parameters()), "the network that was saved stays as it was"


def test_a_checkpoint_with_the_older_fingerprint_loads(saved):
    path, net = saved
    with safe_open(path, "pt") as file:
        meta = file.metadata()
    meta.pop("sha256")  # as older files are
    assert meta["hand"] == template().fingerprint
    save_file(load_file(path), path, meta | {"hand": template().geometry_fingerprint})
    assert load_network(template(), path)[0].settings == net.settings


@pytest.mark.parametrize(
    "settings", [{"rotation": "6d"}, {"offset": False}, {"batch_norm": True}, {"backbone": "resnet"}]
)
def test_settings_travel_with_the_weights(tmp_path, settings):
    net = network(**settings)
    save_network(tmp_path / "net.safetensors", net, template(), {}, torch.float16)
    loaded, _ = load_network(template(), tmp_path / "net.safetensors")
    assert loaded.settings == net.settings
    with torch.no_grad():
        loaded(torch.zeros(1, 120, 120))


def test_a_checkpoint_from_before_there_were_two_backbones_loads(saved, tmp_path):
    path, net = saved
    with safe_open(path, "pt") as file:
        meta = file.metadata()
    meta.pop("sha256")  # as older files are
    settings = json.loads(meta["network"])
    assert settings.pop("backbone") == "alexnet"
    save_file(load_file(path), tmp_path / "old.safetensors", meta | {"network": json.dumps(settings)})
    assert load_network(template(), tmp_path / "old.safetensors")[0].settings == net.settings


def test_another_hand_is_refused(saved):
    other = template().morphed({"fingers-length+": 0.5}, name="long fingers")
    with pytest.raises(ValueError, match=r"trained with the hand 'Anny.*not with 'long fingers'"):
        load_network(other, saved[0])


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*none.safetensors"):
        load_network(template(), tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match=r"hand must be a rig, as hrlib.load_hand\(\) gives it, got PosixPath"):
        load_network(tmp_path)


def test_broken_files_are_no_checkpoints(saved, tmp_path):
    path, net = saved
    content = path.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.safetensors").write_text("weights")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    save_file(load_file(path), tmp_path / "bare.safetensors")  # weights without a word about them
    with safe_open(path, "pt") as file:
        meta = file.metadata()
    meta.pop("sha256")  # as older files are
    part = {k: v for k, v in load_file(path).items() if not k.startswith("theta")}
    save_file(part, tmp_path / "part.safetensors", meta)
    save_file(load_file(path), tmp_path / "setting.safetensors", meta | {"network": '{"layers": 3}'})
    for key in ("hand", "training", "network"):
        save_file(load_file(path), tmp_path / f"no_{key}.safetensors", {k: v for k, v in meta.items() if k != key})
    names = ("cut", "text", "empty", "bare", "part", "setting", "no_hand", "no_training", "no_network")
    for name in names:
        with pytest.raises(ValueError, match=f"{name}.safetensors is not a PoseNet checkpoint"):
            load_network(template(), tmp_path / f"{name}.safetensors")


def test_a_failing_write_keeps_the_old_checkpoint(saved, monkeypatch):
    path, net = saved
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with torch.no_grad():
        net.theta.bias.add_(1)
    with pytest.raises(OSError, match="No space left"):
        save_network(path, net, template(), {})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing half written is left"
    monkeypatch.undo()
    save_network(path, net, template(), {})
    assert path.read_bytes() != before and load_network(template(), path)[1] == {}
