"""Which files are frames, in which order, and which mask belongs to which frame."""

import numpy as np
import pytest

from hrlib.frames.listing import Companions, frames_at, in_order, shown_twice


@pytest.mark.parametrize(
    "names",
    [
        ["frame_1.png", "frame_2.png", "frame_10.png"],
        ["0.25.png", "0.5.png", "2.png", "12.75.png", "100.0.png"],
        ["t0.5s.npy", "t0.75s.npy", "t12.5s.npy"],
        ["1629.123456788.png", "1629.123456789.png", "1630.000000001.png"],  # beyond what a double holds
        ["take1.8.png", "take1.9.png", "take1.10.png", "take1.11.png"],  # counts: no fraction ends in 0
        ["1.2.9.png", "1.2.10.png", "1.10.1.png"],
        ["a/10.png", "a b/1.png", "b.npy"],
        ["9/10.png", "10/9.png"],
        ["IMG_2.png", "img_10.png"],
        ["seq:009", "seq:010"],
    ],
)
def test_order_of_numbers(names):
    assert in_order(reversed(names)) == (names, []) and in_order(names) == (names, [])


def test_equal_numbers_are_named_and_always_in_one_order():
    names = ["frame_02.png", "frame_2.png", "frame_3.png"]
    assert in_order(names) == in_order(names[::-1]) == (names, [("frame_02.png", "frame_2.png")])
    assert in_order(["a/0.5.png", "a/0.50.png"])[1] == [], "which are counts, 5 and 50"
    assert in_order(["1.png", "1.npy"])[1] == [], "two files of one frame"
    assert in_order(["frame_2.PNG", "frame_02.png"])[1] == [("frame_02.png", "frame_2.PNG")], "an ending in any case"


