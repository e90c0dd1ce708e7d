"""Eq. 2 and its gradient in numba: float32 on the CPU.

A point hangs on two or three of the 16 joints, and only those are visited. The coordinates of all images lie side by side,
because what is done to a point is the same in each: that makes long vectors. A thread owns a range of points.
With the kinematics 5.8 times as fast as smplx's `lbs` forward and 9.4 times backward (benchmarks/results/skinning.json).
"""

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.weak import WeakTensorKeyDictionary

from ...support.autograd import gradient_alone, gradients_of_reference, no_autocast
from ...support.compiled import compiled
from . import reference

BLOCK = 32  # points that are kept before they are written: a point's places in the batch's images are far apart
ALONE = 2**16  # points of all images that one thread poses by itself: it takes a tenth of a millisecond


def skin(points: Tensor, weights: Tensor, M: Tensor) -> Tensor:
    """`hrlib.hand.skinning.skin` of points [N, 3], arguments already checked; no gradient reaches the weights."""
    return _Skin.apply(points, weights, M)


def skinning_transforms(T_cam_joint: Tensor, T_rest_wrist: Tensor) -> Tensor:
    """`hrlib.hand.skinning.skinning_transforms`; no gradient reaches the hand.

    Torch multiplies small matrices slowly: forward and backward of 32 hands take 0.27 ms instead of 0.08.
    """
    return _Product.apply(T_cam_joint, T_rest_wrist)


class _Skin(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, weights, M):
        ctx.save_for_backward(points, weights, M)
        points, bonds = points.detach().contiguous(), bonds_of(weights)
        # [J, 4, B x 3]: what each column of M_j adds to the coordinates x, y, z of every image
        columns = M.detach()[:, :, :3].permute(1, 3, 0, 2).flatten(2).contiguous().numpy()
        posed = points.new_empty(len(M), len(points), 3)
        arrays, threads = (points.numpy(), *bonds, columns, posed.numpy()), _threads(posed)
        if threads > 1:
            _forward(*arrays, threads)
        else:
            _pose(*arrays, 0, len(points))
        ctx.bonds, ctx.columns = bonds, columns
        return posed

    @staticmethod
    def backward(ctx, grad_posed):
        if not gradient_alone(grad_posed):
            return gradients_of_reference(reference.skin, ctx.saved_tensors, ctx.needs_input_grad, grad_posed)
        points = ctx.saved_tensors[0].detach().contiguous()
        threads = _threads(grad_posed)
        grad_points, grad_columns = torch.empty_like(points), np.zeros((threads, *ctx.columns.shape), np.float32)
        arrays = points.numpy(), *ctx.bonds, ctx.columns, grad_posed.contiguous().numpy(), grad_points.numpy()
        if threads > 1:
            _backward(*arrays, grad_columns, threads)
        else:
            _pull_back(*arrays, grad_columns[0], 0, len(points))
        images = grad_columns.shape[3] // 3
        grad_M = torch.from_numpy(grad_columns.sum(0)).unflatten(2, (images, 3)).permute(2, 0, 3, 1)
        return grad_points, None, pad(grad_M, (0, 0, 0, 1))  # the last row is constant


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, T, constant):
        ctx.save_for_backward(constant)
        return torch.from_numpy(_product(T.detach().contiguous().numpy(), constant.contiguous().numpy()))

    @staticmethod
    def backward(ctx, grad):
        (constant,) = ctx.saved_tensors
        if not gradient_alone(grad):
            with no_autocast():
                return grad @ constant.mT, None
        return torch.from_numpy(_product(grad.contiguous().numpy(), constant.mT.contiguous().numpy())), None


def _threads(posed: Tensor) -> int:
    """Torch's number of threads, but one where so little is to be done that waiting for a second can take longer."""
    return torch.get_num_threads() if posed.shape[0] * posed.shape[1] > ALONE else 1


_counted = WeakTensorKeyDictionary()  # weights -> their version, and their bonds


