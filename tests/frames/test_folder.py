"""Readers: depth in millimetres, natural order, mirrored left hands, and errors that name the file and the remedy."""

import os

import numpy as np
import pytest
from PIL import Image

from hrlib.companion.example_frames import available_examples, real_examples, simulated_examples
from hrlib.datasets.fetch import dataset_folder
from hrlib.datasets.fingerspelling import FINGER_STATES, FOCAL_PX, LETTERS, Fingerspelling, letter_of
from hrlib.frames.camera import Camera
from hrlib.frames.folder import DepthFolder, mirrored, read_depth
from hrlib.frames.frame import Frame, Truth

CAMERA = Camera(500.0, 510.0, 20.0, 14.0)


def save_png(path, counts, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(counts, mode).save(path) if mode else Image.fromarray(counts).save(path)
    return path


def ramp(height=30, width=40):
    return (np.arange(height * width, dtype=np.uint16) * 7 + 300).reshape(height, width)


# -- files ----------------------------------------------------------------------------------------------------------------


def test_sixteen_bit_png_and_npy_in_their_units(tmp_path):
    counts = ramp()
    for unit_mm in (1.0, 0.125):
        depth = read_depth(save_png(tmp_path / "a.png", counts), unit_mm)
        assert depth.dtype == np.float32
        np.testing.assert_allclose(depth, counts * unit_mm)
    np.save(tmp_path / "metres.npy", counts / 1000)
    np.testing.assert_allclose(read_depth(tmp_path / "metres.npy", 1000.0), counts, rtol=1e-6)


def test_an_eight_bit_png_has_lost_its_depth(tmp_path):
    path = save_png(tmp_path / "grey.png", (ramp() % 256).astype(np.uint8))
    with pytest.raises(ValueError, match=r"grey.png: 8-bit: depth was probably lost .*; export it as 16-bit PNG"):
        read_depth(path)


def test_a_corrupt_png_is_named(tmp_path):
    whole = save_png(tmp_path / "a.png", ramp()).read_bytes()
    for name, content in (("cut.png", whole[: len(whole) // 2]), ("text.png", b"no picture")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: cannot be read as a PNG .*copy it again, or remove it"):
            read_depth(tmp_path / name)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((2, 3, 5)), r"wanted an image \[H, W\] or a stack \[T, H, W\] of them, got shape \(2, 3, 5\)"),
        (np.zeros((20, 30, 3), np.float32), r"wanted one channel, got shape \(20, 30, 3\) of float32"),
        (np.zeros(7), r"wanted an image .* got shape \(7,\)"),
        (np.array([["a"]]), "wanted numbers, got dtype <U1"),
        (np.ones((2, 2), bool), "wanted numbers, got dtype bool"),
    ],
)
def test_npy_that_is_no_depth_image(array, message, tmp_path):
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(ValueError, match="bad.npy: " + message):
        read_depth(tmp_path / "bad.npy")


NOTHING = [np.nan, np.inf, -np.inf, -3.0, 0.0]


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", ">f8", "<i4", ">i2", ">u2", "<u8"])
def test_arrays_of_any_numbers_and_what_is_no_measurement(tmp_path, dtype):
    depth = np.arange(300, 340, dtype=dtype).reshape(5, 8)
    unmeasured = [x for x in NOTHING if np.dtype(dtype).kind == "f" or (np.isfinite(x) and (x >= 0 or dtype[1] == "i"))]
    depth[0, : len(unmeasured)] = unmeasured
    wanted = depth.astype(float)
    wanted[0, : len(unmeasured)] = 0
    for name, array in {
        "plain": depth,
        "channel": depth[..., None],
        "first": depth[None],
        "columns": np.asfortranarray(depth),
    }.items():
        np.save(tmp_path / f"{name}.npy", array)
        np.testing.assert_array_equal(read_depth(tmp_path / f"{name}.npy"), wanted)
    np.savez(tmp_path / "one.npz", anything=depth[..., None])
    np.savez_compressed(tmp_path / "several.npz", K=np.eye(3), Depth=depth)
    assert [f.name for f in DepthFolder(tmp_path, (100.0, 100.0))][-2:] == ["plain.npy", "several.npz"]
    for name in ("one", "several"):
        np.testing.assert_array_equal(read_depth(tmp_path / f"{name}.npz"), wanted)
    np.savez(tmp_path / "unclear.npz", a=depth, b=depth)
    with pytest.raises(ValueError, match="unclear.npz: holds a, b; wanted one array, or one named depth"):
        read_depth(tmp_path / "unclear.npz")


def test_tiff_of_16_and_32_bits(tmp_path):
    counts = ramp()
    for name, array in {
        "u16": counts,
        "u32": counts.astype(np.int32),
        "f32": counts.astype(np.float32),
    }.items():
        Image.fromarray(array).save(tmp_path / f"{name}.tif", compression="tiff_lzw" if name == "u16" else None)
        np.testing.assert_array_equal(read_depth(tmp_path / f"{name}.tif"), counts)
    metres = counts.astype(np.float32) / 1000
    metres[0, :5] = NOTHING
    Image.fromarray(metres).save(tmp_path / "m.TIFF")
    depth = read_depth(tmp_path / "m.TIFF", 1000.0)
    assert not depth[0, :5].any() and np.allclose(depth[1:], counts[1:])
    Image.fromarray((counts % 256).astype(np.uint8)).save(tmp_path / "u8.tif")
    with pytest.raises(ValueError, match="u8.tif: 8-bit"):
        read_depth(tmp_path / "u8.tif")


@pytest.mark.parametrize("most", [4095, 10000, 65535])
def test_pgm_keeps_its_counts_whatever_the_largest_may_be(tmp_path, most):
    counts = ramp() % most
    head = b"P5\n# a camera's note\n40 30\n%d\n" % most
    (tmp_path / "binary.pgm").write_bytes(head + counts.astype(">u2").tobytes())
    text = b"P2 40 30 %d\n" % most + " ".join(map(str, counts.ravel())).encode()
    (tmp_path / "text.pgm").write_bytes(text)
    for frame in DepthFolder(tmp_path, (100.0, 100.0)):
        np.testing.assert_array_equal(frame.depth_mm, counts)
    (tmp_path / "binary.pgm").write_bytes(head + b"12")
    with pytest.raises(ValueError, match="binary.pgm: cannot be read as a PGM"):
        read_depth(tmp_path / "binary.pgm")


def test_a_stack_is_a_folder(tmp_path):
    stack = np.stack([ramp() + np.uint16(k) for k in range(11)])
    np.save(tmp_path / "rows.npy", stack)
    np.save(tmp_path / "columns.npy", np.asfortranarray(stack[:2]))
    np.save(tmp_path / "channels.npy", stack[:2, None])  # [T, 1, H, W]
    np.savez_compressed(tmp_path / "packed.npz", stack[:3])
    pages = [Image.fromarray(image) for image in stack[:3]]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    frames = DepthFolder(tmp_path, CAMERA)
    assert frames.names[:3] == ["channels:000", "channels:001", "columns:000"]
    assert frames.names[-11:] == [f"rows:{k:03}" for k in range(11)] and len(frames) == 2 + 2 + 3 + 3 + 11
    for frame in frames:
        assert frame.depth_mm[0, 0] == 300 + int(frame.name[-3:]), frame.name
    np.testing.assert_array_equal(frames[-1].depth_mm, stack[10])
    alone = DepthFolder(tmp_path / "packed.npz", CAMERA)
    assert [frame.depth_mm[0, 0] for frame in alone] == [300, 301, 302]
    with pytest.raises(ValueError, match="rows.npy: wanted an image"):
        read_depth(tmp_path / "rows.npy")
    (tmp_path / "rows.npy").write_bytes((tmp_path / "rows.npy").read_bytes()[:-9])
    with pytest.raises(ValueError, match="rows.npy: cannot be read as .npy"):
        frames[-1]
    (tmp_path / "columns.tif").write_bytes((tmp_path / "pages.tif").read_bytes())
    with pytest.raises(ValueError, match="columns.* and .*columns.* hold frames of the same names; move one"):
        DepthFolder(tmp_path, CAMERA)


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_depth_along_an_axis_towards_the_viewer_is_told(tmp_path, dtype):
    depth = np.zeros((60, 80), dtype)
    depth[10:50, 20:60] = -500 - np.arange(40)
    np.save(tmp_path / "1.npy", depth)
    with pytest.raises(ValueError, match="1.npy: all depths are negative, .*; save -depth"):
        read_depth(tmp_path / "1.npy")
    np.save(tmp_path / "2.npy", np.full((60, 80), -1, dtype))  # a mark of what was not measured
    assert not read_depth(tmp_path / "2.npy").any()


def test_far_marks_are_no_measurements(tmp_path):
    counts, nothing = ramp(), np.zeros((30, 40), bool)
    nothing[3:9, 5:20] = True
    save_png(tmp_path / "0.png", np.where(nothing, 65535, counts).astype(np.uint16))
    np.save(tmp_path / "1.npy", np.where(nothing, 2**31 - 1, counts.astype(np.int32)))
    np.save(tmp_path / "2.npy", np.where(nothing, 1e6, counts))  # a simulator's far plane
    np.save(tmp_path / "3.npy", np.where(nothing, -1, counts.astype(np.int32)))
    slope = np.where(nothing, 65535, 700 + np.add.outer(20 * np.arange(30), np.arange(40)))
    low, high = slope & 255, slope >> 8
    save_png(tmp_path / "rg/4.png", np.dstack([low, high, 0 * low]).astype(np.uint8))
    for unit_mm in (1, 0.125):
        wanted = np.where(nothing, 0, counts * unit_mm)
        for path in sorted(tmp_path.glob("?.*")):
            np.testing.assert_array_equal(read_depth(path, unit_mm), wanted, err_msg=path.name)
        packed = read_depth(tmp_path / "rg/4.png", unit_mm, "rg")
        np.testing.assert_array_equal(packed, np.where(nothing, 0, slope * unit_mm))
    assert (read_depth(tmp_path / "0.png", 1000.0)[~nothing] > 1e5).all(), "a wrong unit stays to be seen"


def test_one_frame_of_another_size_costs_no_other(tmp_path):
    for k in range(6):
        save_png(tmp_path / f"{k}.png", ramp() if k else ramp(10, 12))  # a thumbnail comes first
    frames = DepthFolder(tmp_path, CAMERA)
    assert [frame.name for frame in frames[1:]] == [f"{k}.png" for k in range(1, 6)]
    with pytest.raises(ValueError, match="0.png: 12x10 px, but .*.png has 40x30"):
        frames[0]


def test_of_several_arrays_the_one_named_after_depth_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", Depth_mm=ramp(), K=np.eye(3), rgb=np.zeros((30, 40, 3), np.uint8))
    np.testing.assert_array_equal(read_depth(tmp_path / "a.npz"), ramp())
    np.savez(tmp_path / "b.npz", depth_left=ramp(), depth_right=ramp())
    with pytest.raises(ValueError, match="b.npz: holds depth_left, depth_right; wanted one array, or one named depth"):
        read_depth(tmp_path / "b.npz")


def test_npy_that_is_cut_off_or_no_npy(tmp_path):
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match=r"bad.npy: cannot be read as .npy .*save it again with numpy.save"):
        read_depth(tmp_path / "bad.npy")
    with pytest.raises(FileNotFoundError, match="missing.npy"):
        read_depth(tmp_path / "missing.npy")
    np.save(tmp_path / "list.npy", np.array([ramp(), None], dtype=object))
    with pytest.raises(ValueError, match=r"list.npy: .*an array of object and shape \(2,\).*numpy.stack\(images\)"):
        read_depth(tmp_path / "list.npy")


