"""Wherever torch asks for more than values and first gradients, the answer is that of float64 in plain torch."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from core_fixtures import clean_batch, random_rotations, template
from torch.autograd import forward_ad

from hrlib.frames.camera import Camera
from hrlib.frames.crop import crop_batch, crop_hand
from hrlib.frames.finder import find_hand
from hrlib.hand.kinematics import forward_kinematics, joint_positions, points_of_hands
from hrlib.hand.posed import pose_hand
from hrlib.hand.rig import load_hand
from hrlib.hand.shape import HandShape, shaped
from hrlib.hand.skinning import skin, skinning_transforms
from hrlib.method import evaluate_step, true_prediction
from hrlib.network.checkpoint import load_network
from hrlib.network.posenet import Prediction
from hrlib.render import splat_depth

SIZE, RADIUS = (24, 20), 4.0
WRIST = [[3.0, -5.0, 400.0]]


def joints(q):
    """Joints of posed hands, in cm: second derivatives of their squares are about 100."""
    hand = template(q.dtype)
    return joint_positions(hand, forward_kinematics(hand, q, q.new_tensor(WRIST).expand(len(q), 3))) / 10


def cloud(q):
    hand, some = template(q.dtype), slice(None, None, 40)
    M = skinning_transforms(hand, forward_kinematics(hand, q, q.new_tensor(WRIST).expand(len(q), 3)))
    return skin(hand.cloud_mm[some], hand.cloud_weights[some], M) / 10


def image(points):
    return splat_depth(points, RADIUS, SIZE)


def quaternions(batch=1):
    return random_rotations(batch, 3, torch.float32)


def points(batch=1, count=12):
    """Apart from each other and from pixels: where winners change there is no derivative."""
    draw = torch.rand(batch, count, 3, generator=torch.Generator().manual_seed(4))
    return draw * torch.tensor([SIZE[1], SIZE[0], 0.6])


# what is differentiated, of one image: sums of them are nonlinear, or linear as in the gradient of a plain sum
FUNCTIONS = {"joints": (joints, quaternions), "cloud": (cloud, quaternions), "image": (image, points)}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def assert_like_float64(take, *inputs):
    """take(*inputs) in float32 is take of the same numbers in float64, and not all zero."""
    ours, exact = take(*inputs), take(*(x.double() for x in inputs))
    if isinstance(ours, Prediction | tuple):
        assert len(ours) == len(exact)
    else:
        ours, exact = (ours,), (exact,)
    for found, wanted in zip(ours, exact, strict=True):
        assert found.dtype == torch.float32 and wanted.dtype == torch.float64 and wanted.abs().max() > 0.1
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-5 * wanted.abs().max().item())


# -- second derivatives -----------------------------------------------------------------------------------------------


@every_function
def test_hessians(name):
    function, draw = FUNCTIONS[name]
    assert_like_float64(lambda x: torch.autograd.functional.hessian(lambda y: function(y).square().sum(), x), draw())


@every_function
def test_hessian_of_a_plain_sum(name):
    """Its gradient from above is a constant: what refused second derivatives before did not see that one was asked for."""
    function, draw = FUNCTIONS[name]

    def hessian(x):
        x = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
        return torch.autograd.grad((g * torch.linspace(1, 2, g.numel(), dtype=g.dtype).view_as(g)).sum(), x)[0]

    assert_like_float64(hessian, draw())


def test_gradient_penalty_through_the_whole_renderer():
    """A loss on gradients, as in training: rotations to pixels, third derivatives included."""

    def penalty(q):
        q = q.clone().requires_grad_()
        drawn = splat_depth(cloud(q) * 0.5 + q.new_tensor([10.0, 12.0, -19.0]), RADIUS, SIZE)
        (g,) = torch.autograd.grad(drawn.square().sum(), q, create_graph=True)
        (second,) = torch.autograd.grad(g.square().mean(), q, create_graph=True)
        return second, torch.autograd.grad(second.square().mean(), q)[0]

    assert_like_float64(penalty, quaternions())


def test_second_derivatives_in_points_and_transforms_of_skinning():
    def mixed(p, M):
        hand = template(p.dtype)
        p, M = p.clone().requires_grad_(), M.clone().requires_grad_()
        (g,) = torch.autograd.grad(skin(p, hand.cloud_weights[:20], M).square().sum(), M, create_graph=True)
        return torch.autograd.grad(g[:, :, :3].square().sum().sqrt(), (p, M))

    hand = template()
    M = skinning_transforms(hand, forward_kinematics(hand, quaternions(2), torch.zeros(2, 3)))
    assert_like_float64(mixed, hand.cloud_mm[:20], M)


def test_first_gradients_still_come_from_the_kernels(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("the reference was asked")

    for module in ("hand.kinematics.cpu", "hand.skinning.cpu", "render.cpu"):
        monkeypatch.setattr(f"hrlib.{module}.gradients_of_reference", refuse)
    q = quaternions(2).requires_grad_()
    splat_depth(cloud(q), RADIUS, SIZE).sum().backward()
    joints(q).sum().backward()
    assert q.grad.abs().max() > 0


# -- torch.func, forward mode, batches of gradients ---------------------------------------------------------------------


@every_function
@pytest.mark.parametrize("transform", [torch.func.jacrev, torch.func.jacfwd])
def test_jacobians_of_torch_func(name, transform):
    function, draw = FUNCTIONS[name]
    assert_like_float64(lambda x: transform(function)(x), draw(1))


@every_function
def test_hessian_of_torch_func(name):
    function, draw = FUNCTIONS[name]
    assert_like_float64(lambda x: torch.func.hessian(lambda y: function(y).square().sum())(x), draw())


@every_function
def test_vmap_and_gradients_within(name):
    function, draw = FUNCTIONS[name]
    x = draw(3)
    alone = torch.func.vmap(lambda one: function(one[None])[0])(x)
    torch.testing.assert_close(alone, function(x), rtol=1e-5, atol=1e-4)
    assert_like_float64(torch.func.vmap(torch.func.grad(lambda one: function(one[None]).square().sum())), x)


@every_function
def test_forward_mode(name):
    function, draw = FUNCTIONS[name]

    def slope(x):
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(function(forward_ad.make_dual(x, torch.ones_like(x)))).tangent

    assert_like_float64(slope, draw(2))


@every_function
@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
def test_vectorised_jacobians(name, strategy):
    function, draw = FUNCTIONS[name]
    jacobian = torch.autograd.functional.jacobian
    assert_like_float64(lambda x: jacobian(function, x, vectorize=True, strategy=strategy), draw(1))


@every_function
def test_linearised(name):
    function, draw = FUNCTIONS[name]

    def along_ones(x):
        value, slope = torch.func.linearize(function, x)
        return value, slope(torch.ones_like(x))

    assert_like_float64(along_ones, draw(2))


def test_tensors_that_have_a_shape_alone():
    assert image(points(2).to("meta")).shape == (2, *SIZE)


def test_the_whole_method_under_torch_func():
    """Per-frame gradients of Eq. 1 by one vmap, and by a loop over frames with the kernels."""
    hand, batch = template(), clean_batch()
    crops = batch.crops
    truth = true_prediction(batch.rotations, batch.wrist_mm, hand, crops)

    def loss(q, offset, i):
        return evaluate_step(Prediction(q[None], offset[None]), hand, crops[i], target=torch.zeros(1, 120, 120)).loss[0]

    found = [torch.func.grad(loss)(truth.rotations[i], truth.offset[i], i) for i in range(2)]
    for i, ours in enumerate(found):
        q = truth.rotations[i].clone().requires_grad_()
        (wanted,) = torch.autograd.grad(loss(q, truth.offset[i], i), q)
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())


def test_a_hand_that_torch_func_learns():
    """Tables of a hand are kept with it. Those of a hand within a transform belong to the transform."""

    def size(log_scale):
        part = torch.zeros(5, dtype=log_scale.dtype), *torch.zeros(2, dtype=log_scale.dtype)
        hand = shaped(template(log_scale.dtype), HandShape(log_scale, *part))
        q, wrist = hand.rest_rotations.detach()[None], log_scale.new_zeros(1, 3)
        return joint_positions(hand, forward_kinematics(hand, q, wrist)).norm()

    assert_like_float64(torch.func.grad(size), torch.tensor(0.1))
    assert_like_float64(torch.func.grad(torch.func.grad(size)), torch.tensor(0.1))


def test_tables_first_made_in_a_transform_serve_afterwards():
    hand = load_hand()
    torch.func.hessian(lambda q: forward_kinematics(hand, q, torch.zeros(1, 3)).square().sum())(quaternions())
    torch.func.vmap(
        lambda q: skin(hand.cloud_mm, hand.cloud_weights, forward_kinematics(hand, q[None], torch.zeros(1, 3)))
    )(quaternions(2))
    q = quaternions().requires_grad_()
    ours = joint_positions(hand, forward_kinematics(hand, q, torch.zeros(1, 3)))
    torch.testing.assert_close(ours, joint_positions(template(), forward_kinematics(template(), q, torch.zeros(1, 3))))
    torch.func.vmap(torch.func.grad(lambda x: forward_kinematics(hand, x[None], torch.zeros(1, 3)).sum()))(
        quaternions(2)
    )


def test_values_are_checked_within_transforms():
    broken = points(2)
    broken[1, 3] = math.nan
    with pytest.raises(ValueError, match="points must be finite, got 1 NaN"):
        torch.func.vmap(lambda p: image(p[None]))(broken)
    with pytest.raises(ValueError, match="radius must be a finite number of pixels > 0"):
        torch.func.vmap(lambda r: splat_depth(broken[:1], r, SIZE))(torch.tensor([2.0, -1.0]))


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_a_named_kernel_refuses_what_it_cannot(backend):
    with pytest.raises(ValueError, match=f'backend "{backend}" gives first gradients of points alone'):
        torch.func.grad(lambda p: splat_depth(p, RADIUS, SIZE, backend).sum())(points())
    with pytest.raises(ValueError, match=f'backend "{backend}" gives first gradients of points alone'):
        splat_depth(points(), torch.tensor(2.0, requires_grad=True), SIZE, backend)


# -- torch.compile ------------------------------------------------------------------------------------------------------


# in a process of its own: the tests' checks of shapes cannot be compiled
COMPILED = """
import torch
from hrlib import forward_kinematics, load_hand, skin, splat_depth
from hrlib.hand.skinning import skinning_transforms
hand, wrist = load_hand(), torch.tensor([[3.0, -5.0, 400.0], [0.0, 0.0, 500.0]])
draw = torch.rand(2, 12, 3, generator=torch.Generator().manual_seed(4)) * torch.tensor([20, 24, 0.6])
functions = {
    "kinematics": (lambda q: forward_kinematics(hand, q, wrist), hand.rest_rotations.repeat(2, 1, 1)),
    "skinning": (lambda M: skin(hand.cloud_mm, hand.cloud_weights, skinning_transforms(hand, M)),
                 torch.eye(4).repeat(2, 16, 1, 1)),
    "image": (lambda points: splat_depth(points, 4.0, (24, 20)), draw),
}
for backend in ("eager", "aot_eager"):
    for name, (function, x) in functions.items():
        x = x.requires_grad_()
        ours, wanted = torch.compile(function, backend=backend, fullgraph=True)(x), function(x)
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())
        ours, wanted = (torch.autograd.grad(y.square().sum(), x)[0] for y in (ours, wanted))
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())
        print(backend, name)
