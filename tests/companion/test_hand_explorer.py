"""The hand explorer: angles to pictures and numbers, and the widget that calls it."""

import base64
import io

import ipywidgets as widgets
import numba
import numpy as np
import pytest
import torch
from core_fixtures import build_stick_hand, template
from PIL import Image

from hrlib.companion import hand_explorer as explore
from hrlib.companion.explorer_target import fit_steps, pose_target, prediction_of, values_of
from hrlib.companion.figures.hand import rest_error_mm, slider_effects
from hrlib.companion.hand_explorer import SHAPE_PARTS, Explorer, look
from hrlib.datasets.fingerspelling import FINGER_STATES
from hrlib.drawing import mesh
from hrlib.evaluation.metrics import finger_flexion
from hrlib.hand.joints import POINT_NAMES, limits_rad
from hrlib.hand.named_poses import ANGLES, LETTERS, PRESETS, VIEW_DEG, pose, rest_angles
from hrlib.hand.rotations import euler_angles
from hrlib.refine.gauss_newton import FitSettings, fitted_poses
from hrlib.synthetic.people import USERS

SIZE = 120  # pictures of tests are small


@pytest.fixture
def explorer() -> Explorer:
    return Explorer(template(), SIZE)


def shown(explorer: Explorer) -> tuple[bytes, bytes]:
    return explorer.hand_view.bones, explorer.depth.tobytes()


def wanted(explorer: Explorer) -> np.ndarray:
    """The target's depth image, as the browser has it; an empty array where there is none."""
    return np.frombuffer(explorer.hand_view.target, np.float32).reshape(-1, 120)


# ---- the function


def test_45_angles_of_15_joints():
    assert len(ANGLES) == 45 and list(ANGLES)[:2] == ["thumb_base_flexion", "thumb_base_deviation"]
    assert {(a.joint, a.axis) for a in ANGLES.values()} == {(j, k) for j in range(1, 16) for k in range(3)}
    assert len({(a.finger, a.place, a.plain) for a in ANGLES.values()}) == 45, "the plain words tell them apart"


def test_each_angle_turns_its_own_joint_about_its_own_axis():
    for name, angle in ANGLES.items():
        found = torch.rad2deg(euler_angles(pose({name: angle.high})))[0, 1:]
        wanted = torch.zeros(15, 3, dtype=torch.float64)
        wanted[angle.joint - 1, angle.axis] = angle.high
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)  # float64, degrees up to 110


def test_the_rest_pose_is_the_mesh_as_it_was_modelled():
    assert rest_error_mm(template()) < 1e-4
    assert rest_error_mm(build_stick_hand()) < 1e-4
    inside = [ANGLES[name].low <= value <= ANGLES[name].high for name, value in rest_angles(template()).items()]
    assert all(inside)


def test_zero_view_shows_the_palm_with_fingers_up():
    seen = look(template(), pose({}), SIZE)
    points = dict(zip(POINT_NAMES, seen.step.joints_mm[0].tolist(), strict=True))
    assert points["middle_tip"][1] < points["middle_base"][1] < points["wrist"][1], "camera y is down"
    assert points["thumb_tip"][2] < points["middle_base"][2], "the thumb leans to the palm's side, near the camera"
    assert points["thumb_tip"][0] > points["pinky_tip"][0], "a right hand's palm: its thumb is on the picture's right"


@pytest.mark.parametrize("name", [*PRESETS, *LETTERS])
def test_presets_are_feasible(name):
    seen = look(template(), pose((PRESETS | LETTERS)[name]), SIZE)
    assert seen.collision_mm == 0
    assert seen.physical_rad < 1e-5  # float32: an angle on its limit is off by 1e-7
    assert (seen.step.cloud > 0).all() and (seen.step.cloud < 1).all(), "the whole hand is in the cube"


def test_presets_do_what_they_are_called():
    tips = {}
    for name, angles in PRESETS.items():
        points = look(template(), pose(angles), SIZE).step.joints_mm[0]
        tips[name] = dict(zip(POINT_NAMES, points, strict=True))
    reach = {n: [float((t[f"{f}_tip"] - t["wrist"]).norm()) for f in ("index", "middle")] for n, t in tips.items()}
    assert min(reach["open"]) > 150 and max(reach["fist"]) < 100
    assert reach["point"][0] > 150 and reach["point"][1] < 100
    assert (tips["pinch"]["thumb_tip"] - tips["pinch"]["index_tip"]).norm() < 12
    assert (tips["open"]["thumb_tip"] - tips["open"]["index_tip"]).norm() > 60


