"""Let things go wrong around `hrlib` and in its files, one by one, and look whether anything is lost.

    python benchmarks/faults.py                       # all; Linux, best as root; writes results/faults.json
    python benchmarks/faults.py --only "full disk"    # those whose group or name holds the words

Each fault is a real run of a command in a process of its own. It survives if the command does what it should, or refuses in one
line without a traceback, and all files that were there before are whole. What cannot be tried here (mounts need root) says so.
kill.py has the kills, fuzz.py the damaged bytes, bench_doubt.py the wrong settings that files cannot show.
"""

import argparse
import atexit
import io
import json
import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numba
import numpy as np
import survival
import torch
from safetensors.torch import load, save
from tqdm import tqdm

import hrlib.__main__ as program
from hrlib.companion import results
from hrlib.frames.camera import Camera
from hrlib.frames.folder import write_folder
from hrlib.hand.rig import load_hand
from hrlib.network.checkpoint import save_network
from hrlib.network.posenet import NetworkSettings, PoseNet
from hrlib.support import files, paths
from hrlib.support.tensor_files import DIGEST
from hrlib.synthetic.people import USERS

COUNT, SIZE, UNIT_MM = 5, (240, 320), 0.25  # of the frames, which the hand fills
LENS = USERS["A"].camera.focal_px
SHORT = ("--recipe", "paper", "--epochs", 1, "--anyway")  # a refinement
NOBODY = 65534  # a user who is not root
OLD_JOINTS, OLD_NETWORK = "frame,joint\n", b"\x08\x08\x12old"  # what outputs may replace begins so
LONGEST_S = 1800.0  # of a command, on a busy machine; it is a fault to wait for ever


class CannotTry(Exception):
    """The fault needs what this computer or user lacks."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    status: int
    said: str  # on both streams

    def well(self) -> None:
        assert self.status == 0 and "Traceback" not in self.said, self.said

    def refused(self, *words: str) -> None:
        """It must be refused in one line, in which the words stand."""
        assert self.status == 2 and "Traceback" not in self.said, f"status {self.status}: {self.said}"
        lines = [line for line in self.said.splitlines() if line.startswith("hrlib: ")]
        assert len(lines) == 1, self.said
        missing = [word for word in words if word not in lines[0]]
        assert not missing, f"{lines[0]!r} does not say {missing}"


class Place:
    """A fresh folder, and commands that run in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.frames = folder / "frames"
        shutil.copytree(good_frames(), self.frames)
        self.joints = folder / "joints.csv"

    def begin(self, *words: object, prepare: Callable = lambda: None) -> tuple[int, Path]:
        """A forked process that runs `hrlib words`, after `prepare()`; its number, and the file with what it says."""
        said = self.folder.parent / f"{os.getpid()}-{time.monotonic_ns()}.txt"
        said.touch()

        def command() -> int:
            survival.take_signals()
            os.setsid()
            sys.argv = ["hrlib", *map(str, words)]
            prepare()
            return program.main()

        return survival.forked(said, command), said

    def run(self, *words: object, prepare: Callable = lambda: None) -> Ended:
        return self.end(*self.begin(*words, prepare=prepare))

    def end(self, child: int, said: Path) -> Ended:
        """Wait for a process of `begin`."""
        until = time.monotonic() + LONGEST_S
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return Ended(os.waitstatus_to_exitcode(status), said.read_text(errors="replace"))
            if time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise AssertionError(f"no end after {LONGEST_S:.0f} s")
            time.sleep(0.02)

    def predict(self, *words: object, prepare: Callable = lambda: None) -> Ended:
        out = () if "--out" in words else ("--out", self.joints)
        return self.run("predict", self.frames, *CAMERA, *out, *words, prepare=prepare)

    def refine(self, *words: object, prepare: Callable = lambda: None) -> Ended:
        return self.run("refine", self.frames, *CAMERA, *SHORT, "--out", self.folder / "me", *words, prepare=prepare)

    def begin_refine(self) -> tuple[int, Path]:
        return self.begin("refine", self.frames, *CAMERA, *SHORT, "--out", self.folder / "me")

    def fresh(self, *words: object, **environment: str | None) -> Ended:
        """The command in a new Python, with changes of the environment."""
        both = {k: v for k, v in (os.environ | environment).items() if v is not None}
        command = [sys.executable, "-m", "hrlib", *map(str, words)]
        done = subprocess.run(command, env=both, cwd=self.folder, capture_output=True, timeout=LONGEST_S)
        return Ended(done.returncode, (done.stdout + done.stderr).decode(errors="replace"))

    def same(self, path: Path | None = None) -> None:
        """The joints are those of undisturbed frames."""
        assert (path or self.joints).read_bytes() == good_joints(), "the joints are others"

    def nothing_left(self, folder: Path | None = None) -> None:
        left = [path.name for path in (folder or self.folder).rglob("*.partial")]
        assert not left, f"left behind: {left}"


