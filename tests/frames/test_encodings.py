"""Depth packed into colours: each encoding on a surface with carries, and messages that name the right one."""

import struct
import zlib
from colorsys import hsv_to_rgb

import numpy as np
import pytest
from PIL import Image

from hrlib.frames.camera import Camera
from hrlib.frames.encodings import ENCODINGS, PACKED, fitting
from hrlib.frames.folder import DepthFolder, read_depth
from hrlib.personal.folder import UserFolder


def surface(scale=1.0):
    """Counts [60, 80] of a ball 4 to 6 thousand counts away, before nothing."""
    v, u = np.mgrid[:60, :80]
    r = ((u - 40) ** 2 + (v - 30) ** 2) / 28.0**2
    noise = np.random.default_rng(0).integers(-3, 4, (60, 80))
    return np.where(r < 1, ((4000 + 2000 * r + noise) * scale).astype(int), 0).astype(np.uint32)


def packed(counts, encoding, other=0):
    """As another program would write it: byte by byte."""
    order = {"nyu": "BG"}.get(encoding, encoding[: 3 if encoding.endswith("24") else 2].upper())
    image = np.full((*counts.shape, 3), other, np.uint8)
    for byte, channel in enumerate(order):
        image[..., "RGB".index(channel)] = counts >> (8 * byte) & 255
    return image


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_each_encoding_reads_what_was_packed(tmp_path, encoding, suffix):
    counts = surface(26 if encoding.endswith("24") else 1)  # which passes 2 x 65536, 20 m from the camera at most
    path = save(tmp_path / f"a.{suffix}", packed(counts, encoding))
    np.testing.assert_array_equal(read_depth(path, 0.125, encoding), counts * np.float32(0.125))
    with pytest.raises(ValueError, match=rf"a.{suffix}: a colour image; its channels fit .*: --encoding {encoding} "):
        read_depth(path)
    rgba = save(tmp_path / "b.png", np.dstack([packed(counts, encoding), np.full(counts.shape, 255, np.uint8)]))
    np.testing.assert_array_equal(read_depth(rgba, 1.0, encoding), counts)
    (frame,) = UserFolder(path, (100.0, 100.0), 0.125, encoding=encoding).frames()
    assert np.array_equal(frame.depth_mm, counts * np.float32(0.125)), "as the commands read it"


@pytest.mark.parametrize(
    "said, true",
    [("nyu", "rg"), ("rg", "nyu"), ("gr", "rg"), ("nyu", "gr"), ("rg", "gr"), ("nyu", "gb"), ("rgb24", "gb")],
)
def test_a_wrong_encoding_is_refused_and_the_right_one_named(tmp_path, said, true):
    path = save(tmp_path / "a.png", packed(surface(), true))
    with pytest.raises(
        ValueError, match=rf"a.png: encoding {said} is .*: --encoding {true} \(in Python encoding='{true}'\)"
    ):
        read_depth(path, 1.0, said)


def test_a_constant_low_channel_is_refused(tmp_path):
    path = save(tmp_path / "a.png", packed(surface() & 0xFF00, "nyu", other=7))
    with pytest.raises(ValueError, match="a.png: encoding nyu is B . 256 G, but B is 0 everywhere"):
        read_depth(path, 1.0, "nyu")
    empty = save(tmp_path / "b.png", np.zeros((60, 80, 3), np.uint8))
    assert not read_depth(empty, 1.0, "nyu").any(), "a frame without a measurement is one all the same"


def test_pictures_are_packed_in_no_way(tmp_path):
    v, u = np.mgrid[:60, :80]
    grey = (u * 3 % 256).astype(np.uint8)
    rainbow = np.stack([u + 100, 200 - v, u + v], -1).astype(np.uint8)
    for name, pixels, message in (
        ("grey", np.repeat(grey[..., None], 3, -1), "an 8-bit grey image saved in colour"),
        (
            "rainbow",
            rainbow,
            r"a colour image; export depth as 16-bit grey PNG, or say with --encoding .*nyu \(B . 256 G\)",
        ),
    ):
        with pytest.raises(ValueError, match=f"{name}.png: {message}"):
            read_depth(save(tmp_path / f"{name}.png", pixels))
    noise = np.random.default_rng(1).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    assert fitting(rainbow) is None and fitting(noise) is None
    hues = np.stack(np.vectorize(hsv_to_rgb)((u + v) / 200, 1.0, 1.0), -1) * 255
    with pytest.raises(ValueError, match="hues.png: a colour image; it shows depth as hues .*, whose counts are lost"):
        read_depth(save(tmp_path / "hues.png", hues.astype(np.uint8)))
    for encoding in PACKED:
        with pytest.raises(
            ValueError, match=f"rainbow.png: encoding {encoding} is .*, which does not fit its channels; export"
        ):
            read_depth(tmp_path / "rainbow.png", 1.0, encoding)
    with pytest.raises(
        ValueError, match="c.png: encoding rg wants colours, got one channel of uint16; leave --encoding out"
    ):
        read_depth(save(tmp_path / "c.png", surface().astype(np.uint16)), encoding="rg")


def test_grey_with_transparency_may_be_low_and_high_bytes(tmp_path):
    low, high = (surface() & 255).astype(np.uint8), (surface() >> 8).astype(np.uint8)
    v, u = np.mgrid[:60, :80]
    for name, pair, message in (
        ("low", (low, high), "its two bytes a pixel are a count, grey . 256 alpha; save that"),
        ("high", (high, low), "its two bytes a pixel are a count, alpha . 256 grey; save that"),
        ("picture", (u.astype(np.uint8), v.astype(np.uint8)), "if they are the low and the high byte"),
        ("opaque", (low, np.full_like(low, 255)), "8-bit grey image saved in colour"),
    ):
        with pytest.raises(ValueError, match=rf"{name}.png: .*{message}"):
            read_depth(save(tmp_path / f"{name}.png", np.stack(pair, -1)))


def test_colours_of_sixteen_bits_would_lose_half_of_them(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    counts = np.repeat(surface().astype(">u2")[..., None], 3, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in counts)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 80, 60, 16, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    with pytest.raises(ValueError, match="a.png: a colour image of 16 bits, of which 8 can be read; save one channel"):
        read_depth(tmp_path / "a.png")


def test_the_option_has_the_encodings_that_there_are():
    import typing

    assert typing.get_args(typing.get_type_hints(UserFolder)["encoding"]) == ENCODINGS


@pytest.mark.mirror
def test_the_frame_of_nyu_fits_its_own_encoding(mirror):
    path = mirror / "nyu_frame" / "depth_1_0000001.png"
    assert fitting(np.asarray(Image.open(path))) == "nyu"
    assert DepthFolder(path.parent, Camera(588.03, 587.07, 320, 240), encoding="nyu")[0].depth_mm.max() > 1000
    with pytest.raises(ValueError, match="--encoding nyu"):
        read_depth(path)
