"""Readers: depth in millimetres, natural order, mirrored left hands, and errors that name the file and the remedy."""

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


def test_nyu_packs_depth_into_green_and_blue(tmp_path):
    counts = ramp()
    rgb = np.stack([np.full_like(counts, 9), counts // 256, counts % 256], -1).astype(np.uint8)
    path = save_png(tmp_path / "packed.png", rgb)
    np.testing.assert_array_equal(read_depth(path, encoding="nyu"), counts)
    with pytest.raises(ValueError, match=r'packed.png: a colour image: export depth as 16-bit .*use encoding "nyu"'):
        read_depth(path)
    with pytest.raises(
        ValueError, match=r'a.png: encoding "nyu" wants an RGB PNG, got mode I;16; use encoding "depth"'
    ):
        read_depth(save_png(tmp_path / "a.png", counts), encoding="nyu")


def test_an_eight_bit_png_has_lost_its_depth(tmp_path):
    path = save_png(tmp_path / "grey.png", (ramp() % 256).astype(np.uint8))
    with pytest.raises(
        ValueError, match=r"grey.png: 8-bit: depth was probably lost .*\(mode L\); export it as 16-bit PNG"
    ):
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
        (np.zeros((2, 3, 4)), r"wanted one image \[H, W\], got shape \(2, 3, 4\); save one file per frame"),
        (np.array([["a"]]), "wanted numbers, got dtype <U1"),
        (np.array([[1.0, np.nan]]), "holds NaN, infinite or negative values; mark missing measurements with 0"),
        (np.array([[1, -1]]), "holds NaN, infinite or negative values"),
    ],
)
def test_npy_that_is_no_depth_image(array, message, tmp_path):
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(ValueError, match="bad.npy: " + message):
        read_depth(tmp_path / "bad.npy")


def test_npy_that_is_cut_off_or_no_npy(tmp_path):
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match=r"bad.npy: cannot be read as .npy .*save it again with numpy.save"):
        read_depth(tmp_path / "bad.npy")
    with pytest.raises(FileNotFoundError, match="missing.npy"):
        read_depth(tmp_path / "missing.npy")


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


def test_folders_that_cannot_be_read(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder: name the folder that holds the depth images"):
        DepthFolder(tmp_path / "nowhere", CAMERA)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no .png and no .npy file"):
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
        ({"camera": (500.0,)}, r"camera must be a Camera or \(fx, fy\) in px"),
        ({"camera": CAMERA, "unit_mm": 0}, "unit_mm must be a number > 0"),
        ({"camera": CAMERA, "encoding": "rgb"}, r"encoding must be one of .*, got 'rgb'"),
        ({"camera": CAMERA, "side": "both"}, 'side must be "left" or "right", got \'both\''),
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
    with pytest.raises(ValueError, match="dataset must be one of .*, got 'imagenet'"):
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
    for wrong, message in ((("dev",), 'split must be "train" or "test"'), (("test", "j"), "letters must be some of")):
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
