"""What recorders leave on disk, recognised by what it holds: frames, camera and unit from the recorder's own files."""

from collections.abc import Callable
from pathlib import Path

from ..listing import frames_at
from . import folders, matroska, record3d, ros, scannet
from .recording import Recording

# a file's ending -> what reads it
FILES: dict[str, Callable[[Path], Recording]] = {
    ".r3d": record3d.archive,
    ".sens": scannet.sens,
    ".mkv": matroska.azure_kinect,
    **dict.fromkeys(ros.ENDINGS, ros.bag),
}
# what has its depth images in a folder depth/, which may be named itself
WITH_DEPTH_BELOW = (folders.tum, folders.open3d, folders.oak, scannet.export, record3d.export)
OTHERS = (folders.recorded, folders.realsense_converted, record3d.unzipped, ros.folder)


def recording_at(source: Path) -> Recording | None:
    """The recording in a folder or file; None for images that no recorder describes.

    A folder that holds one recorder's file and no images is that file.

    Raises:
        ValueError, OSError: a description or file is damaged, or one of several must be named; the message names it.
    """
    if source.is_file():
        reader = FILES.get(source.suffix.lower())
        return None if reader is None else reader(source)
    root = source.parent if source.name == "depth" else source
    for recognise in WITH_DEPTH_BELOW:
        if found := recognise(root):
            return found
    for recognise in OTHERS:
        if found := recognise(source):
            return found
    return _alone(source)


def _alone(folder: Path) -> Recording | None:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in FILES and path.name[0] != ".")
    if not files or frames_at(folder):
        return None
    if len(files) > 1:
        raise ValueError(f"{folder} holds {len(files)} recordings: name one, e.g. {files[0]}")
    return recording_at(files[0])
