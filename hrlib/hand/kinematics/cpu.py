"""Forward kinematics and its gradient in numba: float32 on the CPU.

In torch these are some forty small operations, each of which costs more to call than to do. The kernel walks the joints of
an image from the wrist outwards, and the gradient back. A hundred hands take 0.03 ms, too little to wake a thread for.
With skinning 5.8 times as fast as smplx's `lbs` forward and 9.4 times backward (benchmarks/results/skinning.json).
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ...support.autograd import gradient_alone, gradients_of_reference
from ...support.compiled import compiled
from ..joints import PARENTS
from . import reference

BEFORE = np.array(PARENTS)  # a joint comes after its parent; the wrist's is -1, the last place of an array: the camera
TWO = np.float32(2)


def forward_kinematics(T_parent_neutral: Tensor, rotations: Tensor, wrist_mm: Tensor) -> Tensor:
    """`hrlib.hand.kinematics.forward_kinematics`, arguments already checked; no gradient reaches the hand."""
    return _Kinematics.apply(T_parent_neutral, rotations, wrist_mm)


class _Kinematics(torch.autograd.Function):
    @staticmethod
    def forward(ctx, neutral, rotations, wrist_mm):
        T = rotations.new_empty(len(rotations), 16, 4, 4)
        _forward(*_arrays(neutral, rotations, wrist_mm), BEFORE, T.numpy())
        ctx.save_for_backward(neutral, rotations, wrist_mm)
        return T

    @staticmethod
    def backward(ctx, grad_T):
        inputs = ctx.saved_tensors
        if not gradient_alone(grad_T):
            return gradients_of_reference(reference.forward_kinematics, inputs, ctx.needs_input_grad, grad_T)
        grad_rotations, grad_wrist_mm = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in inputs[1:])
        _backward(*_arrays(*inputs), BEFORE, *_arrays(grad_T), grad_rotations.numpy(), grad_wrist_mm.numpy())
        return None, grad_rotations, grad_wrist_mm


def _arrays(*tensors: Tensor) -> Iterator[np.ndarray]:
    return (x.detach().contiguous().numpy() for x in tensors)


@compiled()
def _forward(neutral, rotations, wrist_mm, before, T):
    R, A = np.empty((16, 3, 3), np.float32), np.empty((17, 3, 4), np.float32)
    F = np.empty((17, 3, 4), np.float32)
    for b in range(len(T)):
        _walk(neutral, rotations[b], wrist_mm[b], before, R, A, F)
        for j in range(16):
            for c in range(4):
                for r in range(3):
                    T[b, j, r, c] = F[j, r, c]
                T[b, j, 3, c] = c == 3


@compiled(fastmath={"contract"})
def _walk(neutral, rotations, wrist_mm, before, R, A, F):
    """One image: R(q) of each joint, its frame F before that (A, at angles of zero) and with it; rows 0 to 2 of all."""
    for r in range(3):
        for c in range(3):
            F[-1, r, c] = r == c
        F[-1, r, 3] = wrist_mm[r]
    for j in range(16):
        x, y, z, w = rotations[j, 0], rotations[j, 1], rotations[j, 2], rotations[j, 3]
        R[j, 0, 0], R[j, 0, 1], R[j, 0, 2] = 1 - TWO * (y * y + z * z), TWO * (x * y - w * z), TWO * (x * z + w * y)
        R[j, 1, 0], R[j, 1, 1], R[j, 1, 2] = TWO * (x * y + w * z), 1 - TWO * (x * x + z * z), TWO * (y * z - w * x)
        R[j, 2, 0], R[j, 2, 1], R[j, 2, 2] = TWO * (x * z - w * y), TWO * (y * z + w * x), 1 - TWO * (x * x + y * y)
        p = before[j]
        for r in range(3):
            for c in range(4):
                A[j, r, c] = (
                    F[p, r, 0] * neutral[j, 0, c] + F[p, r, 1] * neutral[j, 1, c] + F[p, r, 2] * neutral[j, 2, c]
                )
            A[j, r, 3] += F[p, r, 3]
            for c in range(3):
                F[j, r, c] = A[j, r, 0] * R[j, 0, c] + A[j, r, 1] * R[j, 1, c] + A[j, r, 2] * R[j, 2, c]
            F[j, r, 3] = A[j, r, 3]


@compiled(fastmath={"contract"})
def _backward(neutral, rotations, wrist_mm, before, grad_T, grad_rotations, grad_wrist_mm):
    """What reaches a joint's frame goes on to its rotation and to its parent's frame, the last joint first."""
    R, A = np.empty((16, 3, 3), np.float32), np.empty((17, 3, 4), np.float32)
    F, G = np.empty((17, 3, 4), np.float32), np.empty((17, 3, 4), np.float32)
    H, S = np.empty((3, 4), np.float32), np.empty((3, 3), np.float32)
    for b in range(len(grad_T)):
        _walk(neutral, rotations[b], wrist_mm[b], before, R, A, F)
        for r in range(3):
            for c in range(4):
                for j in range(16):
                    G[j, r, c] = grad_T[b, j, r, c]
                G[-1, r, c] = 0
        for j in range(15, -1, -1):
            p = before[j]
            for r in range(3):
                for c in range(3):
                    H[r, c] = G[j, r, 0] * R[j, c, 0] + G[j, r, 1] * R[j, c, 1] + G[j, r, 2] * R[j, c, 2]  # in A: G R^T
                    S[r, c] = A[j, 0, r] * G[j, 0, c] + A[j, 1, r] * G[j, 1, c] + A[j, 2, r] * G[j, 2, c]  # in R: A^T G
                H[r, 3] = G[j, r, 3]
                for c in range(3):
                    G[p, r, c] += (
                        H[r, 0] * neutral[j, c, 0] + H[r, 1] * neutral[j, c, 1] + H[r, 2] * neutral[j, c, 2]
                        + H[r, 3] * neutral[j, c, 3]
                    )  # fmt: skip
                G[p, r, 3] += H[r, 3]
            x, y, z, w = rotations[b, j, 0], rotations[b, j, 1], rotations[b, j, 2], rotations[b, j, 3]
            xy, xz, yz = S[0, 1] + S[1, 0], S[0, 2] + S[2, 0], S[1, 2] + S[2, 1]
            wx, wy, wz = S[2, 1] - S[1, 2], S[0, 2] - S[2, 0], S[1, 0] - S[0, 1]
            grad_rotations[b, j, 0] = TWO * (y * xy + z * xz + w * wx - TWO * x * (S[1, 1] + S[2, 2]))
            grad_rotations[b, j, 1] = TWO * (x * xy + z * yz + w * wy - TWO * y * (S[0, 0] + S[2, 2]))
            grad_rotations[b, j, 2] = TWO * (x * xz + y * yz + w * wz - TWO * z * (S[0, 0] + S[1, 1]))
            grad_rotations[b, j, 3] = TWO * (x * wx + y * wy + z * wz)
        for r in range(3):
            grad_wrist_mm[b, r] = G[-1, r, 3]