# -- folders --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(("b/frame_10.png", "b/frame_2.png", "a/frame_1.png", "b/.hidden.png")):
        save_png(tmp_path / name, ramp() + np.uint16(i))
    np.save(tmp_path / "c.npy", ramp())
    (tmp_path / "notes.txt").write_text("not a frame")
    return tmp_path


def test_frames_in_natural_order_from_all_folders_below(folder):
    frames = DepthFolder(folder, CAMERA)
    assert [frame.name for frame in frames] == ["a/frame_1.png", "b/frame_2.png", "b/frame_10.png", "c.npy"]
    assert len(frames) == 4 and [f.name for f in frames[1:3]] == ["b/frame_2.png", "b/frame_10.png"]
    np.testing.assert_array_equal(frames[2].depth_mm, ramp())
    assert frames[0].camera == CAMERA


def test_superscript_digits_in_names_are_no_trouble(tmp_path):
    for name in ("frame²_10.png", "frame²_9.png", "2²3.png", "10.png", "9.png"):
        save_png(tmp_path / name, ramp())
    assert DepthFolder(tmp_path, CAMERA).names == ["2²3.png", "9.png", "10.png", "frame²_9.png", "frame²_10.png"]


def test_without_a_principal_point_it_is_the_images_centre(folder):
    frame = DepthFolder(folder, (500.0, 510.0))[0]
    assert frame.camera == Camera(500.0, 510.0, 19.5, 14.5)