def test_letters_fold_the_fingers_that_the_alphabet_folds():
    for letter, angles in LETTERS.items():
        folded = (finger_flexion(pose(angles)) > 1.5)[0].tolist()
        assert folded == [not extended for extended in FINGER_STATES[letter.lower()]], letter


def test_every_slider_moves_both_pictures():
    effects = slider_effects(template(), SIZE)
    assert set(effects) == set(ANGLES) | set(VIEW_DEG)
    assert [name for name, (mesh, depth) in effects.items() if min(mesh, depth) < 20] == []


def test_same_pose_same_pictures_and_threads_as_they_were():
    threads, most = torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS
    torch.set_num_threads(2)
    numba.set_num_threads(most)
    first, second = (look(template(), pose(PRESETS["fist"]), SIZE) for _ in range(2))
    assert np.array_equal(first.mesh, second.mesh) and np.array_equal(first.depth, second.depth)
    assert first.mesh.shape == (SIZE, SIZE, 3) and first.depth.shape == (120, 120)
    assert torch.get_num_threads() == 2 and numba.get_num_threads() == most
    torch.set_num_threads(threads)


@pytest.mark.parametrize("value", [95, -21, float("nan"), float("inf")])
def test_an_angle_beyond_its_limits_is_named(value):
    with pytest.raises(
        ValueError, match=r"index_base_flexion \(index, knuckle: bend\) must be within -20 to 90 degrees"
    ):
        pose({"index_base_flexion": value})


def test_beyond_the_limits_where_it_is_asked_for():
    seen = look(template(), pose({"index_base_flexion": 120}, within_limits=False), SIZE)
    assert seen.physical_rad == pytest.approx(np.radians(30), abs=1e-4)
    with pytest.raises(ValueError, match="must be within -180 to 180 degrees"):
        pose({"index_base_flexion": 181}, within_limits=False)


def test_unknown_names_are_refused():
    with pytest.raises(
        ValueError, match="unknown angle 'index_flexion'; names are joint_axis, e.g. thumb_base_flexion"
    ):
        pose({"index_flexion": 3})
    with pytest.raises(ValueError, match="degrees of yaw, pitch, roll, got 'jaw': 3"):
        pose({}, {"jaw": 3})
    with pytest.raises(ValueError, match="got 'yaw': nan"):
        pose({}, {"yaw": float("nan")})


# ---- the widget


def test_sliders_cover_45_angles_within_the_limits(explorer):
    assert set(explorer.sliders) == set(ANGLES) and set(explorer.view) == set(VIEW_DEG)
    limits = np.degrees(limits_rad())
    for name, slider in explorer.sliders.items():
        low, high = limits[ANGLES[name].joint, ANGLES[name].axis]
        assert low - 1e-9 <= slider.min < slider.max <= high + 1e-9, name
        assert isinstance(slider, widgets.IntSlider), "a slider that rounds in the browser would send its value back"
    assert explorer.tabs.titles == ("Thumb", "Index", "Middle", "Ring", "Pinky", "View", "Shape", "Target")
    placed = [slider for tab in explorer.tabs.children[:5] for slider in tab.children]
    assert placed == list(explorer.sliders.values()), "each in its finger's tab, in order"


@pytest.mark.parametrize("name", ["index_base_flexion", "pinky_far_twist", "yaw"])
def test_moving_a_slider_changes_both_pictures_and_the_numbers(explorer, name):
    before = shown(explorer)
    (explorer.sliders | explorer.view)[name].value = 5
    after = shown(explorer)
    assert before[0] != after[0] and before[1] != after[1]
    assert "collision (Eq. 7): <b>0.00 mm</b>" in explorer.numbers.value and explorer.redraw_ms > 0


def test_presets_and_reset(explorer, monkeypatch):
    looks = []
    monkeypatch.setattr(explore, "look", lambda *a: looks.append(a) or look(*a))
    neutral = shown(explorer)
    explorer.view["yaw"].value = 30
    explorer.buttons["fist"].click()
    assert len(looks) == 2, "a preset moves many sliders and redraws once"
    assert explorer.sliders["ring_middle_flexion"].value == 95 and explorer.view["yaw"].value == 30
    assert np.array_equal(explorer.depth, look(template(), pose(PRESETS["fist"], {"yaw": 30}), SIZE).depth)
    explorer.buttons["as modelled"].click()
    for angle, exact in rest_angles(template()).items():
        assert abs(explorer.sliders[angle].value - exact) <= 0.5
    explorer.buttons["neutral"].click()
    assert explorer.view["yaw"].value == 30 and set(explorer.angles_deg().values()) == {0}
    explorer.buttons["reset"].click()
    assert shown(explorer) == neutral and explorer.view["yaw"].value == 0


