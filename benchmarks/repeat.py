"""The same commands again, in processes of their own, with one and with two threads: are the files the same, byte for byte?

    python benchmarks/repeat.py               # half an hour on two idle cores; writes results/repeat.json
    python benchmarks/repeat.py --notebooks 03 04 --frames 12

Each command runs twice with one thread, and once with two. SHA-256 of each file that it writes are kept, and by how much the
joints of one and two threads differ at most. Then each notebook draws its figures twice in the smoke profile: pictures and
numbers are compared, without dates, seconds and commits. Files of another processor, torch or numba may differ.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from hrlib.companion import results
from hrlib.frames.camera import Camera
from hrlib.frames.folder import write_folder
from hrlib.hand.rig import load_hand
from hrlib.support import paths
from hrlib.synthetic.people import USERS

SIZE, UNIT_MM = (240, 320), 0.125
LENS = USERS["A"].camera.focal_px
CAMERA = ("--camera", str(LENS), str(LENS), "159.5", "119.5", "--unit-mm", str(UNIT_MM))
COMMANDS = {  # words after `hrlib`; {out} is an empty folder
    "predict --no-fit": (
        "predict",
        "{frames}",
        *CAMERA,
        "--no-fit",
        "--out",
        "{out}/joints.csv",
        "--json",
        "{out}/joints.json",
    ),
    "predict": ("predict", "{frames}", *CAMERA, "--out", "{out}/joints.csv"),
    "refine": ("refine", "{frames}", *CAMERA, "--out", "{out}"),
    "refine --learn": ("refine", "{frames}", *CAMERA, "--learn", "--steps", "10", "--out", "{out}"),
    "refine --recipe paper": ("refine", "{frames}", *CAMERA, "--recipe", "paper", "--epochs", "1", "--out", "{out}"),
    "export": ("export", "--out", "{out}/net.onnx"),
}
TIMES = re.compile(r'"(date_utc|seconds|[a-z_]*_s|commit|per_s)": ?("[^"]*"|[-\d.e]+|\{[^}]*\})')


def ran(words: tuple[str, ...], frames: Path, out: Path, threads: int) -> None:
    out.mkdir(parents=True)
    count = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads))
    command = [sys.executable, "-m", "hrlib", *(word.format(frames=frames, out=out) for word in words)]
    done = subprocess.run(command, env=os.environ | count, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout}")


def digest(path: Path) -> str:
    """SHA-256 of a file; of JSON and HTML without dates and times that the computer took."""
    content = path.read_bytes()
    if path.suffix in (".json", ".html"):
        content = TIMES.sub("", content.decode()).encode()
    return hashlib.sha256(content).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    return {path.name: digest(path) for path in sorted(folder.iterdir()) if path.is_file()}


def joints_mm(folder: Path) -> np.ndarray:
    with open(folder / "joints.csv", newline="") as file:
        return np.array([[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in csv.DictReader(file)])


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def repeated(words: tuple[str, ...], frames: Path, folder: Path) -> dict:
    """What a command writes, and what differs the second time and with two threads."""
    for name, threads in (("first", 1), ("second", 1), ("two threads", 2)):
        ran(words, frames, folder / name, threads)
    first, second, two = (digests(folder / name) for name in ("first", "second", "two threads"))
    row = {"sha256": first, "differ_again": differing(first, second), "differ_two_threads": differing(first, two)}
    if "joints.csv" in first:
        apart = joints_mm(folder / "first") - joints_mm(folder / "two threads")
        row["two_threads_mm"] = float(np.linalg.norm(apart, axis=1).max())
        row["two_threads_mean_mm"] = float(np.linalg.norm(apart, axis=1).mean())
    return row


def drawn(notebook: str, folder: Path) -> dict[str, str]:
    """Digests of a notebook's figures and of their numbers."""
    before = {path: path.stat().st_mtime_ns for path in made_by_smoke()}
    words = ("reproduce", "--profile", "smoke", "--only", notebook)
    ran(words, folder, folder / f"{notebook}-{len(list(folder.iterdir()))}", 1)
    new = [path for path in made_by_smoke() if before.get(path) != path.stat().st_mtime_ns]
    return figure_digests(new)


def figure_digests(made: Iterable[Path]) -> dict[str, str]:
    return {path.name: digest(path) if path.suffix == ".png" else numbers(path) for path in made}


def numbers(path: Path) -> str:
    """SHA-256 of a figure's numbers and claims."""
    content = json.loads(path.read_text())
    kept = json.dumps([content["metrics"], content["claims"]], sort_keys=True)
    return hashlib.sha256(TIMES.sub("", kept).encode()).hexdigest()


def made_by_smoke() -> list[Path]:
    folder = paths.figures("smoke")
    return sorted(path for path in folder.glob("*") if path.suffix in (".png", ".json")) if folder.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--only", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--notebooks", nargs="*", default=["01", "03", "04"])
    parser.add_argument("--out", type=Path, default=paths.BENCHMARKS / "repeat.json")
    arguments = parser.parse_args()
    commands, notebooks = {}, {}
    with (
        TemporaryDirectory() as folder,
        tqdm(total=len(arguments.only) + len(arguments.notebooks), desc="repeat") as bar,
    ):
        frames = Path(folder) / "frames"
        camera = Camera(LENS, LENS, (SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2)
        write_folder(USERS["A"].frames(load_hand(), arguments.frames, "test"), frames, camera, SIZE, UNIT_MM)
        for name in arguments.only:
            row = commands[name] = repeated(COMMANDS[name], frames, Path(folder) / name.replace(" ", "_"))
            bar.update()
            apart = f", joints up to {row['two_threads_mm']:.4f} mm" if "two_threads_mm" in row else ""
            tqdm.write(f"{name}: again {row['differ_again'] or 'the same'}")
            tqdm.write(f"  two threads {row['differ_two_threads'] or 'the same'}{apart}")
        (pictures := Path(folder) / "pictures").mkdir()
        for notebook in arguments.notebooks:
            one, other = (drawn(notebook, pictures) for _ in range(2))
            notebooks[notebook] = {"sha256": one, "differ_again": differing(one, other)}
            tqdm.write(f"notebook {notebook}: {notebooks[notebook]['differ_again'] or 'the same'} of {len(one)} files")
            bar.update()
    data = {"hand": paths.HAND_ASSET, "base model": paths.BASE_MODEL}
    made = results.provenance({"frames": arguments.frames}, 0, data)
    again = sum(len(row["differ_again"]) for row in (*commands.values(), *notebooks.values()))
    rows = [*commands.values(), *notebooks.values()]
    metrics = {
        "files": sum(len(row["sha256"]) for row in rows),
        "files_that_differ": again,
        "two_threads_mm": max((row["two_threads_mm"] for row in rows if "two_threads_mm" in row), default=None),
        "commands": commands,
        "notebooks": notebooks,
    }
    whole = len(commands) == len(COMMANDS) and bool(notebooks)
    values = {"repeat-same": 1 - again / metrics["files"], "repeat-threads": metrics["two_threads_mm"]} if whole else {}
    results.write_result(arguments.out, "repeat", metrics, values, made, "full" if whole else "quick")
    return int(again > 0)


if __name__ == "__main__":
    sys.exit(main())
