"""What others wrote: only the decoder that a name promises runs, headers are not believed, a frame never costs the others."""

import io
import json
import struct
import subprocess
import sys
import time
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from hrlib.frames.folder import DepthFolder, read_depth
from hrlib.support.decoding import read_array, read_arrays, read_image, read_table


def huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def npy_head(shape: tuple) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(64)


def test_headers_cannot_ask_for_memory(tmp_path):
    for side, reason in ((8_000, "8000 x 8000 px"), (20_000, "Image size .400000000 pixels")):
        (tmp_path / "a.png").write_bytes(huge_png(side, side))
        with pytest.raises(ValueError, match=f"a.png: cannot be read as a PNG .{reason}"):
            read_image(tmp_path / "a.png")
    (tmp_path / "a.npy").write_bytes(npy_head((10**6, 10**6)))
    with pytest.raises(ValueError, match="a.npy: cannot be read as .npy .cut short: 64 bytes"):
        read_array(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", npy_head((10**12,)))
    with pytest.raises(ValueError, match="a.npz: cannot be read as .npz .cut short"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "JPEG", "PPM"])
def test_another_format_behind_the_ending_is_not_decoded(tmp_path, kind):
    Image.new("L", (8, 8)).save(tmp_path / "a.png", kind)
    with pytest.raises(ValueError, match=r"a.png: ends in .png, but its content is that of a \.\w+; rename it"):
        read_depth(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    with pytest.raises(ValueError, match="b.png: cannot be read as a PNG"):
        read_depth(tmp_path / "b.png")


@pytest.mark.parametrize("ending", [".png", ".tif", ".npy", ".npz", ".pgm"])
def test_an_empty_file_is_told_as_such(tmp_path, ending):
    (tmp_path / f"a{ending}").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty; copy it again, or remove it"):
        read_depth(tmp_path / f"a{ending}")


def test_a_tiff_that_ends_before_its_directory_is_told_in_words(tmp_path):
    Image.fromarray(np.arange(9600, dtype=np.uint16).reshape(80, 120)).save(tmp_path / "a.tif", compression="tiff_lzw")
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-90])
    with pytest.raises(ValueError, match="a.tif: cannot be read as a TIFF .it is cut short, or something else"):
        read_depth(tmp_path / "a.tif")


def test_a_table_with_a_damaged_stream_is_named(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + b"\xff" * 40)
    with pytest.raises(ValueError, match="a.txt.gz: cannot be read as a table of numbers"):
        read_table(tmp_path / "a.txt.gz")


CHUNKS = """
import json, sys
from hrlib.frames.folder import DepthFolder
from hrlib.personal.stream import over_chunks, some_frames
frames = DepthFolder(sys.argv[1], (100.0, 100.0))
sys.stdin.readline()
names, reasons = [], {}
for part, unreadable in over_chunks(lambda frames: [frame.name for frame in frames], frames, size=3):
    names += part
    reasons |= unreadable
try:
    seen = len(some_frames(frames, 7))
except ValueError as error:
    seen = str(error)
print(json.dumps([names, reasons, seen]))
"""


def looked_through(folder, spoil):
    """What a process makes of a folder that is spoilt after it was listed; without the tests' checks, which read frames."""
    words = [sys.executable, "-c", CHUNKS, str(folder)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    time.sleep(0.1)
    spoil()
    return json.loads(process.communicate("go\n")[0])


def test_damaged_frames_are_left_out_with_their_reasons(tmp_path):
    for i in range(7):
        Image.fromarray(np.full((6, 8), 500 + i, np.uint16)).save(tmp_path / f"{i}.png")

    def spoil():
        (tmp_path / "0.png").write_bytes((tmp_path / "0.png").read_bytes()[:40])
        (tmp_path / "4.png").write_bytes(b"")

    names, reasons, seen = looked_through(tmp_path, spoil)
    assert names == ["1.png", "2.png", "3.png", "5.png", "6.png"] and set(reasons) == {"0.png", "4.png"}
    assert "copy it again" in reasons["0.png"] and seen == 5
    (tmp_path / "4.png").unlink()
    (tmp_path / "4.png").symlink_to("nothing")  # as a frame that is gone when it is its turn
    names, reasons, _ = looked_through(tmp_path, lambda: None)
    assert len(names) == 5 and "4.png is a link to nothing, which is missing; mend or remove it" in reasons["4.png"]
    for path in tmp_path.iterdir():
        path.unlink()
        path.write_bytes(b"")
    assert "0.png: is empty; copy it again" in looked_through(tmp_path, lambda: None)[2]


def test_odd_names_are_read_and_shown_without_effect(tmp_path):
    image = Image.fromarray(np.full((6, 8), 500, np.uint16))
    for name in (b"a\x1b[2J.png", b"b\nc.png", b"d$x$.png", b"e\xff.png"):
        with open(bytes(tmp_path) + b"/" + name, "wb") as file:
            image.save(file, "PNG")
    frames = [frame.name for frame in DepthFolder(tmp_path, (100.0, 100.0))]
    assert frames == ["a\\x1b[2J.png", "b\\nc.png", "d$x$.png", "e\\xff.png"]
    "".join(frames).encode()


def test_linked_folders_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "real").mkdir()
    Image.fromarray(np.full((6, 8), 500, np.uint16)).save(tmp_path / "real" / "1.png")
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "frames")
    assert DepthFolder(tmp_path / "frames", (100.0, 100.0)).names == ["link/1.png"]