def test_reset_brings_everything_back(explorer, monkeypatch):
    first, vertices, sent = shown(explorer), explorer.hand_view.vertices, []
    monkeypatch.setattr(explorer.hand_view, "send", sent.append)
    explorer.shape["thickness"].value, explorer.target.value, explorer.hand_view.shown = 120, "fist", ["cloud"]
    explorer.beyond.value = True
    explorer.sliders["index_base_flexion"].value = 110
    explorer.buttons["keep as A"].click()
    explorer.buttons["copy as Python"].click()
    explorer.blend.value = 40
    explorer.buttons["reset"].click()
    assert shown(explorer) == first and explorer.hand_view.vertices == vertices
    assert explorer.hand_view.shown == ["mesh", "skeleton"] and sent[-1] == {"do": "home"}
    assert explorer.target.value == "nothing" and not explorer.beyond.value and explorer.code.layout.display == "none"
    explorer.blend.value = 1
    assert explorer.sliders["index_base_deviation"].value == -16, "A is the open hand again"


def test_two_poses_play_into_each_other(explorer):
    explorer.buttons["point"].click()
    explorer.buttons["keep as A"].click()
    explorer.buttons["fist"].click()
    explorer.buttons["keep as B"].click()
    knuckle = explorer.sliders["index_base_flexion"]
    explorer.blend.value = 50
    assert knuckle.value == 40 and explorer.sliders["ring_base_flexion"].value == 80
    heights = []
    for explorer.play.value in (1, 10, 20, 30, 40):
        heights.append(knuckle.value)
    assert heights == [4, 40, 80, 40, 0], "to B and back to A"


def test_beyond_the_limits_and_back(explorer):
    knuckle = explorer.sliders["index_base_flexion"]
    knuckle.value = 120
    assert knuckle.value == 90
    explorer.beyond.value = True
    knuckle.value = 120
    assert "physical (Eq. 8): <b>0.52 rad</b>" in explorer.numbers.value  # 30 degrees
    assert knuckle.style.handle_color and not explorer.sliders["index_far_flexion"].style.handle_color
    explorer.buttons["keep as A"].click()
    explorer.beyond.value = False
    assert knuckle.value == 90 and "physical (Eq. 8): <b>0.00 rad</b>" in explorer.numbers.value
    assert not knuckle.style.handle_color
    explorer.blend.value = 1
    assert knuckle.value == 90, "a pose kept beyond the limits ends at them"


def test_the_copied_code_makes_the_pose_that_is_shown(explorer, monkeypatch):
    sent, names = [], {}
    monkeypatch.setattr(explorer.hand_view, "send", sent.append)
    explorer.buttons["pinch"].click()
    explorer.beyond.value, explorer.view["yaw"].value, explorer.sliders["ring_far_twist"].value = True, -40, 20
    explorer.buttons["copy as Python"].click()
    assert explorer.code.layout.display != "none" and sent == [{"do": "copy", "text": explorer.code.value}]
    exec(explorer.code.value, names)
    assert np.array_equal(names["depth"], explorer.depth)


def test_set_refuses_what_a_slider_would_clip(explorer):
    with pytest.raises(ValueError, match="thumb_far_flexion .* within -15 to 80 degrees, got 81"):
        explorer.set({"thumb_far_flexion": 81})


def test_an_error_in_a_callback_is_shown_and_goes_away(explorer, monkeypatch):
    def broken(*_):
        raise RuntimeError("the renderer <broke>")

    monkeypatch.setattr(explore, "look", broken)
    with pytest.raises(RuntimeError, match="the renderer <broke>"):
        explorer.sliders["index_base_flexion"].value = 20
    assert "the renderer &lt;broke&gt;" in explorer.error.value and "not drawn" in explorer.numbers.value
    monkeypatch.undo()
    explorer.sliders["index_base_flexion"].value = 21
    assert explorer.error.value == "" and "Eq. 7" in explorer.numbers.value


