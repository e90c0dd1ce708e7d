"""A network of one's own: the check of what it says, both recipes, saving and loading, the command line."""

import sys
from dataclasses import replace

import pytest
import torch
from core_fixtures import clean_batch, template
from refine_fixtures import BEST, PAPER, run
from torch import nn
from torch.nn.functional import normalize

import hrlib
from hrlib.network.checkpoint import load_network, save_network
from hrlib.network.model import PoseModel, ask, built
from hrlib.network.onnx import export_bytes
from hrlib.network.posenet import Prediction
from hrlib.network.predict import predict, predict_turned
from hrlib.network.rotation_heads import to_quaternion
from hrlib.refine.saved import load_refined, save_refined


class Tiny(nn.Module):
    """Averages of the image, one layer, theta. It has batch statistics and a tied weight, as other people's networks have."""

    def __init__(self):
        super().__init__()
        self.norm, self.theta = nn.BatchNorm1d(36), nn.Linear(36, 16 * 4 + 3)
        self.tied = self.theta.weight
        nn.init.normal_(self.theta.weight, std=0.05)

    def forward(self, image):
        out = self.theta(self.norm(nn.functional.avg_pool2d(image, 20).flatten(1)))
        return Prediction(to_quaternion(out[:, :64].reshape(-1, 16, 4)), 0.1 * out[:, 64:])


class Says(nn.Module):
    """A network with one weight that says what it was given."""

    def __init__(self, prediction):
        super().__init__()
        self.weight, self.prediction = nn.Parameter(torch.ones(())), prediction

    def forward(self, image):
        return self.prediction


def tiny() -> Tiny:
    torch.manual_seed(3)
    return Tiny().eval()


def prediction(count: int = 4, **changed) -> Prediction:
    q = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(count, 16, 4)
    return Prediction(**{"rotations": q, "offset": torch.zeros(count, 3)} | changed)


def test_the_protocol_is_that_of_every_module_and_of_the_librarys_names():
    assert isinstance(tiny(), PoseModel) and hrlib.PoseModel is PoseModel
    assert not isinstance(lambda image: image, PoseModel)


def test_what_comes_under_autocast_is_float32_and_unit():
    image, net = clean_batch().crops.image, tiny()
    with torch.autocast("cpu", torch.bfloat16):
        raw, said = net(image), ask(net, image)
    assert raw.offset.dtype == torch.bfloat16 and said.offset.dtype == said.rotations.dtype == torch.float32
    half = ask(Says(prediction(rotations=normalize(torch.randn(4, 16, 4), dim=-1).half())), image)
    torch.testing.assert_close(half.rotations.norm(dim=-1), torch.ones(4, 16), atol=1e-6, rtol=0)
    torch.testing.assert_close(said.rotations, net(image).rotations, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (torch.zeros(4, 63), "network Says must return an hrlib Prediction, got Tensor: wrap .* hrlib.FromJoints"),
        ({"rotations": torch.zeros(4, 15, 4)}, r"must be .*\[4, 16, 4\] for 4 images, got torch.float32 \[4, 15, 4\]"),
        ({"offset": torch.zeros(3)}, r"offset must be .*\[4, 3\] for 4 images, got torch.float32 \[3\]"),
        ({"offset": torch.zeros(4, 3, dtype=torch.int64)}, r"offset must be a tensor of floats .*int64"),
        ({"rotations": None}, "rotations must be .*got NoneType"),
        ({"points": torch.full((4, 21, 3), torch.nan)}, "points of image 0 are NaN or infinite; look at its weights"),
        ({"rotations": torch.ones(4, 16, 4)}, "unit quaternions, got lengths from 2 to 2; pass them .*to_quaternion"),
    ],
)  # fmt: skip
def test_each_wrong_answer_names_network_part_and_remedy(said, message):
    if isinstance(said, dict):
        parts, said = said, prediction()
        vars(said).update(parts)  # not through `__init__`, whose types the tests check
    with pytest.raises(ValueError, match=message):
        predict(Says(said), clean_batch().crops)