@pytest.mark.parametrize("shape", [(480, 640, 300), (424, 512, 40), (120, 160, 31), (640, 480, 5), (200, 300, 7)])
def test_time_behind_the_images_is_told_with_its_remedy(tmp_path, shape):
    for ending, save in ((".npy", np.save), (".npz", np.savez_compressed)):
        save(tmp_path / f"a{ending}", np.ones(shape, np.uint8))
    frames = DepthFolder(tmp_path, (500.0, 500.0))
    assert frames.names == ["a.npy", "a.npz"]
    for name in frames.names:
        with pytest.raises(
            ValueError, match=rf"{name}: shape .* looks like \[H, W, T\].*: numpy.moveaxis\(array, -1, 0\)"
        ):
            frames[frames.names.index(name)]
    np.save(tmp_path / "a.npy", np.moveaxis(np.load(tmp_path / "a.npy"), -1, 0))
    (tmp_path / "a.npz").unlink()
    frames = DepthFolder(tmp_path, (500.0, 500.0))
    assert len(frames) == shape[2] and frames[1].depth_mm.shape == shape[:2]


def test_time_behind_the_images_of_a_tiff_is_told_too(tmp_path):
    """As programs save an array [H, W, T]: H pages of W x T px."""
    pages = [Image.fromarray(np.full((64, 9), 500, np.uint16)) for _ in range(48)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    frames = DepthFolder(tmp_path, (500.0, 500.0))
    with pytest.raises(ValueError, match=r"a.tif: shape \(48, 64, 9\) looks like \[H, W, T\]"):
        frames[0]


def test_a_stack_that_lost_a_page_s_size_is_named(tmp_path):
    pages = [Image.fromarray(np.ones((48, 64), np.float32)) for _ in range(3)]
    pages[0].save(path := tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    content = path.read_bytes()
    first = int.from_bytes(content[4:8], "little")  # of how many tags, in two bytes, and the tags, 12 bytes each
    follows = first + 2 + 12 * int.from_bytes(content[first : first + 2], "little")
    at = int.from_bytes(content[follows : follows + 4], "little")  # the second page, whose first tag is its width
    path.write_bytes(content[: at + 2] + b"\xff\xff" + content[at + 4 :])
    with pytest.raises(ValueError, match="a.tif: cannot be read as a TIFF .*; export it again"):
        read_depth(path)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_64_bits_is_told_with_its_remedy(tmp_path, order):
    image, name = np.full((6, 8), 500.0, f"{order}f8"), {"<": b"II", ">": b"MM"}[order]
    tags = (
        (256, 8),
        (257, 6),
        (258, 64),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 6),
        (279, image.nbytes),
        (339, 3),
    )
    table = struct.pack(f"{order}H", len(tags))
    table += b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)
    head = name + struct.pack(f"{order}HI", 42, 8 + image.nbytes)
    (tmp_path / "a.tiff").write_bytes(head + image.tobytes() + table)
    with pytest.raises(ValueError, match=r"a.tiff: has 64 bits a pixel; save it with 32: image.astype\('float32'\)"):
        DepthFolder(tmp_path, (500.0, 500.0))[0]


@pytest.mark.parametrize("shape", [(480, 640, 480), (7, 300, 200), (300, 480, 640), (100, 70, 90), (40, 33, 32)])
def test_time_before_the_images_stays_there(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.ones(shape, np.uint8))
    assert len(DepthFolder(tmp_path, (500.0, 500.0))) == shape[0]