def test_a_target_is_compared_with_and_reached_by_its_own_pose(explorer):
    assert "depth (Eq. 6): <b>-</b>" in explorer.numbers.value
    explorer.target.value = "fist"
    assert "depth (Eq. 6): <b>0.0" in explorer.numbers.value and "<b>0.0000</b>" not in explorer.numbers.value
    assert explorer._look.difference.max() > 0.2
    explorer.buttons["fist"].click()
    assert "depth (Eq. 6): <b>0.0000</b>" in explorer.numbers.value and not explorer._look.difference.any()


def test_the_target_is_shown_beside_the_splat(explorer):
    assert not wanted(explorer).size
    explorer.target.value = "fist"
    assert np.array_equal(wanted(explorer), look(template(), pose(PRESETS["fist"])).depth)
    explorer.buttons["fist"].click()
    assert np.array_equal(wanted(explorer), explorer.depth)
    explorer.target.value = "nothing"
    assert not wanted(explorer).size


BENT = PRESETS["open"] | {"index_base_flexion": 35, "middle_base_flexion": 20, "thumb_far_flexion": 30}


def test_the_fit_lowers_image_and_joint_error_and_moves_sliders_and_pictures(explorer):
    wanted = look(template(), pose(BENT, {"yaw": 12}), SIZE, None, (6, -8, 4))
    explorer.load("bent", pose_target(template(), BENT | {"yaw": 12, "x": 6, "y": -8, "z": 4}))
    explorer.set(PRESETS["open"])

    def errors() -> tuple[float, float]:
        joints_mm = explorer._look.step.joints_mm - wanted.step.joints_mm
        return explorer._look.terms["depth"], joints_mm.norm(dim=-1).mean().item()

    before, seen, bones = errors(), [], shown(explorer)[0]
    explorer.hand_view.observe(lambda change: seen.append(explorer.values()), "bones")
    explorer.buttons["fit"].click()
    after = errors()
    assert after[0] < 0.25 * before[0] and after[1] < 0.25 * before[1], (before, after)
    assert len(seen) > 5 and shown(explorer)[0] != bones, "drawn on the way"
    assert abs(explorer.sliders["index_base_flexion"].value - 35) < 12 and abs(explorer.view["yaw"].value - 12) < 6
    assert "fit, step 18" in explorer.numbers.value and "the steps of the fit" in explorer.curve.value
    explorer.view["yaw"].value += 1
    assert "fit, step" not in explorer.numbers.value


def test_words_of_a_pose_are_its_values():
    values = values_of(prediction_of(PRESETS["pinch"] | {"yaw": 130, "pitch": -30, "roll": 70, "z": 9}))
    wanted = dict.fromkeys(values, 0) | PRESETS["pinch"] | {"yaw": 130, "pitch": -30, "roll": 70, "z": 9}
    assert values == pytest.approx(wanted, abs=0.01)  # float32


def test_the_steps_that_are_shown_are_those_of_one_fit():
    target, start = pose_target(template(), PRESETS["pinch"]), prediction_of({})
    *_, (count, last) = fit_steps(template(), target, start)
    whole = fitted_poses(template(), target, start, FitSettings(smooth=0)).prediction
    assert count == FitSettings().steps + FitSettings().more_steps
    assert torch.equal(last.rotations, whole.rotations) and torch.equal(last.offset, whole.offset)


def test_a_frame_is_a_target_from_the_beginning_or_by_a_button():
    frame = next(iter(USERS["C"].frames(template(), 1, "test")))
    explorer = Explorer(template(), SIZE, frame)
    assert explorer.target.value == "yours" and wanted(explorer).any()
    first = explorer._look.terms["depth"]
    explorer.buttons["predict"].click()
    predicted = explorer._look.terms["depth"]
    explorer.buttons["fit"].click()
    assert explorer._look.terms["depth"] < predicted < first
    explorer.buttons["simulated"].click()
    assert explorer.target.value == "simulated" and explorer.error.value == ""
    with pytest.raises(ValueError, match="target must be one crop of 250 mm, got 2"):
        Explorer(template(), SIZE, mesh.empty_cube(torch.zeros(2, 3)))