def test_a_left_hand_is_mirrored_with_its_camera(folder):
    right, left = DepthFolder(folder, CAMERA)[0], DepthFolder(folder, CAMERA, side="left")[0]
    np.testing.assert_array_equal(left.depth_mm, right.depth_mm[:, ::-1])
    there, back = right.camera.cloud(right.depth_mm), left.camera.cloud(left.depth_mm)
    back, there = (points[np.lexsort(points.T)] for points in (back, there * [-1, 1, 1]))
    np.testing.assert_allclose(back, there, rtol=1e-4, atol=1e-3)


def test_a_frame_with_truth_is_not_mirrored():
    truth = Truth(np.zeros((21, 3)), np.zeros((16, 4)), np.zeros(3), ramp())
    frame = Frame("f", ramp().astype(np.float32), CAMERA, None, truth)
    with pytest.raises(ValueError, match="f: a frame with known truth cannot be mirrored"):
        mirrored(frame)


def test_a_camera_is_also_its_four_numbers(folder):
    numbers = tuple(vars(CAMERA).values())
    for camera in (numbers, list(numbers), dict(zip(("fx", "fy", "cx", "cy"), numbers, strict=True))):
        assert DepthFolder(folder, camera).camera == CAMERA


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
def test_a_pipe_or_device_in_place_of_a_folder_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place, kind in ((tmp_path / "pipe", "pipe"), (os.devnull, "device")):
        with pytest.raises(ValueError, match=f"is no regular file but a {kind}"):
            DepthFolder(place, CAMERA)


