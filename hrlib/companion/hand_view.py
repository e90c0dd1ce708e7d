"""The hand in three dimensions in JupyterLab: an anywidget that is skinned in the browser (Eq. 2).

Vertices and weights are sent once; a move costs the 16 bone matrices, 768 bytes. `viewer/src/viewer.js` draws them with
three.js, which is bundled: nothing is fetched. Sliders that it knows move the hand before the kernel has heard of it. Where no
JavaScript runs (GitHub, exported pages) a picture stands in.
"""

import base64
from collections.abc import Callable
from pathlib import Path

import anywidget
import ipywidgets as widgets
import numpy as np
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from ..hand.joints import JOINT_NAMES, PARENTS, POINT_ORDER, POINT_PARENTS, TIP_PARENTS
from ..hand.rig import HandRig
from ..hand.skinning import skinning_transforms
from ..network.posenet import ANCHOR

STATIC = Path(__file__).parent / "static"
SHOWN = ("mesh", "skeleton", "cloud")


class HandView(anywidget.AnyWidget):
    """A posed hand to turn and look at.

    Args:
        size: of the canvas, px.
        picture: makes a PNG of the same pose for where no JavaScript runs.
        T_cam_joint: the pose to begin with (mm), as `pose` takes it; None is the rest pose, the wrist in the middle. A browser
            draws it before it hears of any other.
        traits: e.g. `shown`, some of mesh, skeleton and cloud; TraitError for any other name.
    """

    _esm = STATIC / "viewer.js"
    _css = STATIC / "viewer.css"
    bones = traitlets.Bytes().tag(sync=True)  # float32 [16, 3, 4]: rest to posed, mm
    vertices, faces, weights = (traitlets.Bytes().tag(sync=True) for _ in range(3))  # float32, uint32, float32 [V, 16]
    cloud, cloud_weights = (traitlets.Bytes().tag(sync=True) for _ in range(2))
    points, point_weights, bones_of_points = (traitlets.Bytes().tag(sync=True) for _ in range(3))
    shown = traitlets.List(traitlets.Enum(SHOWN), ["mesh"]).tag(sync=True)
    # of the depth images below the hand: image_size and radius_px (px), cube_mm, and shown_px, how wide each is; empty: none
    splat = traitlets.Dict().tag(sync=True)
    target = traitlets.Bytes().tag(sync=True)  # float32 [image_size, image_size], or empty
    # 45 angles and 3 of the view in degrees, then x, y, z of the middle finger's base in mm: drawn as soon as one moves
    sliders = traitlets.List(traitlets.Instance(widgets.Widget)).tag(sync=True, **widgets.widget_serialization)
    # float32: T_parent_neutral, T_rest_wrist [16, 3, 4], middle finger's base [3]
    frames = traitlets.Bytes().tag(sync=True)
    parents = traitlets.List(list(PARENTS)).tag(sync=True)
    # dragging and arrow keys then turn no camera, but send messages: do "turn" with right_deg and down_deg, do "front"
    turned_by_kernel = traitlets.Bool(False).tag(sync=True)
    size = traitlets.Int(360).tag(sync=True)  # of the canvas, px
    label = traitlets.Unicode("the posed hand in three dimensions").tag(sync=True)

    def __init__(
        self,
        hand: HandRig,
        size: int = 360,
        picture: Callable[[], bytes] | None = None,
        T_cam_joint: Float[Tensor, "1 16 4 4"] | None = None,
        **traits,
    ):
        self._hand, self._picture = hand, picture
        joint_of_point = np.r_[np.arange(16), TIP_PARENTS][list(POINT_ORDER)]
        pairs = [(i, parent) for i, parent in enumerate(POINT_PARENTS) if parent >= 0]
        super().__init__(
            size=size,
            faces=_bytes(hand.faces, np.uint32),
            weights=_bytes(hand.weights),
            cloud_weights=_bytes(hand.cloud_weights),
            point_weights=_bytes(np.eye(16)[joint_of_point]),
            bones_of_points=_bytes(pairs, np.uint32),
            bones=_bytes(np.tile(np.eye(3, 4), (16, 1, 1))) if T_cam_joint is None else self._bones(T_cam_joint),
            **_rest(hand),
            **traits,
        )

    def pose(self, T_cam_joint: Float[Tensor, "1 16 4 4"]) -> None:
        """Show the hand with these joint transforms (mm), as `hrlib.forward_kinematics` gives them."""
        self.bones = self._bones(T_cam_joint)

    def _bones(self, T_cam_joint: Float[Tensor, "1 16 4 4"]) -> bytes:
        if T_cam_joint.shape != (1, 16, 4, 4):
            raise ValueError(f"T_cam_joint must be [1, 16, 4, 4], got {list(T_cam_joint.shape)}")
        return _bytes(skinning_transforms(self._hand, T_cam_joint)[0, :, :3])

    def compare(self, target: Float[Tensor, "H W"] | None) -> None:
        """Show this depth image, and how the hand's differs from it. None: an empty one, and no difference."""
        self.target = b"" if target is None else _bytes(target)

    def reshape(self, hand: HandRig) -> None:
        """Show another shape of the same rig. ValueError where it has other triangles or weights."""
        if not torch.equal(hand.faces, self._hand.faces) or hand.weights.shape != self._hand.weights.shape:
            raise ValueError(f"hand '{hand.name}' is no other shape of '{self._hand.name}': its triangles differ")
        self._hand = hand
        with self.hold_sync():
            for name, value in _rest(hand).items():
                setattr(self, name, value)

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        return bundle if bundle is None or not self._picture else with_picture(bundle, self._picture())


def with_picture(bundle: dict | tuple[dict, dict], png: bytes | memoryview) -> dict | tuple[dict, dict]:
    """A widget's representation with a picture for where no JavaScript runs."""
    data, *metadata = bundle if isinstance(bundle, tuple) else (bundle,)
    data = data | {"image/png": base64.b64encode(png).decode()}
    return (data, *metadata) if metadata else data


def _rest(hand: HandRig) -> dict[str, bytes]:
    points = torch.cat([hand.joints_mm, hand.tips_mm])[list(POINT_ORDER)]
    anchor = hand.joints_mm[JOINT_NAMES.index(ANCHOR)]
    frames = torch.cat([hand.T_parent_neutral[:, :3].flatten(), hand.T_rest_wrist[:, :3].flatten(), anchor])
    rest = {"frames": frames, "points": points, "cloud": hand.cloud_mm, "vertices": hand.vertices_mm}
    return {name: _bytes(values) for name, values in rest.items()}


def _bytes(values, kind=np.float32) -> bytes:
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return np.ascontiguousarray(values, kind).tobytes()