CAMERA = ("--camera", LENS, LENS, (SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2, "--unit-mm", UNIT_MM, "--side", "right")


@cache
def home() -> Path:
    """For what all faults share; the process that made it removes it."""
    folder, owner = Path(mkdtemp(prefix="faults-")), os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(folder))
    return folder


@cache
def good_frames() -> Path:
    folder = home() / "frames"
    camera = Camera(LENS, LENS, (SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2)
    write_folder(USERS["A"].frames(load_hand(), COUNT, "test", 5), folder, camera, SIZE, UNIT_MM)
    return folder


@cache
def good_joints() -> bytes:
    """As undisturbed frames give them; in this process, so that those that are forked have all code loaded."""
    out, before = home() / "joints.csv", sys.argv
    sys.argv = list(map(str, ["hrlib", "predict", good_frames(), *CAMERA, "--out", out]))
    assert program.main() == 0
    sys.argv = before
    return out.read_bytes()


@cache
def small_model() -> bytes:
    """A checkpoint of a network that takes no time."""
    path = home() / "net.safetensors"
    torch.manual_seed(0)
    settings = NetworkSettings(backbone="resnet", rotation="6d", keep_probability=1.0)
    save_network(path, PoseNet(settings), load_hand(), {})
    return path.read_bytes()


FAULTS: dict[str, dict[str, Callable[[Place], None]]] = {}  # by group and name


def fault(group: str, name: str) -> Callable:
    def add(function: Callable[[Place], None]) -> Callable[[Place], None]:
        FAULTS.setdefault(group, {})[name] = function
        return function

    return add


# -- disks, folders, users ------------------------------------------------------------------------------------------------

ROOM = "disks, folders and users"


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    if os.getuid() or subprocess.run(["mount", *options, folder], capture_output=True).returncode:
        raise CannotTry("mounts need root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def small_disk(place: Place, kilobytes: int):
    return mounted(place.folder / "disk", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs")


@fault(ROOM, "full disk: joints")
def full_disk_joints(place: Place):
    with small_disk(place, 8) as disk:
        (disk / "joints.csv").write_text(OLD_JOINTS)
        place.predict("--out", disk / "joints.csv").refused("joints.csv", "free some space")
        assert (disk / "joints.csv").read_text() == OLD_JOINTS
        place.nothing_left(disk)


@fault(ROOM, "full disk: model of a refinement")
def full_disk_refinement(place: Place):
    with small_disk(place, 2048) as disk:
        place.refine("--out", disk / "me").refused("space")
        place.nothing_left(disk)


@fault(ROOM, "full disk: exported model")
def full_disk_export(place: Place):
    with small_disk(place, 1024) as disk:
        (disk / "net.onnx").write_bytes(OLD_NETWORK)
        place.run("export", "--out", disk / "net.onnx").refused("net.onnx", "free some space")
        assert (disk / "net.onnx").read_bytes() == OLD_NETWORK
        place.nothing_left(disk)


def printed_to(place: Place, out: int) -> Ended:
    """A new Python, as what it prints is also written when it ends."""
    command = [sys.executable, "-m", "hrlib", "predict", place.frames, *CAMERA, "--out", place.joints]
    done = subprocess.run([str(word) for word in command], stdout=out, stderr=subprocess.PIPE, timeout=LONGEST_S)
    return Ended(done.returncode, done.stderr.decode())


@fault(ROOM, "full disk: what is printed")
def full_terminal(place: Place):
    with open("/dev/full", "wb") as full:
        printed_to(place, full.fileno()).refused("space")
    place.same()


@fault(ROOM, "the reader of what is printed has gone")
def closed_pipe(place: Place):
    read, write = os.pipe()
    os.close(read)
    printed_to(place, write).refused("pipe")
    os.close(write)
    place.same()


@fault(ROOM, "files may not grow")
def short_files(place: Place):
    place.joints.write_text(OLD_JOINTS)
    place.predict(prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))).refused()
    assert place.joints.read_text() == OLD_JOINTS
    place.nothing_left()


@fault(ROOM, "few files may be open")
def few_files(place: Place):
    place.predict(prepare=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))).well()
    place.same()


