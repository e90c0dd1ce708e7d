"""Makes azure_kinect.mkv.gz by Azure Kinect's own recorder, libk4arecord 1.4.2: `python azure_kinect.py FOLDER_OF_LIBRARIES`.

No camera is needed: the recorder writes captures that are made here, and as attachment the calibration of a real device, whose
numbers its owner published (github.com/panispani/3DReconstruct, pointCloudGen/calib.md). Two images [288, 320] of steps.
The libraries are those of PyPI's pyk4a-bundle (pyk4a_bundle.libs), or of the SDK.
"""

import ctypes as c
import gzip
import json
import sys
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, NFOV_2X2BINNED, DEPTH16 = 320, 288, 1, 4
# fmt: off
DEPTH = [
    0.5122697949409485, 0.49451231956481934, 0.4921168386936188, 0.4921667277812958, 3.1305770874023438, 2.324939012527466,
    0.1304156482219696, 3.458651542663574, 3.350114583969116, 0.6629416346549988, 0, 0, -0.0000511557373101823,
    0.00008132171933539212,
]
COLOUR = [
    0.4967627227306366, 0.5108628273010254, 0.470907062292099, 0.6274453997612, 0.7227460145950317, -2.8855903148651123,
    1.6327226161956787, 0.6021990180015564, -2.7196261882781982, 1.565053105354309, 0, 0, -0.0001431911950930953,
    0.0007828465895727277,
]
# fmt: on
RIGID = {"Rotation": [1, 0, 0, 0, 1, 0, 0, 0, 1], "Translation": [0, 0, 0]}


class Configuration(c.Structure):
    """k4a_device_configuration_t."""

    _fields_ = [(name, c.c_int) for name in ("colour_format", "colour_resolution", "depth_mode", "fps")]
    _fields_ += [("synchronized", c.c_bool), ("delay", c.c_int32), ("wired", c.c_int), ("subordinate", c.c_uint32)]
    _fields_ += [("no_light", c.c_bool)]


def camera(location: str, numbers: list[float], width: int, height: int) -> dict:
    kind = "CALIBRATION_LensDistortionModelBrownConrady"
    return {
        "Intrinsics": {"ModelParameterCount": 14, "ModelParameters": numbers, "ModelType": kind},
        "Location": f"CALIBRATION_CameraLocation{location}",
        "MetricRadius": 1.74,
        "Rt": RIGID,
        "SensorHeight": height,
        "SensorWidth": width,
    }


def inertial(kind: str) -> dict:
    numbers = {"BiasTemperatureModel": 12, "BiasUncertainty": 3, "MixingMatrixTemperatureModel": 36, "Noise": 6}
    told = {name: [0] * count for name, count in (numbers | {"SecondOrderScaling": 9, "TemperatureBounds": 2}).items()}
    told |= {"ModelTypeMask": 16, "TemperatureC": 0, "Rt": RIGID}
    return told | {"SensorType": f"CALIBRATION_InertialSensorType_{kind}"}


CALIBRATION = {
    "CalibrationInformation": {
        "Cameras": [camera("D0", DEPTH, 1024, 1024), camera("PV0", COLOUR, 4096, 3072)],
        "InertialSensors": [inertial("Gyro"), inertial("Accelerometer")],
    }
}


def main(libraries: str) -> None:
    k4a, recorder = (
        c.CDLL(str(next(Path(libraries).glob(f"{name}[-.]*"))), mode=c.RTLD_GLOBAL)
        for name in ("libk4a", "libk4arecord")
    )
    k4a.k4a_image_get_buffer.restype = c.c_void_p
    recorder.k4a_record_create.argtypes = [c.c_char_p, c.c_void_p, Configuration, c.c_void_p]
    path, file = Path("azure_kinect.mkv"), c.c_void_p()
    recorder.k4a_record_create(bytes(path), None, Configuration(depth_mode=NFOV_2X2BINNED), c.byref(file))
    text = json.dumps(CALIBRATION).encode() + b"\0"
    recorder.k4a_record_add_attachment(file, b"calibration.json", text, c.c_size_t(len(text)))
    recorder.k4a_record_write_header(file)
    for number in range(2):
        capture, image = c.c_void_p(), c.c_void_p()
        k4a.k4a_capture_create(c.byref(capture))
        k4a.k4a_image_create(DEPTH16, WIDTH, HEIGHT, 2 * WIDTH, c.byref(image))
        v, u = np.mgrid[:HEIGHT, :WIDTH] // 4  # blocks, which compress
        counts = (400 + 100 * v + u + number).astype("<u2")
        c.memmove(k4a.k4a_image_get_buffer(image), counts.tobytes(), counts.nbytes)
        k4a.k4a_image_set_device_timestamp_usec(image, c.c_uint64(1000 + number * 33333))
        k4a.k4a_capture_set_depth_image(capture, image)
        recorder.k4a_record_write_capture(file, capture)
        k4a.k4a_image_release(image)
        k4a.k4a_capture_release(capture)
    recorder.k4a_record_flush(file)
    recorder.k4a_record_close(file)
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    path.unlink()


if __name__ == "__main__":
    main(sys.argv[1])