def test_folders_that_cannot_be_read(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder: name the folder that holds the depth images"):
        DepthFolder(tmp_path / "nowhere", CAMERA)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no .png, .tif, .*.npz file, .*it has no file"):
        DepthFolder(tmp_path / "empty", CAMERA)
    (tmp_path / "empty/1.jp2").touch()
    (tmp_path / "empty/notes.txt").touch()
    with pytest.raises(ValueError, match="empty holds no .*it has .jp2, .txt"):
        DepthFolder(tmp_path / "empty", CAMERA)
    save_png(folder / "d_small.png", ramp(10, 12))
    frames = DepthFolder(folder, CAMERA)
    with pytest.raises(
        ValueError, match=r"d_small.png: 12x10 px, but a/frame_1.png has 40x30, and one principal point"
    ):
        frames[4]
    assert DepthFolder(folder, (500.0, 500.0))[4].camera.cx == 5.5, "without a principal point sizes may differ"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"camera": (500.0,)}, r"camera must be FX FY, FX FY CX CY, or the matrix"),
        ({"camera": CAMERA, "unit_mm": 0}, "unit_mm must be a finite number > 0"),
        ({"camera": CAMERA, "unit_mm": np.inf}, "unit_mm must be a finite number > 0"),
        ({"camera": CAMERA, "encoding": "rgb"}, r"encoding must be 'depth', .*, got 'rgb'"),
        ({"camera": CAMERA, "side": "both"}, "side must be 'right' or 'left', got 'both'"),
    ],
)
def test_wrong_options(options, message, folder):
    with pytest.raises(ValueError, match=message):
        DepthFolder(folder, **options)


def test_a_camera_of_nonsense():
    for values, name in (((0, 1, 0, 0), "fx"), ((1, -2, 0, 0), "fy"), ((1, 1, np.nan, 0), "cx")):
        with pytest.raises(ValueError, match=f"camera {name} must be a finite number of pixels"):
            Camera(*map(float, values))