@fault(ROOM, "no memory")
def no_memory(place: Place):
    def limit():
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 2**20, now + 2**20))

    place.joints.write_text(OLD_JOINTS)
    place.predict(prepare=limit).refused("memory")
    assert place.joints.read_text() == OLD_JOINTS


def as_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def for_nobody(place: Place, mode: int) -> None:
    """Let another user reach the folder, with these permissions for it."""
    if os.getuid():
        raise CannotTry("another user needs root")
    for folder in (home(), place.folder.parent):
        folder.chmod(0o755)
    place.folder.chmod(mode)


@fault(ROOM, "another user than root")
def another_user(place: Place):
    for_nobody(place, 0o777)
    place.predict(prepare=as_nobody).well()
    place.same()


@fault(ROOM, "read-only folder: joints")
def read_only_joints(place: Place):
    place.joints.write_text(OLD_JOINTS)
    for_nobody(place, 0o755)
    place.predict(prepare=as_nobody).refused("joints.csv", "Permission denied")
    assert place.joints.read_text() == OLD_JOINTS


@fault(ROOM, "read-only folder: a refinement")
def read_only_refinement(place: Place):
    for_nobody(place, 0o755)
    place.refine(prepare=as_nobody).refused("me", "Permission denied")


@fault(ROOM, "frames that may not be read")
def unreadable(place: Place):
    for_nobody(place, 0o777)
    (place.frames / "00002.png").chmod(0)
    ended = place.predict(prepare=as_nobody)
    ended.well()
    assert "00002.png" in ended.said and "1 of 5 frames left out" in ended.said, ended.said


@fault(ROOM, "a folder of frames that may not be read")
def unreadable_folder(place: Place):
    for_nobody(place, 0o777)
    (place.frames / "more").mkdir()
    (place.frames / "more").chmod(0)
    ended = place.predict(prepare=as_nobody)
    assert "more" in ended.said, f"a folder is skipped without a word: {ended.said}"


@fault(ROOM, "checkout, HOME and TMPDIR cannot be written")
def read_only_checkout(place: Place):
    with mounted(place.folder / "checkout", "--bind", str(paths.ROOT)) as checkout:
        if subprocess.run(["mount", "-o", "remount,bind,ro", checkout], capture_output=True).returncode:
            raise CannotTry("mounts need root")
        nowhere = {name: "/proc/none" for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
        environment = {"PYTHONPATH": str(checkout), "NUMBA_CACHE_DIR": None} | nowhere
        words = ("--no-fit", "--out", place.joints)  # few kernels: no compiled ones can be kept
        ended = place.fresh("predict", place.frames, *CAMERA, *words, **environment)
    ended.well()
    place.predict("--no-fit", "--out", place.folder / "usual.csv").well()
    assert place.joints.read_bytes() == (place.folder / "usual.csv").read_bytes(), "the joints are others"


@fault(ROOM, "a path with spaces and umlauts")
def umlauts(place: Place):
    odd = place.folder / "Meine Hände" / "Übung 1 (neu) & Co"
    shutil.move(place.frames, odd)
    place.frames, place.joints = odd, odd.parent / "Gelenke à la carte.csv"
    place.predict().well()
    place.same()


@fault(ROOM, "LANG=C, and umlauts in names")
def plain_c(place: Place):
    odd = place.folder / "Hände"
    shutil.move(place.frames, odd)
    environment = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None}
    place.fresh("predict", odd, *CAMERA, "--out", place.joints, **environment).well()
    place.same()


