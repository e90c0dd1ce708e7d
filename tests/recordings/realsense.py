"""Makes realsense.bag.gz (pyrealsense2 2.55) and realsense.db3.gz (2.59): `python realsense.py realsense.bag`.

librealsense itself records a software device: no camera is needed. Three images [48, 64] of a ramp, 0.125 mm a count.
"""

import gzip
import sys
import time
from pathlib import Path

import numpy as np
import pyrealsense2 as rs

WIDTH, HEIGHT, UNIT_M = 64, 48, 0.000125


def main(out: str) -> None:
    device = rs.software_device()
    sensor = device.add_sensor("Depth")
    inside = rs.intrinsics()
    inside.width, inside.height, inside.fx, inside.fy, inside.ppx, inside.ppy = WIDTH, HEIGHT, 40.5, 40.25, 31.25, 23.5
    inside.model, inside.coeffs = rs.distortion.brown_conrady, [0, 0, 0, 0, 0]
    stream = rs.video_stream()
    stream.type, stream.fmt, stream.intrinsics = rs.stream.depth, rs.format.z16, inside
    stream.width, stream.height, stream.fps, stream.bpp, stream.index, stream.uid = WIDTH, HEIGHT, 30, 2, 0, 0
    profile = sensor.add_video_stream(stream)
    sensor.add_read_only_option(rs.option.depth_units, UNIT_M)
    recorder = rs.recorder(out, device)
    recorded = recorder.query_sensors()[0]
    recorded.open(recorded.get_stream_profiles()[0])
    recorded.start(lambda frame: None)
    for number in range(3):
        image = (np.arange(WIDTH * HEIGHT) + 4000 + number).reshape(HEIGHT, WIDTH).astype(np.uint16)
        image[0, 0] = 0
        frame = rs.software_video_frame()
        frame.pixels, frame.stride, frame.bpp, frame.frame_number = image, 2 * WIDTH, 2, number + 1
        frame.timestamp, frame.domain = number * 33.3 + 1e6, rs.timestamp_domain.hardware_clock
        frame.profile, frame.depth_units = profile.as_video_stream_profile(), UNIT_M
        sensor.on_video_frame(frame)
        time.sleep(0.05)
    recorded.stop()
    recorded.close()
    del recorded, recorder, sensor, device  # the file is whole when they are gone
    path = Path(out)
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()


if __name__ == "__main__":
    main(sys.argv[1])
