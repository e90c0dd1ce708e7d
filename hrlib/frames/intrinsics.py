"""A camera's numbers in the forms in which libraries and SDKs hand them out: tuples, matrices, dictionaries, files of these."""

import configparser
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Real
from torch import Tensor

from ..support.decoding import read_array, read_arrays
from ..support.files import read_whole
from .camera import Camera
from .recordings.matroska import MODES, mode_of

# the forms of `camera_numbers`, and a file of them
AnyCamera = Camera | tuple[float, ...] | list | Real[np.ndarray, "..."] | Real[Tensor, "..."] | Mapping | str | Path

FORMS = "FX FY, FX FY CX CY, or the matrix [3, 3] that has them"
# keys, in small letters without _ and -, below which a matrix stands: of ROS, OpenCV, Open3D, OAK-D, Record3D and data sets
MATRICES = ("k", "cameramatrix", "intrinsicmatrix", "intrinsics", "intrinsic", "mtx", "kdepth", "depthintrinsics")
MATRICES += ("projectionmatrix",)
# keys of the four numbers, likewise: RealSense has ppx and ppy, and one focal length stands for two
NUMBERS = (("fx", "focalx", "flx", "f"), ("fy", "focaly", "fly", "f"), ("cx", "ppx", "u0"), ("cy", "ppy", "v0"))
# a camera of COLMAP's cameras.txt (number, model, width, height, the model's numbers), and a section of ZED's SN*.conf
COLMAP = re.compile(r"^(\d+)[ \t]+([A-Z_]+)[ \t]+\d+[ \t]+\d+((?:[ \t]+[-+.\deE]+){3,})\s*$", re.M)
ONE_FOCAL_LENGTH = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
SECTION = re.compile(r"^\[[A-Za-z]\w*\]\s*$", re.M)
MOST_BYTES = 2**20  # of a text file with a camera's numbers
LEAST_PX = 1.0  # of a matrix's focal lengths
SKEW = 0.01  # of the focal length: more than any lens has


def camera_numbers(given: object) -> tuple[float, ...]:
    """(fx, fy) or (fx, fy, cx, cy), px, from what another library says of its camera.

    Args:
        given: 2 or 4 numbers; the matrix [3, 3], [3, 4] or [4, 4], its 9, 12 or 16 numbers, by rows or by columns; a mapping
            that has them (keys fx, fy, cx or ppx, cy or ppy; K, camera_matrix, intrinsic_matrix, ...), at any depth; or an
            object that has them as attributes (pyrealsense2's intrinsics, Open3D's PinholeCameraIntrinsic, ROS's CameraInfo).

    Raises:
        ValueError: there are no such numbers in it, or those of several cameras.
    """
    given = _attributes(given) or given
    found = dict.fromkeys(_found(given)) if isinstance(given, Mapping) else {_of_array(given): None}
    if len(found) != 1:
        several = " and ".join(" ".join(f"{x:g}" for x in numbers) for numbers in found)
        what = f"several cameras ({several})" if found else f"no camera's numbers below {', '.join(map(str, given))}"
        raise ValueError(f"camera has {what}; give those of the depth image: {FORMS}")
    return next(iter(found))


def as_camera(camera: AnyCamera) -> Camera | tuple[float, float]:
    """A `Camera`, or its focal lengths alone. Raises ValueError for numbers that are no camera's, or OSError for a file."""
    if isinstance(camera, Camera):
        return camera
    if isinstance(camera, str | Path) and not Path(camera).is_file():
        raise FileNotFoundError(f"camera must be {FORMS}, or a file that has them; there is no file {str(camera)!r}")
    numbers = read_camera(camera) if isinstance(camera, str | Path) else camera_numbers(camera)
    return Camera(*numbers) if len(numbers) == 4 else numbers


def read_camera(path: str | Path) -> tuple[float, ...]:
    """`camera_numbers` of a file: JSON, YAML (OpenCV's and ROS's too), a text of numbers, COLMAP's cameras.txt, .npy or .npz.

    Raises ValueError or OSError, which name the file. ZED's SN*.conf and Azure Kinect's calibration.json fit images of several
    sizes: the error has the numbers of each.
    """
    path = Path(path)
    try:
        return camera_numbers(_content(path))
    except (ValueError, RecursionError, yaml.YAMLError, configparser.Error) as error:
        named = str(error) if str(path) in str(error) else f"{path}: {error}"
        raise ValueError(named) from error


def _content(path: Path) -> object:
    if path.suffix.lower() in (".npy", ".npz"):
        return read_array(path) if path.suffix.lower() == ".npy" else read_arrays(path)
    text = read_whole(path, MOST_BYTES).decode("utf-8-sig", errors="replace")
    try:
        return np.array(re.sub("#.*", "", text).replace(",", " ").split(), float)
    except ValueError:
        pass
    if colmap := COLMAP.findall(text):
        return {f"camera {number}": _of_colmap(model, numbers) for number, model, numbers in colmap}
    if path.suffix.lower() == ".json":
        return _of_azure_kinect(json.loads(text))
    if SECTION.search(text):
        return _of_zed(text)
    lines = ["" if line.startswith("%") else line for line in text.splitlines()]  # OpenCV's %YAML:1.0 is no YAML
    return yaml.load("\n".join(lines), _Loader)