@fault(ROOM, "no network")
def no_network(place: Place):
    def cut_off():
        os.environ.pop(paths.MIRROR_VARIABLE, None)
        if program_library().unshare(0x40000000):  # CLONE_NEWNET
            os._exit(77)

    ended = place.predict(prepare=cut_off)
    if ended.status == 77:
        raise CannotTry("cutting off the network needs root")
    ended.well()
    place.same()
    place.run("fetch", "published", "--out", place.folder / "data", prepare=cut_off).refused(
        "cannot fetch", "run it again"
    )
    place.nothing_left()


def program_library():
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


# -- as on Windows and macOS ----------------------------------------------------------------------------------------------

ELSEWHERE = "as on Windows and macOS"


@fault(ELSEWHERE, "no locks, no fork, no HUP signal, no pipes without waiting")
def as_on_windows(place: Place):
    def without():
        files.fcntl = None
        for where, name in ((os, "fork"), (os, "O_NONBLOCK"), (os, "O_NOFOLLOW"), (signal, "SIGHUP")):
            delattr(where, name)

    place.predict(prepare=without).well()
    place.same()
    place.nothing_left()


@fault(ELSEWHERE, "console of code page 1252, names beyond it")
def narrow_console(place: Place):
    (place.frames / "00001.png").write_bytes(b"none")
    (place.frames / "00001.png").rename(place.frames / "手 ✋.png")

    def narrow():
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding="cp1252")

    ended = place.predict(prepare=narrow)
    ended.well()
    assert "1 of 5 frames left out" in ended.said, ended.said


@fault(ELSEWHERE, "processes are spawned, not forked")
def spawned(place: Place):
    environment = {"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
    for path in list(place.frames.iterdir()):
        for i in range(20):
            shutil.copy(path, place.frames / f"{i:02d}_{path.name}")
    place.fresh("predict", place.frames, *CAMERA, "--no-fit", "--out", place.joints, **environment).well()
    assert len(place.joints.read_text().splitlines()) == 1 + 21 * COUNT * 21


@fault(ELSEWHERE, "endings in capital letters")
def capitals(place: Place):
    for path in list(place.frames.iterdir()):
        path.rename(path.with_suffix(".PNG"))
    place.predict().well()
    assert place.joints.read_bytes() == good_joints().replace(b".png", b".PNG")


# -- outputs --------------------------------------------------------------------------------------------------------------

OUTPUTS = "outputs"


@fault(OUTPUTS, "a device")
def to_device(place: Place):
    node = place.folder / "device.csv"
    try:
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError as error:
        raise CannotTry("making a device needs root") from error
    place.predict("--out", node).refused("device")
    assert stat.S_ISCHR(node.lstat().st_mode)


@fault(OUTPUTS, "a pipe")
def to_pipe(place: Place):
    os.mkfifo(place.joints)
    place.predict().refused("pipe")
    assert stat.S_ISFIFO(place.joints.lstat().st_mode)


@fault(OUTPUTS, "a link, and a mode of 600")
def to_link(place: Place):
    target = place.folder / "target.csv"
    target.write_text(OLD_JOINTS)
    target.chmod(0o600)
    place.joints.symlink_to(target)
    place.predict().well()
    assert place.joints.is_symlink() and stat.S_IMODE(target.stat().st_mode) == 0o600
    place.same(target)


@fault(OUTPUTS, "a folder")
def to_folder(place: Place):
    place.joints.mkdir()
    place.predict().refused("folder")


@fault(OUTPUTS, "two processes of one number on one host write one file")
def one_number(place: Place):
    both = [place.begin("predict", place.frames, *CAMERA, "--out", place.joints, prepare=alike) for _ in range(2)]
    for child in both:
        place.end(*child).well()
    place.same()
    place.nothing_left()


def alike():
    os.getpid = lambda: 2
    socket.gethostname = lambda: "container"


@fault(OUTPUTS, "two refinements of other settings in one folder at once")
def two_refinements(place: Place):
    first = place.begin_refine()
    while not (place.folder / "me").exists():
        time.sleep(0.01)
    time.sleep(0.5)
    place.refine("--seed", 1).refused("another run is writing")
    place.end(*first).well()
    place.refine("--seed", 1).refused("other settings")
    assert (place.folder / "me" / "report.html").read_text().rstrip().endswith("</html>")


@fault(OUTPUTS, "files that a killed process left behind")
def orphans(place: Place):
    for i in range(3):
        (place.folder / f".joints.csv.host-{i}-abc.partial").write_bytes(b"x" * 1000)
    place.predict().well()
    place.nothing_left()


# -- frames ---------------------------------------------------------------------------------------------------------------

FRAMES = "frames"


def left_out(place: Place, content: bytes, name: str, reason: str) -> None:
    """A file among the frames must cost no other one."""
    (place.frames / name).write_bytes(content)
    ended = place.predict()
    ended.well()
    assert f"1 of {COUNT + 1} frames left out" in ended.said and reason in ended.said, ended.said
    place.same()


def chunk(kind: bytes, content: bytes) -> bytes:
    import zlib

    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


@fault(FRAMES, "20,000 x 20,000 pixels in a header: PNG")
def giant_png(place: Place):
    size = (20000).to_bytes(4, "big") * 2 + bytes([16, 0, 0, 0, 0])
    left_out(place, b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"x\x9c"), "9.png", "pixels")


