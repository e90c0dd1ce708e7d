"""What no back end can draw: wrong shapes, vertices that are not finite, faces that name no vertex."""


def check(vertices: tuple, intrinsics: tuple, finite: bool, faces: tuple, lowest: int, highest: int) -> None:
    """Refuse what the kernels cannot draw, by the arguments' shapes and the faces' extremes (0 among them)."""
    if len(vertices) != 3 or vertices[2] != 3:
        raise ValueError(f"vertices_mm must be [B, V, 3], got {list(vertices)}")
    if tuple(intrinsics) != (vertices[0], 4):
        raise ValueError(f"intrinsics must be [B, 4] with B = {vertices[0]}, got {list(intrinsics)}")
    if not finite:
        raise ValueError("vertices_mm holds NaN or infinite numbers; the pose that made them is broken")
    # the kernels do not check: a wrong index would read foreign memory
    if len(faces) != 2 or faces[1] != 3 or lowest < 0 or (highest >= vertices[1] and faces[0]):
        raise ValueError(
            f"faces must be [F, 3] indices below V = {vertices[1]}, got {list(faces)} from {lowest} to {highest}"
        )