def files(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_what_systems_put_beside_frames_is_none(tmp_path):
    files(
        tmp_path,
        "a/1.png",
        ".ipynb_checkpoints/1-checkpoint.png",
        "__MACOSX/a/1.png",
        "a/._1.png",
        "@eaDir/1.png",
        "a/x.txt",
    )
    assert list(frames_at(tmp_path)) == ["a/1.png"]


def test_links_come_last_and_lead_nowhere_twice(tmp_path):
    files(tmp_path, "frames/b/1.png", "other/2.png")
    (tmp_path / "frames/a").symlink_to("b")
    (tmp_path / "frames/z").symlink_to("../other")
    (tmp_path / "other/back").symlink_to("../frames")
    (tmp_path / "other/self").symlink_to(".")
    assert sorted(frames_at(tmp_path / "frames")) == ["b/1.png", "z/2.png"]


@pytest.mark.parametrize(
    "frame, mask",
    [
        ("1629.123456.png", "1629.123456.png"),
        ("rec.0.png", "rec.0.jpg"),
        ("a/b.c/40.npy", "a/b.c/40.bmp"),
        ("Frame_1.PNG", "frame_1.Jpeg"),
        ("ha\u0308nd.png", "h\u00e4nd.webp"),  # macOS takes letters apart
        ("40.tif", "40.tiff"),
    ],
)
def test_a_companion_has_the_stem_in_any_case_with_any_ending(tmp_path, frame, mask):
    files(tmp_path, mask, "1629.png", "rec.png", "rec.1.png", "400.png")
    assert Companions(tmp_path).of(frame).path == tmp_path / mask


@pytest.mark.parametrize(
    "frame, mask",
    [
        ("40.png", "40_mask.png"),
        ("depth_40.png", "mask_40.png"),
        ("frame-000040.depth.png", "frame-000040.color.jpg"),
        ("40.png", "40.png.png"),
        ("take/depth/40.png", "take/Masks/40.png"),
        ("depth_1_0000040.png", "rgb_1_0000040.png"),
        ("aligned_depth_to_color_000040.png", "labels_000040.npz"),  # DexYCB
        ("take_depth_aligned_40.png", "take_gt_40.png"),
        ("40.png", "40_segmask.png"),
        ("40.png", "40_alpha.png"),
    ],
)
def test_words_that_say_what_an_image_shows_do_not_count(tmp_path, frame, mask):
    files(tmp_path, mask, "41_mask.png", "take/masks/41.png", "mask.png", "handful_40.png")
    assert Companions(tmp_path).of(frame).path == tmp_path / mask
    files(tmp_path, frame)
    assert Companions(tmp_path).of(frame, own=tmp_path / frame).path == tmp_path / mask, "beside each other"


def test_zeros_before_numbers_count_last(tmp_path):
    for name in ("7.png", "008.png", "8.png", "take_3_40.png", "1.05.png"):
        (tmp_path / name).touch()
    companions = Companions(tmp_path)
    found = {frame: companions.of(frame).path.name for frame in ("0007.png", "8.png", "depth_take_03_0040.npy")}
    assert found == {"0007.png": "7.png", "8.png": "8.png", "depth_take_03_0040.npy": "take_3_40.png"}
    for frame, message in (("0008.png", "both belong"), ("1.5.png", "is missing"), ("70.png", "is missing")):
        with pytest.raises(ValueError, match=message):
            companions.of(frame)


@pytest.mark.parametrize(
    "twice, folders",
    [
        (True, ("depth/{}.png", "depth_aligned/{}.png")),
        (True, ("a/depth_raw/{}.png", "a/aligned_depth_to_color/{}.png")),
        (True, ("depth_{}.png", "depth_{}_registered.png")),
        (False, ("depth_1/{}.png", "depth_2/{}.png")),
        (False, ("left/depth/{}.png", "right/depth/{}.png")),
        (False, ("one/{}.png", "two/{}.png")),
        (False, ("synthdepth_{}.png", "depth_{}.png")),
        (False, ("{}.png", "0{}.png")),
    ],
)
def test_one_frame_in_two_versions_is_noticed(twice, folders):
    names = [folder.format(number) for folder in folders for number in range(4)]
    assert shown_twice(names) == [folder.format(0) for folder in folders] * twice
    assert shown_twice([*names, *(f"more/{number}.png" for number in range(9))]) == [], "most are there once"


def test_a_companion_that_is_missing_or_not_the_only_one(tmp_path):
    files(tmp_path, "rec.png", "1.png", "1.jpg", "2.PNG", "2.png", "A.png", "a.jpg")
    companions = Companions(tmp_path)
    with pytest.raises(ValueError, match=r"rec.0.png is missing: .*, whose first image is '"):
        companions.of("rec.0.png")
    with pytest.raises(ValueError, match=r"1.(png|jpg) and .*1.(png|jpg) both belong to the frame 1.npy; move one"):
        companions.of("1.npy")
    assert companions.of("1.jpg", own=tmp_path / "1.jpg").path.name == "1.png", "of two in one folder, the other one"
    assert companions.of("rec.png", own=tmp_path / "rec.png").path.name == "rec.png", "itself, where it is alone"
    assert companions.of("A.png", own=tmp_path / "A.png").path.name == "a.jpg"
    assert companions.of("a.tif").path.name == "a.jpg", "the same case first"
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match=r"40.png is missing: .*, which is empty"):
        Companions(tmp_path / "nothing").of("40.png")
    files(tmp_path / "nothing", "40.svg")
    with pytest.raises(ValueError, match=r"40.png is missing: .*, which has no images that are read here, but .svg"):
        Companions(tmp_path / "nothing").of("40.png")


def test_masks_of_a_stack_are_a_stack(tmp_path):
    np.save(tmp_path / "seq.npy", np.zeros((3, 8, 9), np.uint8))
    place = Companions(tmp_path).of("seq:002")
    assert place.path.name == "seq.npy" and place.page == 2
    assert Companions(tmp_path / "seq.npy").of("depth:001").page == 1, "by number, where the folder is one file"
    with pytest.raises(ValueError, match="seq.npy is one file, .*; 40.png is none of them: save a folder of images"):
        Companions(tmp_path / "seq.npy").of("40.png")