"""


@pytest.mark.slow
def test_compiled_in_one_graph():
    """These two back ends need no C++ compiler; "aot_eager" records the gradient as well."""
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 6, done.stderr


# -- a radius with a gradient -------------------------------------------------------------------------------------------


def test_gradient_of_the_radius():
    p = points(2)

    def slopes(r):
        r = r.clone().requires_grad_()
        drawn = splat_depth(p.to(r.dtype), r, SIZE)
        (first,) = torch.autograd.grad(drawn.square().sum(), r, create_graph=True)
        return first.detach(), torch.autograd.grad(first, r)[0]

    assert_like_float64(slopes, torch.tensor(3.0))
    assert torch.autograd.gradcheck(
        lambda r: splat_depth(p.double(), r, SIZE), torch.tensor(3.0, requires_grad=True).double()
    )


def test_a_radius_is_learnt():
    p = points(1, 40)
    target, r = splat_depth(p, 6.0, SIZE), torch.nn.Parameter(torch.tensor(3.0))
    optimiser = torch.optim.Adam([r], lr=0.2)
    for _ in range(60):
        optimiser.zero_grad()
        (splat_depth(p, r, SIZE) - target).square().mean().backward()
        optimiser.step()
    assert abs(r.item() - 6.0) < 0.05


def test_radii_side_by_side():
    p, radii = points(2), torch.tensor([2.0, 5.0])
    ours = torch.func.vmap(lambda r: splat_depth(p, r, SIZE))(radii)
    torch.testing.assert_close(ours, torch.stack([splat_depth(p, r, SIZE) for r in radii.tolist()]), rtol=0, atol=1e-6)


def test_a_radius_without_gradient_is_a_number():
    p = points().requires_grad_()
    drawn = splat_depth(p, torch.tensor(3.0), SIZE)
    assert torch.equal(drawn, splat_depth(p, 3.0, SIZE)) and type(drawn.grad_fn).__name__ == "_SplatBackward"
    with pytest.raises(ValueError, match="radius must be a finite number"):
        splat_depth(p, torch.tensor([3.0, 4.0]), SIZE)


# -- depth with a gradient ------------------------------------------------------------------------------------------------


def small_frame():
    depth = torch.zeros(1, 30, 40, dtype=torch.float64)
    depth[0, 8:20, 10:24] = 500 + 20 * torch.rand(
        12, 14, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    return depth, torch.tensor([[60.0, 60.0, 20.0, 15.0]], dtype=torch.float64)


def test_a_crop_whose_depth_has_a_gradient():
    depth, intrinsics = small_frame()
    at = (depth[0] > 0).nonzero()[::40].T

    def cropped(values):
        changed = depth.clone()
        changed[0, at[0], at[1]] = values
        return crop_batch(changed, intrinsics, 250.0).image

    values = depth[0, at[0], at[1]].requires_grad_()
    assert torch.autograd.gradcheck(cropped, values)
    plain = crop_batch(depth.float().numpy(), intrinsics.float().numpy(), 250.0)
    ours = torch.func.vmap(lambda d: crop_batch(d[None], intrinsics.float(), 250.0).image[0])(depth.float())
    torch.testing.assert_close(ours, plain.image, rtol=0, atol=1e-5)
    moved = crop_batch(depth.requires_grad_(), intrinsics, 250.0, np.float32([[0, 0, 520]]))
    assert moved.centre_mm.tolist() == [[0, 0, 520]]


def test_points_of_a_crop_have_no_gradient():
    depth, _ = small_frame()
    with pytest.raises(ValueError, match="depth_mm has a gradient, and the points of a crop have none"):
        crop_hand(depth[0].float().requires_grad_(), Camera(60, 60, 20, 15))


# -- autocast ---------------------------------------------------------------------------------------------------------


HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


@HALF
def test_poses_under_autocast(dtype):
    hand, q, wrist = load_hand(), quaternions(3), torch.tensor([[0.0, 0.0, 600.0]]).expand(3, 3)

    def poses():
        T = forward_kinematics(hand, q, wrist)
        M = skinning_transforms(hand, T)
        several = skin(hand.cloud_mm.expand(3, -1, -1), hand.cloud_weights, M)
        bones = points_of_hands(hand.points_mm.expand(3, -1, -1), q, wrist)
        return T, joint_positions(hand, T), M, several, skin(hand.cloud_mm, hand.cloud_weights, M), bones

    with torch.autocast("cpu", dtype):
        half = poses()  # first: the hand keeps tables that it makes here
    for ours, wanted in zip(half, poses(), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, wanted, rtol=0, atol=0)


def test_half_precision_inputs_under_autocast_are_posed_in_float32():
    q = quaternions(2).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        ours = joint_positions(template(), forward_kinematics(template(), q, torch.zeros(2, 3)))
    wanted = joint_positions(template(), forward_kinematics(template(), q.float(), torch.zeros(2, 3)))
    torch.testing.assert_close(ours, wanted, rtol=0, atol=0)


def test_a_step_and_its_gradient_under_autocast():
    hand, batch = template(), clean_batch()
    truth, steps = true_prediction(batch.rotations, batch.wrist_mm, hand, batch.crops), []
    for enabled in (True, False):
        q = truth.rotations.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            step = evaluate_step(Prediction(q, truth.offset), hand, batch.crops)
        steps.append((step.loss, step.joints_mm, step.rendered, *torch.autograd.grad(step.loss.sum(), q)))
    for ours, wanted in zip(*steps, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0, atol=0)


def test_second_derivatives_under_autocast():
    def total(q):  # torch's own advice: autocast around the forward pass, not around the backward pass
        with torch.autocast("cpu", torch.bfloat16):
            return joints(q).square().sum()

    assert_like_float64(lambda x: torch.autograd.functional.hessian(total, x), quaternions())


def test_the_finder_under_autocast():
    depth = np.zeros((60, 80), np.float32)
    depth[15:45, 25:50] = 500
    camera = Camera(60, 60, 40, 30)
    with torch.autocast("cpu", torch.bfloat16):
        ours = find_hand(depth, camera)
    wanted = find_hand(depth, camera)
    assert ours.hand == wanted.hand and (ours.mask == wanted.mask).all()


# -- who asks first ---------------------------------------------------------------------------------------------------


def test_what_is_first_used_in_inference_mode_can_be_learnt_with_afterwards():
    code = """
