"""Joints of a hand in depth images by a file of `hrlib export`, with NumPy and ONNX Runtime alone.

python onnx_consumer.py hand.onnx depth.npy FX FY CX CY    depth [H, W] or [B, H, W] in mm, 0 where nothing was measured
"""

import json
import sys

import numpy as np
import onnxruntime

SIZE, BEHIND_MM = 120, 120.0  # side of the network's image; the hand is what is nearest, up to so far behind


def crop(depth, fx, fy, cx, cy, cube_mm):
    """The window of a cube around the hand, 1 - z (near is bright), and the cube's centre in the camera frame."""
    hand = np.where((depth > 0) & (depth < depth[depth > 0].min() + BEHIND_MM), depth, 0)
    v, u = np.nonzero(hand)
    x, y, z = centre = np.mean([(u - cx) / fx * hand[v, u], (v - cy) / fy * hand[v, u], hand[v, u]], axis=1)
    part = ((np.arange(SIZE) + 0.5) / SIZE - 0.5) * cube_mm
    us, vs = np.rint((x + part) / z * fx + cx).astype(int), np.rint((y + part) / z * fy + cy).astype(int)
    beyond = np.pad(hand, 1)  # nothing is outside
    window = beyond[(vs + 1).clip(0, len(beyond) - 1)[:, None], (us + 1).clip(0, beyond.shape[1] - 1)]
    value = 0.5 - (window - z) / cube_mm
    return np.where((window > 0) & (value > 0) & (value <= 1), value, 0).astype(np.float32), centre


def joints_mm(session, depth_mm, camera):
    """Joints [B, 21, 3] in the camera frame (x right, y down, z forward) of images [B, H, W], all in one run."""
    cube_mm = float(session.get_modelmeta().custom_metadata_map["cube_mm"])
    images, centres = zip(*(crop(depth, *camera, cube_mm) for depth in depth_mm), strict=True)
    return session.run(["joints_mm"], {"image": np.stack(images)})[0] + np.stack(centres)[:, None]


if __name__ == "__main__":
    model, depth_mm = onnxruntime.InferenceSession(sys.argv[1]), np.load(sys.argv[2])
    names = json.loads(model.get_modelmeta().custom_metadata_map["joints"])
    depth_mm, camera = depth_mm.reshape(-1, *depth_mm.shape[-2:]), [float(number) for number in sys.argv[3:7]]
    for number, hand in enumerate(joints_mm(model, depth_mm, camera)):
        for name, (x, y, z) in zip(names, hand, strict=True):
            print(f"{number},{name},{x:.2f},{y:.2f},{z:.2f}")
