"""hrlib: refine 3D hand pose estimation from unlabelled depth images (Dibra, Wolf, Öztireli, Gross, 3DV 2017).

Conventions, everywhere:

- Lengths are millimetres, angles radians (degrees only where a name ends in `_deg`, and in user interfaces).
- Camera frame: x right, y down, z forward. Pixels: u right, v down, the centre of the first pixel at 0.
- Crop frame: a cube of `cube_mm` (250) around the hand's centre, scaled to [0, 1]^3, same axes as the camera.
- Depth image in the crop: 1 - z in (0, 1] on the hand (near is bright), 0 where there is nothing (Eq. 4): the network's
  input, the rendered image and the target mean the same.
- Quaternions are unit, xyzw. Transforms are `T_to_from`, 4x4, acting on columns.
- Shapes are named by letters, batch first: [B, J, 4], [B, N, 3], [B, H, W].
- 16 joints: wrist, then thumb, index, middle, ring, pinky x 3; with the 5 tips 21 points. `hrlib.hand.joints` has the table.
- Right hand. A left hand is mirrored on entry, and back on exit.
- Random functions take a `torch.Generator`.

The rooms in the order in which data flows: frames (camera, hand finder, crop), network (theta), hand (posed cloud), render
(depth image), losses; `hrlib.method` calls these five. On it stand synthetic and training (the base model), refine (one user's
frames), datasets, evaluation, personal (your own camera), drawing and companion (the notebooks). Below all is support.
"""

import os

# Threads that wait sleep. By default they spin, and where other programs have their cores, a command takes up to 16 times
# as long, not twice (benchmarks/results/load.json). OpenMP reads this when torch loads it: a program's own setting comes first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# ONNX Runtime's own packages tell Microsoft what they run, under a number that they keep in the home folder, unless this is set
# before they are loaded. A program's own setting comes first here, too.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "1.0.0"

# name -> module; imported when first asked for, so that `hrlib --help` does not wait for torch
_EXPORTS = {
    "Camera": "frames.camera",
    "Crops": "frames.crops",
    "DepthFolder": "frames.folder",
    "FromJoints": "network.from_joints",
    "HandRig": "hand.rig",
    "PipelineSettings": "method",
    "PoseModel": "network.model",
    "PoseNet": "network.posenet",
    "Tracker": "personal.tracker",
    "crop_hand": "frames.crop",
    "evaluate_step": "method",
    "forward_kinematics": "hand.kinematics",
    "load_hand": "hand.rig",
    "load_network": "network.checkpoint",
    "pose_hand": "hand.posed",
    "predict": "personal.tracker",
    "find_hand": "frames.finder",
    "segment_hand": "frames.segment",
    "skin": "hand.skinning",
    "splat_depth": "render",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f"module 'hrlib' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"hrlib.{_EXPORTS[name]}"), name)