def bonds_of(weights: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weights that are not zero: those of point i, and their joints, at first[i] <= k < first[i + 1].

    Counted once for weights that stay as they are, as a hand's do: autograd keeps a version of each tensor that changes when
    the tensor is changed in place (a tensor of inference mode has none).
    """
    version = None if weights.is_inference() else weights._version
    counted, bonds = _counted.get(weights, (None, None))
    if version is None or version != counted:
        values = weights.detach().numpy()
        point, joint = values.nonzero()
        first = np.searchsorted(point, np.arange(len(values) + 1))
        bonds = first, joint.astype(np.uint32), values[point, joint]
        _counted[weights] = version, bonds
    return bonds


@compiled(parallel=True)
def _forward(points, first, joint, weight, columns, posed, threads):
    for part in numba.prange(threads):
        begin, end = len(points) * part // threads, len(points) * (part + 1) // threads
        _pose(points, first, joint, weight, columns, posed, begin, end)


@compiled(fastmath={"contract"})
def _pose(points, first, joint, weight, columns, posed, begin, end):
    """Points begin <= i < end of every image: sum_j M_j (w_ij p_i)."""
    lanes = columns.shape[2]
    moved = np.empty((BLOCK, lanes), np.float32)
    for block in range(begin, end, BLOCK):
        size = min(BLOCK, end - block)
        moved[:] = 0
        for n in range(size):
            i = block + n
            for k in range(first[i], first[i + 1]):
                j, w = joint[k], weight[k]
                wx, wy, wz = w * points[i, 0], w * points[i, 1], w * points[i, 2]
                for lane in range(lanes):
                    moved[n, lane] += (
                        wx * columns[j, 0, lane]
                        + wy * columns[j, 1, lane]
                        + wz * columns[j, 2, lane]
                        + w * columns[j, 3, lane]
                    )
        for image in range(len(posed)):
            for n in range(size):
                for c in range(3):
                    posed[image, block + n, c] = moved[n, 3 * image + c]


@compiled(parallel=True)
def _backward(points, first, joint, weight, columns, grad_posed, grad_points, grad_columns, threads):
    for part in numba.prange(threads):
        begin, end = len(points) * part // threads, len(points) * (part + 1) // threads
        _pull_back(points, first, joint, weight, columns, grad_posed, grad_points, grad_columns[part], begin, end)


@compiled(fastmath={"contract", "reassoc"})
def _pull_back(points, first, joint, weight, columns, grad_posed, grad_points, grad_columns, begin, end):
    """The gradient of `_pose` in the same points, and their share of that in the columns of M."""
    lanes = columns.shape[2]
    grad_moved = np.empty((BLOCK, lanes), np.float32)
    for block in range(begin, end, BLOCK):
        size = min(BLOCK, end - block)
        for image in range(len(grad_posed)):
            for n in range(size):
                for c in range(3):
                    grad_moved[n, 3 * image + c] = grad_posed[image, block + n, c]
        for n in range(size):
            i = block + n
            gx = gy = gz = np.float32(0)
            for k in range(first[i], first[i + 1]):
                j, w = joint[k], weight[k]
                wx, wy, wz = w * points[i, 0], w * points[i, 1], w * points[i, 2]
                sx = sy = sz = np.float32(0)
                for lane in range(lanes):
                    g = grad_moved[n, lane]
                    sx += g * columns[j, 0, lane]
                    sy += g * columns[j, 1, lane]
                    sz += g * columns[j, 2, lane]
                    grad_columns[j, 0, lane] += wx * g
                    grad_columns[j, 1, lane] += wy * g
                    grad_columns[j, 2, lane] += wz * g
                    grad_columns[j, 3, lane] += w * g
                gx, gy, gz = gx + w * sx, gy + w * sy, gz + w * sz
            grad_points[i, 0], grad_points[i, 1], grad_points[i, 2] = gx, gy, gz


@compiled(fastmath={"contract"})
def _product(T, constant):
    """T [B, J, 4, 4] times a matrix [4, 4] of each joint."""
    M = np.empty_like(T)
    for b in range(T.shape[0]):
        for j in range(T.shape[1]):
            C = constant[j]
            for r in range(4):
                x, y, z, w = T[b, j, r, 0], T[b, j, r, 1], T[b, j, r, 2], T[b, j, r, 3]
                for c in range(4):
                    M[b, j, r, c] = x * C[0, c] + y * C[1, c] + z * C[2, c] + w * C[3, c]
    return M