# -- the mirror -----------------------------------------------------------------------------------------------------------


def test_a_missing_data_set_says_what_it_is_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("HRLIB_DATA_MIRROR", raising=False)
    with pytest.raises(FileNotFoundError, match=r"sr305 not found: HRLIB_DATA_MIRROR is not set, and.*licence: MIT"):
        dataset_folder("sr305")
    monkeypatch.setenv("HRLIB_DATA_MIRROR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="Set HRLIB_DATA_MIRROR to the folder that holds asl_fingerspelling/"):
        real_examples()
    (tmp_path / "sr305").mkdir()
    assert dataset_folder("sr305") == tmp_path / "sr305"
    with pytest.raises(ValueError, match="dataset must be .*, got 'imagenet'"):
        dataset_folder("imagenet")


def test_without_real_frames_the_experiments_run_on_simulated_ones(hand, monkeypatch, capsys):
    monkeypatch.delenv("HRLIB_DATA_MIRROR", raising=False)
    (examples,) = available_examples(hand, 3)
    assert examples.kind == "simulated" and len(examples) == 3 and examples.joints_mm.shape == (3, 21, 3)
    assert "simulated frames only: data set asl_fingerspelling not found" in capsys.readouterr().out


def test_simulated_examples_show_nothing_but_the_hand(hand):
    examples = simulated_examples(hand, 4)
    assert [examples.index_of(k) for k in (0, 3, 17)] == [0, 3, 0]
    points = (examples.joints_mm - examples.crops.centre_mm[:, None]) / examples.crops.cube_mm
    assert points.abs().max() < 0.6, "joints in the crop's cube"
    assert examples.true_prediction(hand).rotations.shape == (4, 16, 4)


@pytest.fixture(scope="module")
def hand():
    from hrlib.hand.rig import load_hand

    return load_hand()


@pytest.mark.mirror
def test_fingerspelling_frames():
    train, test = Fingerspelling("train"), Fingerspelling("test")
    assert (len(train), len(test)) == (3359, 288)
    assert not set(train.names) & set(test.names), "nothing is trained on that is tested on"
    assert {letter_of(name) for name in test.names} == set(LETTERS)
    frame = test[0]
    assert frame.camera.fx == FOCAL_PX and frame.truth is None and frame.mask is None
    near = frame.depth_mm[frame.depth_mm > 0].min()
    assert 500 < near < 1000, "millimetres"
    assert len(Fingerspelling("test", "ab")) == 24
    for wrong, message in ((("dev",), "split must be 'train' or 'test'"), (("test", "j"), "letters must be some of")):
        with pytest.raises(ValueError, match=message):
            Fingerspelling(*wrong)


def test_finger_states_are_those_of_the_alphabet():
    assert set(FINGER_STATES) <= set(LETTERS), "letters as the data set's folders are named"
    assert all(len(state) == 4 and set(state) <= {0, 1} for state in FINGER_STATES.values())
    # of a "b" all four fingers stand, of a fist none; "w" folds the pinky, "f" the index, "i" and "y" raise the pinky alone
    extended = {letter: sum(state) for letter, state in FINGER_STATES.items()}
    assert extended == {"a": 0, "s": 0, "d": 1, "l": 1, "i": 1, "y": 1, "u": 2, "v": 2, "f": 3, "w": 3, "b": 4}
    assert FINGER_STATES["w"][3] == FINGER_STATES["f"][0] == 0
    assert all(FINGER_STATES[letter] == (0, 0, 0, 1) for letter in "iy")
    assert all(FINGER_STATES[letter] == (1, 0, 0, 0) for letter in "dl")
    assert all(FINGER_STATES[letter] == (1, 1, 0, 0) for letter in "uv")


@pytest.mark.mirror
def test_real_examples_are_one_frame_a_letter():
    examples = real_examples(24)
    assert examples.kind == "real" and len(examples) + len(examples.left_out) == 24
    assert len(set(examples.labels)) == len(examples)
    with pytest.raises(ValueError, match="these frames are real: nobody knows their true pose"):
        examples.true_prediction(None)