import torch
from hrlib import forward_kinematics, load_hand, load_network, skin
from hrlib.hand.skinning import skinning_transforms
def pose():
    M = skinning_transforms(hand, forward_kinematics(hand, net(torch.zeros(1, 120, 120)).rotations, torch.zeros(1, 3)))
    return skin(hand.cloud_mm.expand(1, -1, -1), hand.cloud_weights, M)
with torch.inference_mode():
    hand = load_hand()
    net, _ = load_network(hand)
    pose()
pose().sum().backward()
print(sum(p.grad.abs().sum().item() > 0 for p in net.parameters() if p.grad is not None) > 10)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "True\n", done.stderr


DEFAULT = """
import hashlib, sys, torch
if sys.argv[1] == "float64":
    torch.set_default_dtype(torch.float64)
import numpy as np
from hrlib import *
from hrlib.frames.crops import resized
from hrlib.hand.shape import HandShape
from hrlib.network.predict import predict_turned
from hrlib.refine.confidence import confidence
from hrlib.refine.explain import ExplainSettings, explain
hand = load_hand()
net, _ = load_network(hand)
camera, depth = Camera(475.0, 475.0, 160.0, 120.0), np.zeros((240, 320), np.float32)
v, u = np.mgrid[-60:60, -50:50]
depth[60:180, 110:210] = np.where((u / 50) ** 2 + (v / 60) ** 2 < 1, 600 + 0.1 * (u**2 + v**2) ** 0.5, 0)
crops = crop_hand(depth, camera, find_hand(depth, camera).mask | (depth > 0))
prediction = predict_turned(net, resized(crops, 1.1))
fitted = explain(hand, crops, prediction, ExplainSettings(iterations=3))
step = evaluate_step(prediction, hand, crops)
parts = [*net.parameters(), *net.buffers(), prediction.rotations, prediction.offset, fitted.joints_mm, step.loss]
parts += [HandShape.template().log_length, confidence(prediction, hand, crops)]
bits = b"".join(part.detach().numpy().tobytes() for part in parts)
print({part.dtype for part in parts}, hashlib.sha256(bits).hexdigest())
"""


