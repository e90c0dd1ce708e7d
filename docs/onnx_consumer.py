"""Joints of hands by a file of `hrlib export`, without hrlib: python onnx_consumer.py hand.onnx depth.npy FX FY CX CY

depth.npy: [H, W] or [B, H, W] in mm, 0 where nothing was measured. Prints frame, joint, x, y, z in mm (right, down, forward).
"""

import json
import sys

import numpy as np
import onnxruntime


def crop(depth, fx, fy, cx, cy, cube_mm, size=120, behind_mm=120.0):  # the hand is what is nearest, up to so far behind
    hand = np.pad(np.where(depth < depth[depth > 0].min() + behind_mm, depth, 0), 1)  # nothing is outside
    v, u = np.nonzero(hand)
    x, y, z = centre = np.mean([(u - 1 - cx) / fx * hand[v, u], (v - 1 - cy) / fy * hand[v, u], hand[v, u]], axis=1)
    part = ((np.arange(size) + 0.5) / size - 0.5) * cube_mm  # of a cube around the hand, along x and y
    us = np.rint((x + part) / z * fx + cx + 1).astype(int).clip(0, hand.shape[1] - 1)
    vs = np.rint((y + part) / z * fy + cy + 1).astype(int).clip(0, hand.shape[0] - 1)
    value = np.where(hand > 0, 0.5 - (hand - z) / cube_mm, 0)[vs[:, None], us]  # near is bright
    return np.where((value > 0) & (value <= 1), value, 0).astype(np.float32), centre


model, camera = onnxruntime.InferenceSession(sys.argv[1]), [float(x) for x in sys.argv[3:7]]
about, depth = model.get_modelmeta().custom_metadata_map, np.load(sys.argv[2])
depth = depth.reshape(-1, *depth.shape[-2:])
images, centres = zip(*(crop(image, *camera, float(about["cube_mm"])) for image in depth), strict=True)
joints = model.run(["joints_mm"], {"image": np.stack(images)})[0] + np.stack(centres)[:, None]  # [B, 21, 3]
for frame, number in np.ndindex(joints.shape[:2]):
    print(frame, json.loads(about["joints"])[number], *joints[frame, number].round(2), sep=",")