@fault(FRAMES, "10^12 numbers in a header: npy")
def giant_npy(place: Place):
    header = b"{'descr': '<u2', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    header += b" " * (117 - len(header)) + b"\n"
    left_out(place, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header, "9.npy", "9.npy")


@fault(FRAMES, "PostScript that ends in .png")
def postscript(place: Place):
    made = place.folder / "made by PostScript"
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 120 160\n({made}) (w) file closefile\nshowpage\n"
    left_out(place, program.encode(), "9.png", "9.png")
    assert not made.exists()


@fault(FRAMES, "a frame cut off in its middle")
def cut_off_frame(place: Place):
    whole = next(place.frames.iterdir()).read_bytes()
    left_out(place, whole[: len(whole) // 2], "9.png", "9.png")


@fault(FRAMES, "a damaged stream in a .npz")
def damaged_stream(place: Place):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, depth=np.full((120, 160), 500, np.uint16))
    content = bytearray(buffer.getvalue())
    content[60:70] = bytes(10)
    left_out(place, bytes(content), "9.npz", "9.npz")


@fault(FRAMES, "pipes, sockets and loops of links among them")
def pipe_among_frames(place: Place):
    os.mkfifo(place.frames / "9.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(place.frames / "8.png"))
    (place.frames / "7.png").symlink_to(place.frames / "7.png")
    (place.frames / "again").symlink_to(place.frames)
    place.predict().well()
    place.same()


@fault(FRAMES, "names that act on a terminal, with $, line breaks and odd bytes: report and video too")
def odd_names(place: Place):
    for path, name in zip(
        sorted(place.frames.iterdir()), (b"a\x1b[2Jb", b"$HOME `x`", b"c\nd", b"\xff\xfe", b"<b>&"), strict=True
    ):
        path.rename(os.fsdecode(os.fsencode(place.frames) + b"/" + name + b".png"))
    (place.frames / "\x1b[31mz.png").write_bytes(b"none")
    ended = place.refine()
    ended.well()
    assert "\x1b[2J" not in ended.said and "\x1b[31m" not in ended.said, repr(ended.said)
    for name in ("report.html", "joints.csv", "joints.json", "tracked.mp4"):
        assert (place.folder / "me" / name).stat().st_size > 0, f"no {name}"


@fault(FRAMES, "other settings of the camera: nan, 0, negative, words")
def nonsense_camera(place: Place):
    for numbers in (("nan", "100"), ("0", "100"), ("-100", "100"), ("inf", "100"), ("1e400", "100")):
        place.run("predict", place.frames, "--camera", *numbers, "--unit-mm", 1, "--out", place.joints).refused()
    for unit in ("nan", "0", "-1", "inf"):
        place.run("predict", place.frames, "--camera", 100, 100, "--unit-mm", unit, "--out", place.joints).refused()
    assert not place.joints.exists()


# -- models and states ----------------------------------------------------------------------------------------------------

MODELS = "models and states"


def with_tensors(content: bytes, change: Callable[[dict, dict], None]) -> bytes:
    """A checkpoint with other tensors or metadata, without its digest, which would tell of any change."""
    meta = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    meta.pop(DIGEST, None)
    tensors = load(content)
    change(tensors, meta)
    return save(tensors, meta)


def spoil(value: float | None, tensors: dict, meta: dict) -> None:
    name = max(tensors, key=lambda key: tensors[key].numel())
    tensors[name] = tensors[name] * 1e6 if value is None else torch.full_like(tensors[name], value)


def refuses_model(place: Place, content: bytes, *words: str) -> None:
    model = place.folder / "net.safetensors"
    model.write_bytes(content)
    place.predict("--model", model).refused("net.safetensors", *words)
    place.run("export", "--model", model, "--out", place.folder / "net.onnx").refused("net.safetensors", *words)
    assert not place.joints.exists() and not (place.folder / "net.onnx").exists()


for _name, _value in (("NaN", float("nan")), ("infinite", float("inf")), ("a million times too large", None)):

    @fault(MODELS, f"weights are {_name}")
    def bad_weights(place: Place, value=_value):
        refuses_model(place, with_tensors(small_model(), partial(spoil, value)))


@fault(MODELS, "a flipped bit in the weights")
def flipped_bit(place: Place):
    content = bytearray(small_model())
    content[-len(content) // 3] ^= 4
    refuses_model(place, bytes(content), "SHA-256")


@fault(MODELS, "a model cut off")
def cut_off_model(place: Place):
    refuses_model(place, small_model()[:-1000])


@fault(MODELS, "metadata that is a list")
def listed_metadata(place: Place):
    def change(tensors: dict, meta: dict):
        for key in meta:
            meta[key] = "[1, 2]"

    refuses_model(place, with_tensors(small_model(), change))


@fault(MODELS, "a state of random bytes")
def random_state(place: Place):
    (place.folder / "me").mkdir()
    (place.folder / "me" / "state.pt").write_bytes(np.random.default_rng(0).bytes(10000))
    place.refine().refused("state.pt")


@fault(MODELS, "a state that would run code")
def pickled_state(place: Place):
    import pickle

    made = place.folder / "made"

    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(made),)

    (place.folder / "me").mkdir()
    (place.folder / "me" / "state.pt").write_bytes(pickle.dumps(Runs()))
    place.refine().refused("state.pt")
    assert not made.exists()


# -- stops and caches -----------------------------------------------------------------------------------------------------

STOPS = "stops and caches"


@fault(STOPS, "going on with the frames in another order")
def other_order(place: Place):
    stopped(place, signal.SIGTERM)
    names = sorted(place.frames.iterdir())
    names[0].rename(place.frames / "x.png")
    names[-1].rename(names[0])
    (place.frames / "x.png").rename(names[-1])
    again = place.run("refine", place.frames, *CAMERA, *LEARNING, "--out", place.folder / "me")
    again.refused("other frames")


def stopped(place: Place, number: int) -> Ended:
    """A refinement that has begun to learn and is stopped then."""
    child, said = place.begin("refine", place.frames, *CAMERA, *LEARNING, "--out", place.folder / "me")
    until = time.monotonic() + LONGEST_S
    while not re.search(r"[1-9]\d*/\d+", said.read_text(errors="replace").rpartition("refine")[2]):
        assert time.monotonic() < until and not os.waitpid(child, os.WNOHANG)[0], said.read_text()
        time.sleep(0.02)
    os.kill(child, number)
    ended = place.end(child, said)
    assert "Traceback" not in ended.said, ended.said
    assert ended.status in (128 + number, -number), f"status {ended.status}: {ended.said}"
    return ended


LEARNING = ("--recipe", "paper", "--epochs", 60, "--anyway")


for _number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):

    @fault(STOPS, f"{_number.name} while a refinement learns")
    def stopped_while_learning(place: Place, number=_number):
        assert "goes on from" in stopped(place, number).said
        assert (place.folder / "me" / "state.pt").exists(), "what was learnt is lost"
        place.nothing_left()


@fault(STOPS, "emptied files in the cache of compiled code")
def emptied_cache(place: Place):
    kept = place.folder / "cache"
    words = ("predict", place.frames, *CAMERA, "--no-fit", "--out", place.joints)  # few kernels: they compile twice
    place.fresh(*words, NUMBA_CACHE_DIR=str(kept)).well()
    before = place.joints.read_bytes()
    spoilt = [path for path in kept.rglob("*.nb*")]
    assert spoilt, "nothing was kept"
    for path in spoilt:
        path.write_bytes(b"")
    place.fresh(*words, NUMBA_CACHE_DIR=str(kept)).well()
    assert place.joints.read_bytes() == before, "the joints are others"


# -- the table ------------------------------------------------------------------------------------------------------------


def outcome(attempt: Callable[[Place], None]) -> dict:
    """Whether a fault could be tried, and what was lost."""
    with TemporaryDirectory(prefix="fault-") as folder:
        (inner := Path(folder) / "here").mkdir()
        try:
            attempt(Place(inner))
        except CannotTry as error:
            return {"tried": 0, "survived": 0, "lost": [], "why": str(error)}
        except Exception as error:
            return {"tried": 1, "survived": 0, "lost": [f"{type(error).__name__}: {error}"[-600:]]}
        finally:
            for path in inner.rglob("*"):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o755)
    return {"tried": 1, "survived": 1, "lost": []}


