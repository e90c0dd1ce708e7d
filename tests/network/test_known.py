"""A network that knows a population is told what it sees."""

import torch
from core_fixtures import template
from torch import nn

from hrlib.frames.crops import Crops
from hrlib.hand.shape import HandShape
from hrlib.network.known import FRAMES, seen_shape, told, told_template, told_what_it_sees
from hrlib.network.posenet import NetworkSettings, PoseNet
from hrlib.network.predict import predict


def network(shape: bool) -> PoseNet:
    torch.manual_seed(1)
    net = PoseNet(NetworkSettings(backbone="votes", keep_probability=1.0, shape=shape)).eval()
    if shape:
        for layer in (net.told.last, net.shape):
            nn.init.normal_(layer.weight, std=0.05)
    return net


def crops(count: int) -> Crops:
    image = torch.rand(count, 120, 120, generator=torch.Generator().manual_seed(2))
    centre, none = torch.tensor([0.0, 0.0, 500.0]).expand(count, 3), torch.zeros(count, dtype=torch.int64)
    return Crops(image, torch.full((count, 1, 3), 2.0), centre, none, 250.0)


def test_the_shape_of_a_person_is_the_median_of_what_is_seen_in_frames_of_all_the_recording():
    net, many = network(True), crops(2 * FRAMES + 1)
    spread = [round(i * 2 * FRAMES / (FRAMES - 1)) for i in range(FRAMES)]  # the first, the last, and evenly between
    expected = predict(net, many[spread]).shape.median(0).values
    torch.testing.assert_close(seen_shape(net, many), expected)
    assert seen_shape(net, many[:1]).shape == (8,)


def test_the_told_network_knows_and_the_given_one_does_not():
    net, hand = network(True), template()
    numbers = torch.tensor([-0.2, 0.1, 0, 0, 0, 0, 0.1, 0.0])
    knowing, small = told(net, hand, numbers)
    assert net.known is None and torch.equal(knowing.known, numbers)
    size = small.bones_mm[4].norm() / hand.bones_mm[4].norm()  # a bone of the palm
    torch.testing.assert_close(size, torch.tensor(-0.2).exp())
    torch.testing.assert_close(
        knowing(crops(2).image).rotations,
        predict(net, crops(2), shape=HandShape.of_numbers(numbers).numbers()).rotations,
    )


def test_the_template_is_told_to_who_knows_nothing_alone():
    net, known = network(True), network(True).tell(torch.full((8,), 0.1))
    assert torch.equal(told_template(net).known, torch.zeros(8)) and net.known is None
    assert told_template(known) is known and told_template(one := network(False)) is one


def test_a_network_of_one_hand_and_one_that_was_told_stay_as_they_are():
    one, hand = network(False), template()
    assert seen_shape(one, crops(3)) is None
    assert told_what_it_sees(one, hand, crops(3)) == (one, hand)
    knowing, small = told(network(True), hand, torch.zeros(8))
    assert told_what_it_sees(knowing, small, crops(3)) == (knowing, small)