def test_a_network_that_nothing_reaches_is_refused_before_it_is_refined():
    crops, frozen = clean_batch().crops, tiny().requires_grad_(False)
    for settings in (PAPER, BEST):
        with pytest.raises(ValueError, match="network Says: its rotations do not depend on its weights"):
            run(Says(prediction(1)), crops[:1], settings)
    with pytest.raises(ValueError, match="network Tiny has no weight that wants a gradient"):
        run(frozen, crops, PAPER)


def test_a_shape_is_told_to_no_network_that_cannot_know_it():
    with pytest.raises(ValueError, match="network Tiny cannot be told a hand's shape"):
        predict(tiny(), clean_batch().crops, shape=torch.zeros(8))


ENOUGH = replace(BEST, steps=20, learning_rate=1e-3)  # so many that the better network is never the one before


@pytest.mark.parametrize("settings", [PAPER, ENOUGH], ids=["paper", "best"])
def test_both_recipes_refine_it_and_what_they_save_is_loaded_again(settings, tmp_path):
    net, crops = tiny(), clean_batch().crops
    refined = run(net, crops, settings)
    assert type(refined.net) is Tiny and not torch.equal(refined.net.theta.weight, net.theta.weight)
    assert torch.equal(net.theta.weight, tiny().theta.weight), "the given one stays"
    save_refined(tmp_path, refined, template(), {"side": "right"})
    loaded, hand = load_refined(tmp_path, template(), Tiny)
    for how in (predict, predict_turned):
        said, again = how(refined.net, crops), how(loaded, crops)
        assert torch.equal(said.rotations, again.rotations) and torch.equal(said.offset, again.offset)
    assert hand.fingerprint == refined.hand.fingerprint
    with pytest.raises(ValueError, match=r"your own \(class test_model.Tiny\): name the function .*--network"):
        load_refined(tmp_path, template())
    with pytest.raises(ValueError, match=r"has the weights of a test_model.Tiny, not of what .*\(torch.nn"):
        load_refined(tmp_path, template(), lambda: nn.Linear(2, 2))


def test_a_posenet_needs_no_factory_and_a_record_must_be_one(tmp_path):
    with pytest.raises(ValueError, match="holds a PoseNet, which needs no factory; leave test:it out"):
        load_network(template(), network="test:it")
    save_network(tmp_path / "net.safetensors", tiny(), template(), {"side": "both"})
    with pytest.raises(ValueError, match="the record of its training is none"):
        load_network(template(), tmp_path / "net.safetensors", Tiny)


def test_state_that_is_no_tensor_is_refused_when_it_is_saved(tmp_path):
    class Noted(Tiny):
        def get_extra_state(self):
            return {"notes": "since 2019"}

    with pytest.raises(ValueError, match="network Noted cannot be saved: _extra_state of its state_dict is dict"):
        save_network(tmp_path / "net.safetensors", Noted(), template(), {})
    with pytest.raises(ValueError, match="only a PoseNet is exported, got network Tiny"):
        export_bytes(tiny(), template())


def test_a_factory_is_named_by_module_and_function(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_own_net.py").write_text(
        "from torch import nn\nbuild = lambda: nn.Linear(2, 2).train()\nnumber = 3\ndef of_two(a, b=1): ...\n"
    )
    net = built("my_own_net:build")
    assert isinstance(net, nn.Linear) and not net.training
    wrong = {
        "my_own_net": "must be module:function, .* got 'my_own_net'",
        "my_own_net:make": "has no attribute 'make'; name a function",
        "my_other_net:build": "No module named 'my_other_net'",
        "my_own_net:number": "must be a function that makes a network, got int",
        "my_own_net:of_two": r"takes \(a, b=1\): missing a required argument: 'a'; name one that is called without",
        ".my_own_net:build": "network .my_own_net:build: .*; name a function",
        "builtins:dict": "must return an nn.Module, got dict",
    }
    for address, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            built(address)


def test_a_file_executes_nothing(tmp_path, monkeypatch):
    """Its class is a word for messages: the module that it names is not even imported."""
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    other = type("Net", (Tiny,), {"__module__": "evil"})
    save_network(tmp_path / "net.safetensors", other(), template(), {})
    with pytest.raises(ValueError, match="class evil.Net"):
        load_network(template(), tmp_path / "net.safetensors")
    assert load_network(template(), tmp_path / "net.safetensors", Tiny)[1] == {}
    assert "evil" not in sys.modules