def outcomes(chosen: list[tuple[str, str]], together: int) -> Iterator[tuple[str, str, dict]]:
    """Group, name and outcome of each fault, `together` at once, in the order in which they end."""
    good_joints()
    small_model()
    waiting, running = list(chosen), {}
    while waiting or running:
        while waiting and len(running) < together:
            group, name = waiting.pop(0)
            row = home() / f"row{len(waiting)}.json"
            if not (child := os.fork()):
                try:
                    row.write_text(json.dumps(outcome(FAULTS[group][name])))
                except BaseException:
                    traceback.print_exc()
                finally:  # whatever happens, it must not go on as a second parent
                    os._exit(0)
            running[child] = group, name, row
        child, status = os.wait()
        group, name, row = running.pop(child)
        if not row.exists():
            died = f"the process that tried it ended with {os.waitstatus_to_exitcode(status)} and no outcome"
            yield group, name, {"tried": 1, "survived": 0, "lost": [died]}
            continue
        yield group, name, json.loads(row.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="words of a fault's group or name")
    parser.add_argument("--together", type=int, default=2, help="faults at once")
    parser.add_argument("--out", type=Path, default=paths.BENCHMARKS / "faults.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numba.set_num_threads(1)  # children of a process that had threads may wait for those
    # fits in another number of threads add up in another order
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    chosen = [(group, name) for group in FAULTS for name in FAULTS[group] if arguments.only in f"{group}: {name}"]
    groups: dict[str, dict] = {group: {} for group, _ in chosen}
    for group, name, row in tqdm(outcomes(chosen, arguments.together), "faults", len(chosen)):
        groups[group][name] = row
        for text in row["lost"]:
            tqdm.write(f"LOST {name}: {text}")
    rows = [row for group in groups.values() for row in group.values()]
    counts = survival.counted(rows)
    if not arguments.only:
        made = results.provenance({}, 0, {"hand": paths.HAND_ASSET, "base model": paths.BASE_MODEL})
        survival.write(arguments.out, "faults", counts, {"groups": groups}, made)
    print(f"tried {counts['tried']} of {len(rows)}, survived {counts['survived']}, lost {counts['lost']}")
    return int(counts["lost"] > 0)


if __name__ == "__main__":
    sys.exit(main())
