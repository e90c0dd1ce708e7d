"""MediaPipe's hand landmarks in grey images, for bench_peers.py: runs in an environment of its own, without hrlib.

    python -m venv VENV && VENV/bin/pip install "mediapipe==0.10.14"     # it wants numpy 1; its wheel holds the models
    python benchmarks/bench_peers.py --mediapipe-python VENV/bin/python

Reads an .npz with `images` [F, H, W] uint8. Writes one with `found` [F], `pixels` [F, 21, 2], `world_mm` [F, 21, 3] and
`cpu_ms` [F].
"""

import sys
import time

import mediapipe
import numpy as np


def main(source: str, target: str) -> None:
    images = np.load(source)["images"]
    count, height, width = images.shape
    found, pixels = np.zeros(count, bool), np.full((count, 21, 2), np.nan)
    world_mm, cpu_ms = np.full((count, 21, 3), np.nan), np.zeros(count)
    options = {"static_image_mode": True, "max_num_hands": 1, "min_detection_confidence": 0.2}  # usual: 0.5
    with mediapipe.solutions.hands.Hands(**options) as hands:
        hands.process(np.zeros((height, width, 3), np.uint8))  # what the first image alone costs
        for i, image in enumerate(images):
            began = time.process_time()  # of all its threads
            seen = hands.process(np.repeat(image[..., None], 3, 2))
            cpu_ms[i] = 1e3 * (time.process_time() - began)
            if seen.multi_hand_landmarks:
                found[i] = True
                flat, world = seen.multi_hand_landmarks[0].landmark, seen.multi_hand_world_landmarks[0].landmark
                pixels[i] = [(point.x * width - 0.5, point.y * height - 0.5) for point in flat]
                world_mm[i] = [(1000 * point.x, 1000 * point.y, 1000 * point.z) for point in world]
    version = getattr(mediapipe, "__version__", "unknown")
    np.savez(target, found=found, pixels=pixels, world_mm=world_mm, cpu_ms=cpu_ms, version=version)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