def _of_colmap(model: str, numbers: str) -> dict[str, float]:
    """The pinhole part of a line of cameras.txt. COLMAP counts pixels from the first one's corner, not its centre."""
    first = [float(number) for number in numbers.split()]
    fx, fy, cx, cy = first[:1] * 2 + first[1:3] if model in ONE_FOCAL_LENGTH else first[:4]
    return {"fx": fx, "fy": fy, "cx": cx - 0.5, "cy": cy - 0.5}


def _of_zed(text: str) -> dict[str, dict]:
    """Sections of a .conf, which has both lenses at each size; depth is seen from the left one."""
    parts = configparser.RawConfigParser(strict=False)
    parts.read_string(text)
    sections = {name: dict(parts[name]) for name in parts.sections() if "fx" in parts[name]}
    left = {name: part for name, part in sections.items() if name.upper().startswith("LEFT")}
    if len(left) > 1:
        raise _several({name: camera_numbers(part) for name, part in left.items()})
    return left or sections


def _of_azure_kinect(given: object) -> object:
    """JSON as it is; of an Azure Kinect's calibration.json the error with the numbers of its modes."""
    if not isinstance(given, dict) or "CalibrationInformation" not in given:
        return given
    try:
        cameras = {f"{size[0]}x{size[1]}": mode_of(given, size)[0] for size in MODES}
    except (LookupError, TypeError) as error:
        raise ValueError(f"no calibration of an Azure Kinect: {error!r}") from error
    raise _several({size: (some.fx, some.fy, some.cx, some.cy) for size, some in cameras.items()})


def _several(by_size: dict[str, tuple[float, ...]]) -> ValueError:
    numbers = "; ".join(f"{size}: {' '.join(f'{x:.2f}' for x in some)}" for size, some in by_size.items())
    return ValueError(f"fits images of several sizes, {numbers}; give the four numbers of yours")


class _Loader(yaml.SafeLoader):
    """YAML in which OpenCV's matrices are plain mappings, and which no alias can make longer than its file."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise ValueError("has aliases (*), which are not read here")
        return super().compose_node(parent, index)


def _matrix_node(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:opencv-matrix", _matrix_node)


def _attributes(given: object) -> dict[str, object]:
    """The parts of another library's object that have a camera's names; nothing of numbers, arrays and mappings."""
    if given is None or hasattr(given, "__len__") or hasattr(given, "__array__"):
        return {}
    known = {*MATRICES, *(key for keys in NUMBERS for key in keys)}
    return {name: getattr(given, name) for name in dir(given) if _key(name) in known}


def _key(name: object) -> str:
    return str(name).lower().replace("_", "").replace("-", "")


def _found(given: object) -> Iterator[tuple[float, ...]]:
    """The numbers of each camera in a mapping; of a part named after depth alone if there is one."""
    if isinstance(given, list | tuple):
        for part in given:
            yield from _found(part)
    if not isinstance(given, Mapping):
        return
    by_key = {_key(key): value for key, value in given.items()}
    numbers = [next((by_key[key] for key in keys if key in by_key), None) for keys in NUMBERS]
    if None not in numbers[:2]:
        yield _of_array(numbers if None not in numbers else numbers[:2])
        return
    for key in MATRICES:
        if key in by_key and (matrix := _matrix_in(by_key[key])) is not None:
            yield _of_array(matrix)
            return
    of_depth = [value for key, value in by_key.items() if "depth" in key and list(_found(value))]
    for value in of_depth or by_key.values():
        yield from _found(value)


def _matrix_in(value: object) -> object | None:
    """The numbers of a matrix: a list, an array, or a mapping with its data."""
    value = value.get("data", value) if isinstance(value, Mapping) else value
    return None if isinstance(value, Mapping | str) else value


def _of_array(given: object) -> tuple[float, ...]:
    try:
        numbers = np.asarray(given, float)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"camera must be {FORMS}, got {given!r}") from error
    if numbers.shape in ((2,), (4,)):
        return tuple(numbers.tolist())
    if numbers.shape in ((9,), (12,), (16,)):
        numbers = numbers.reshape({9: (3, 3), 12: (3, 4), 16: (4, 4)}[len(numbers)])
    if numbers.shape not in ((3, 3), (3, 4), (4, 4)):
        raise ValueError(f"camera must be {FORMS}, got {f'shape {list(numbers.shape)}' if numbers.ndim else given}")
    K = numbers[:3, :3]
    K = K.T if (K[:2, 2] == 0).all() and (K[2, :2] != 0).any() else K  # Open3D and Record3D store it by columns
    pixels = min(K[0, 0], K[1, 1]) > LEAST_PX  # the inverse of a matrix has the same zeros
    if not (pixels and (K[2] == (0, 0, 1)).all() and K[1, 0] == 0 and abs(K[0, 1]) <= SKEW * abs(K[0, 0])):
        raise ValueError(
            f"camera must be a matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {numbers.round(3).tolist()}"
        )
    return tuple(K[(0, 1, 0, 1), (0, 1, 2, 2)].tolist())