def test_default_dtype_changes_nothing():
    """Some scientific packages set it to float64 when they are imported."""
    found = set()
    for dtype in ("float32", "float64"):
        done = subprocess.run([sys.executable, "-c", DEFAULT, dtype], capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1 and found.pop().startswith("{torch.float32} ")


def test_another_default_device_changes_nothing():
    """As torch.set_default_device("cuda"); "meta" is one that every computer has."""
    q, dots = quaternions(), points().float()
    torch.set_default_device("meta")
    try:
        hand = load_hand()
        seen = (
            pose_hand(hand, q, (0, 0, 500)),
            pose_hand(hand, q.tolist(), (0, 0, 500)),
            image(dots),
            skin(
                hand.cloud_mm,
                hand.cloud_weights,
                skinning_transforms(hand, torch.eye(4, device="cpu").expand(2, 16, 4, 4)),
            ),
        )
        (gradient,) = torch.autograd.grad(joints(q.requires_grad_()).sum(), q)
        weights = load_network(hand)[0].theta.weight
    finally:
        torch.set_default_device(None)
    np.testing.assert_allclose(seen[0].joints_mm.detach(), seen[1].joints_mm, atol=1e-3)
    assert {x.device.type for x in (hand.vertices_mm, seen[0].cloud_mm, *seen[2:], gradient, weights)} == {"cpu"}


def test_numbers_in_another_default_dtype_still_follow_their_inputs():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert load_network(load_hand())[0].theta.weight.dtype == torch.float32
        assert joints(quaternions()).dtype == torch.float32 and image(points().float()).dtype == torch.float32
    finally:
        torch.set_default_dtype(before)