def test_a_typed_path_is_loaded_and_a_bad_one_is_told(explorer, tmp_path, monkeypatch):
    frame = next(iter(USERS["C"].frames(template(), 1, "test")))
    np.save(tmp_path / "hand.npy", frame.depth_mm)
    np.save(tmp_path / "wall.npy", np.full((240, 320), 900, np.float32))
    monkeypatch.delenv("HRLIB_DATA_MIRROR", raising=False)
    monkeypatch.setattr("hrlib.support.paths.FETCHED", tmp_path)

    def told(path: str, focal_px: str = "500 500") -> str:
        explorer.typed["path"].value, explorer.typed["focal_px"].value = path, focal_px
        explorer.buttons["load"].click()
        return explorer.error.value

    assert "type the path" in told("") and "is no folder" in told(str(tmp_path / "nothing"))
    assert "does not tell its camera" in told(str(tmp_path / "hand.npy"), "")
    assert "must be numbers" in told(str(tmp_path / "hand.npy"), "wide")
    assert "wall" in told(str(tmp_path / "wall.npy")) and "<pre" not in explorer.error.value
    assert explorer.target.value == "nothing"
    explorer.buttons["NYU"].click()
    assert "data set nyu_frame not found" in explorer.error.value
    explorer.buttons["fit"].click()
    assert "choose what to compare with" in explorer.error.value
    assert told(str(tmp_path / "hand.npy"), f"{frame.camera.fx}, {frame.camera.fy}") == ""
    assert explorer.target.value == "yours" and wanted(explorer).any()
    explorer.typed["number"].value = 3
    assert "number them from 0 to 0" in told(str(tmp_path / "hand.npy"))


def test_the_loss_along_the_slider_that_moved_last(explorer, monkeypatch):
    assert "<svg" not in explorer.curve.value
    explorer.target.value = "point"
    explorer.buttons["point"].click()
    knuckle = explorer.sliders["index_base_flexion"]
    knuckle.value = 40
    assert "along <b>knuckle: bend</b>, lowest at" in explorer.curve.value
    found = explorer._curve
    assert abs(found.at[found.loss.argmin()].item()) < 5, "the pose of the target"
    assert found.loss[(found.at - 40).abs().argmin()].item() == pytest.approx(explorer._loss(), rel=0.1)
    monkeypatch.setattr(explore, "loss_along", None)
    knuckle.value = 41  # its curve stays
    monkeypatch.undo()
    explorer.view["yaw"].value = 9
    assert "turn left / right" in explorer.curve.value
    explorer.buttons["fist"].click()
    assert "<svg" not in explorer.curve.value, "no one slider"


def test_dragging_turns_hand_and_splat_together(explorer):
    def drag(**message):
        explorer.hand_view._handle_custom_msg(message, [])

    before = shown(explorer)
    drag(do="turn", right_deg=30, down_deg=0)
    assert explorer.view["yaw"].value == -30 and shown(explorer)[0] != before[0] and shown(explorer)[1] != before[1]
    drag(do="turn", right_deg=160, down_deg=95)
    assert (explorer.view["yaw"].value, explorer.view["pitch"].value) == (170, 90), "round, and not over the top"
    drag(do="front")
    assert shown(explorer) == before


def test_what_is_near_goes_with_the_pointer():
    """The thumb's tip is nearer to the camera than the middle of the picture."""
    tip = POINT_NAMES.index("thumb_tip")
    at = [look(template(), pose({}, view)).step.joints_mm[0, tip] for view in ({}, {"yaw": -5}, {"pitch": 5})]
    assert at[0][2] < 0 and at[1][0] > at[0][0] and at[2][1] > at[0][1], "camera: x right, y down, z forward"


def test_a_page_without_a_kernel_has_mesh_and_splat_as_a_picture(explorer):
    bundle = explorer._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))))
    assert seen.shape == (SIZE, 2 * SIZE, 3) and "application/vnd.jupyter.widget-view+json" in data
    assert (seen[:, :SIZE] == look(template(), pose({}), SIZE).mesh).all() and seen[:, SIZE:].any()


def test_the_picture_is_saved_by_the_browser(explorer, monkeypatch):
    sent = []
    monkeypatch.setattr(explorer.hand_view, "send", sent.append)
    explorer.buttons["save picture"].click()
    assert sent == [{"do": "save"}]


def test_shape_sliders_change_the_hand_and_leave_the_pose(explorer):
    bones, depth = shown(explorer)
    vertices = explorer.hand_view.vertices
    explorer.shape["index length"].value = 120
    assert explorer.hand_view.vertices != vertices and explorer.depth.tobytes() != depth
    size = lambda: np.ptp(np.frombuffer(explorer.hand_view.vertices, np.float32).reshape(-1, 3), axis=0).max()  # noqa: E731
    before = size()
    explorer.shape["size"].value = 110
    assert size() == pytest.approx(1.1 * before, rel=1e-4) and list(explorer.shape) == list(SHAPE_PARTS)
