"""The user's hand before a network that knows many: fitted, judged by held-out frames, told, saved, exported."""

from dataclasses import replace

import pytest
import torch
from core_fixtures import clean_batch, template
from refine_fixtures import BEST, CLEAN, SMALL, run

from hrlib.hand.shape import HandShape, shaped
from hrlib.network.backbones import Told
from hrlib.network.checkpoint import load_network
from hrlib.network.onnx import OnnxPredictor, export_bytes
from hrlib.network.posenet import PoseNet
from hrlib.network.predict import predict
from hrlib.refine import Refined
from hrlib.refine.explain import ExplainSettings, fit_hand
from hrlib.refine.own_hand import OwnHand, compare_hands, judge, with_hand
from hrlib.refine.saved import load_refined, save_refined
from hrlib.support.paths import ONE_HAND_MODEL
from hrlib.synthetic.frames import Synthesiser

FOUND = HandShape.of_numbers(torch.tensor([-0.12, 0.02, 0.0, -0.01, 0.01, 0.03, -0.02, 0.04]))
SHORT = replace(BEST, rounds=None, find=ExplainSettings(iterations=4, points=64))


@pytest.fixture(scope="module")
def small():
    """Frames of a hand that is smaller than the template."""
    return Synthesiser(template().morphed({}, SMALL), CLEAN).batch(12, seed=5).crops


def network(seen: HandShape | None = None) -> PoseNet:
    """The base model's weights in a network that can be told a shape, which changes what it votes, and that sees `seen`."""
    one = load_network(template(), ONE_HAND_MODEL)[0]
    net = PoseNet(replace(one.settings, shape=True))
    net.load_state_dict(one.state_dict(), strict=False)
    with torch.no_grad():
        net.shape.bias.copy_((torch.zeros(8) if seen is None else seen.numbers()) / Told.UNIT)
        net.told.last.weight.normal_(0.0, 1e-2, generator=torch.Generator().manual_seed(1))
    return net.eval()


def same_weights(a: PoseNet, b: PoseNet) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in a.state_dict().items())


def test_a_told_network_is_a_copy_with_the_hand_of_the_shape():
    net = network()
    known, hand = with_hand(net, template(), FOUND)
    assert net.known is None and torch.equal(known.known, FOUND.numbers())
    assert torch.equal(hand.joints_mm, shaped(template(), FOUND).joints_mm) and hand.name.endswith("adapted")
    forgot, same = with_hand(known, template(), None)
    assert forgot.known is None and same is template()
    one = load_network(template(), ONE_HAND_MODEL)[0]
    assert with_hand(one, template(), FOUND)[0].known is None, "a network that knows one hand is told nothing"


def test_a_fit_begins_where_it_is_told(small):
    net, settings = load_network(template(), ONE_HAND_MODEL)[0], ExplainSettings(iterations=1, points=64)
    guess = predict(net, small)
    near, far = (fit_hand(template(), small, guess, settings, start).log_scale for start in (FOUND, None))
    assert (near - FOUND.log_scale).abs() < 0.04 and far.abs() < 0.04  # three steps of 0.01
    assert torch.equal(FOUND.log_scale, torch.tensor(-0.12)), "the start stays as it is"


def test_the_hand_that_explains_held_out_frames_best_is_told(small, monkeypatch):
    for best in ("template", "predicted", "fitted"):
        numbers = {"template": 0.3, "predicted": 0.3, "fitted": 0.3} | {best: 0.2}
        hands = [OwnHand(name, None if name == "template" else FOUND, value) for name, value in numbers.items()]
        monkeypatch.setattr("hrlib.refine.best.compare_hands", lambda *_, hands=hands: hands)
        refined = run(network(), small, SHORT)
        assert [row.get("hand") for row in refined.curve] == ["template", "predicted", "fitted", best]
        if best == "template":
            assert refined.net.known is None and refined.hand.fingerprint == template().fingerprint
            assert any("the model is the base model" in warning for warning in refined.warnings)
        else:
            assert torch.equal(refined.net.known, FOUND.numbers()) and refined.hand.name.endswith("adapted")
            assert torch.allclose(refined.hand.joints_mm, shaped(template(), FOUND).joints_mm)


def test_hands_are_judged_by_what_the_told_network_predicts(small):
    net, some = network(FOUND), small[:8]
    hands = {own.name: own for own in compare_hands(net, template(), some, small[8:], SHORT.find)}
    assert list(hands) == ["template", "predicted", "fitted"] and hands["template"].shape is None
    torch.testing.assert_close(hands["predicted"].shape.numbers(), FOUND.numbers())
    for own in hands.values():
        assert own.surprise == judge(*with_hand(net, template(), own.shape), small[8:], SHORT.find)
    assert len({own.surprise for own in hands.values()}) == 3
    one = compare_hands(load_network(template(), ONE_HAND_MODEL)[0], template(), some, small[8:], SHORT.find)
    assert [own.name for own in one] == ["template", "fitted"]


def test_by_default_a_network_learns_only_if_it_cannot_be_told(small, monkeypatch):
    steps = lambda refined: sum("step" in row or row.get("round", 0) > 0 for row in refined.curve)  # noqa: E731
    net = network(FOUND)
    refined = run(net, small, SHORT)
    assert steps(refined) == 0 and same_weights(net, refined.net)
    short = replace(SHORT, steps=1, explain=replace(BEST.explain, iterations=1))
    learned = run(net, small, replace(short, rounds=1))
    assert steps(learned) == 1 and [row["round"] for row in learned.curve if "round" in row] == [0, 1]
    assert steps(run(load_network(template(), ONE_HAND_MODEL)[0], small, replace(short, rounds=0))) == 0
    assert steps(run(load_network(template(), ONE_HAND_MODEL)[0], small, short)) == 2


def test_a_told_network_is_saved_and_exported_with_its_shape(tmp_path):
    known, own = with_hand(network(), template(), FOUND)
    refined = Refined(known, own, own.cloud_mm, [], ())
    save_refined(tmp_path, refined, template(), {"side": "right"})
    net, hand = load_refined(tmp_path, template())
    assert torch.allclose(net.known, refined.net.known) and hand.fingerprint == refined.hand.fingerprint
    crops = clean_batch().crops
    told_it, untold = predict(net, crops), predict(net, crops, shape=torch.full((8,), torch.nan))
    assert not torch.allclose(told_it.points, untold.points, atol=1e-3)
    exported, _ = OnnxPredictor(export_bytes(net, hand)).run(crops)
    torch.testing.assert_close(exported.points, told_it.points, rtol=0, atol=1e-4)
