"""A recorded network says what the network says."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from core_fixtures import clean_batch, template

from hrlib.network.checkpoint import load_network
from hrlib.network.posenet import NetworkSettings, PoseNet
from hrlib.network.predict import predict
from hrlib.network.recorded import Recorded, recorded
from hrlib.support.paths import BASE_MODEL, PAPER_MODEL


@pytest.fixture
def batch_of_crops():
    return clean_batch().crops


@pytest.mark.parametrize("model", [BASE_MODEL, PAPER_MODEL])
@pytest.mark.parametrize("count", [1, 3])
def test_the_numbers_are_the_same(model, count, batch_of_crops):
    net, _ = load_network(template(), model)
    before, state = {name: w.clone() for name, w in net.state_dict().items()}, torch.random.get_rng_state()
    once, crops = recorded(net), batch_of_crops[:count]
    assert isinstance(once, Recorded) and torch.equal(torch.random.get_rng_state(), state)
    for _ in range(2):
        for ours, theirs in zip(vars(predict(once, crops)).values(), vars(predict(net, crops)).values(), strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(w, before[name]) for name, w in net.state_dict().items())


def test_what_was_told_before_is_known_and_what_is_told_later_is_not(batch_of_crops):
    net, _ = load_network(template())
    plain = predict(net, batch_of_crops).rotations
    told = predict(net.tell(torch.full((8,), 0.2)), batch_of_crops).rotations
    once = recorded(net)
    net.tell(None)
    torch.testing.assert_close(predict(once, batch_of_crops).rotations, told, rtol=1e-5, atol=1e-5)
    assert (told - plain).abs().max() > 1e-3


def test_other_networks_stay_as_they_are():
    class Own(PoseNet):
        pass

    for net in (Own(NetworkSettings(backbone="votes")), PoseNet(NetworkSettings(backbone="votes")).double()):
        assert recorded(net) is net


def assert_same_rotations(ours, theirs, crops):
    torch.testing.assert_close(predict(ours, crops).rotations, predict(theirs, crops).rotations, rtol=1e-5, atol=1e-5)


def test_threads_may_record_at_once(batch_of_crops):
    """torch's exporter writes one graph at a time, and fails in the second thread."""
    net, _ = load_network(template())
    with ThreadPoolExecutor(3) as threads:
        for once in threads.map(recorded, [net] * 3):
            assert isinstance(once, Recorded)
            assert_same_rotations(once, net, batch_of_crops)


def test_copies_and_pickles_say_the_same(batch_of_crops):
    once = recorded(load_network(template())[0])
    for other in (copy.deepcopy(once), pickle.loads(pickle.dumps(once))):
        assert_same_rotations(other, once, batch_of_crops)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_default_dtype_changes_nothing(dtype, batch_of_crops):
    net, _ = load_network(template())
    torch.set_default_dtype(dtype)
    try:
        once = recorded(net)
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    assert isinstance(once, Recorded) and predict(once, batch_of_crops).rotations.dtype == torch.float32
    assert_same_rotations(once, net, batch_of_crops)
