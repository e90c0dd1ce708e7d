"""How far off: joints in millimetres, synthesized images in squared depth."""

from torch import Tensor


def joint_error_mm(joints_mm: Tensor, true_mm: Tensor) -> Tensor:
    """Mean Euclidean distance over the joints, [B, J, 3] x 2 -> [B] mm. Raises ValueError for shapes that differ."""
    if joints_mm.shape != true_mm.shape or joints_mm.shape[-1] != 3:
        raise ValueError(f"joints must be two times [B, J, 3], got {list(joints_mm.shape)} and {list(true_mm.shape)}")
    return (joints_mm - true_mm).norm(dim=-1).mean(-1)


def image_mse(rendered: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of the synthesized images, [B, H, W] x 2 -> [B] (Fig. 7's measure)."""
    return (rendered - target).square().mean((-2, -1))
