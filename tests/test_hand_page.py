"""The hand in the browser: its JavaScript gives Python's depth image and losses, and the page works without a server."""

import io
import json
import shutil
import subprocess

import numpy as np
import pytest
import torch
from browser import browser_page
from hand_page.write import SOURCES, page_data, write_page
from PIL import Image

import hrlib
from hrlib.companion.hand_explorer import look, pose_code
from hrlib.hand.kinematics import joint_positions
from hrlib.hand.named_poses import ANGLES, LETTERS, PRESETS, VIEW_DEG, pose
from hrlib.hand.rig import load_hand
from hrlib.losses import collision_loss, depth_loss, image_mse, physical_loss
from hrlib.method import to_pixels
from hrlib.support import paths

CRAMPED = {"index_base_flexion": 130, "middle_base_deviation": -40, "thumb_far_twist": 30, "index_far_flexion": 100}
POSES = {  # angles and view in degrees, radius in px
    "open": (PRESETS["open"], {}, 5.0),
    "fist, turned": (PRESETS["fist"], {"yaw": 35, "pitch": -20, "roll": 15}, 5.0),
    "point, the back": (PRESETS["point"], {"yaw": 180}, 2.5),
    "pinch, from the side": (PRESETS["pinch"], {"yaw": -75}, 9.0),
    "B, nodding": (LETTERS["B"], {"pitch": 80}, 1.0),
    "Y, upside down": (LETTERS["Y"], {"roll": 170, "yaw": -120}, 15.0),
    "beyond the limits": (PRESETS["fist"] | CRAMPED, {"yaw": 90}, 5.0),
}
METHOD = """
const hand = readHand(HAND_DATA), at = (names, values) => names.map(({ name }) => values[name] ?? 0);
const results = Object.entries(asked).map(([name, [angles_deg, view_deg, radius]]) => {
  const angles = at(hand.angles, angles_deg), view = at(hand.view, view_deg), seen = look(hand, angles, view, radius);
  const target = look(hand, namedAngles(hand, "V"), view, radius).depth, joints = jointPositions(hand, seen.T);
  return [name, {
    image: [...seen.depth], joints, ...imageLosses(seen.depth, target),
    collision: collisionLoss(hand, joints), physical: physicalLoss(hand, angles), python: asPython(hand, angles, view),
  }];
});
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page as `make hand` writes it."""
    folder = tmp_path_factory.mktemp("hand_page")
    write_page(folder)
    return folder


@pytest.fixture(scope="module")
def browser_results(folder, tmp_path_factory) -> dict:
    """What the page's JavaScript makes of `POSES`, by node or, where there is none, by the browser."""
    code = f"const asked = {json.dumps(POSES)};{METHOD}"
    if node := shutil.which("node"):
        imported = 'const { HAND_DATA, ...method } = require("./all.js"); Object.assign(globalThis, method);'
        data = (folder / "hand_data.js").read_text()
        work = tmp_path_factory.mktemp("node")
        method = (folder / "method.js").read_text()
        (work / "all.js").write_text(f"{data}{method}\nmodule.exports.HAND_DATA = HAND_DATA;")
        (work / "run.js").write_text(f"{imported}{code}console.log(JSON.stringify(Object.fromEntries(results)));")
        run = subprocess.run([node, "run.js"], cwd=work, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)
    with browser_page(tmp_path_factory.mktemp("browser") / "profile", folder.as_uri()) as page:
        page.goto((folder / "index.html").as_uri())
        return page.evaluate(f"() => {{ {code} return Object.fromEntries(results); }}")


@pytest.mark.parametrize("name", POSES)
def test_javascript_gives_pythons_depth_image_and_losses(browser_results, name):
    hand, (angles, view, radius), got = load_hand(), POSES[name], browser_results[name]
    rotations = pose(angles, view, within_limits=False).float()
    step, target = (look(hand, r).step for r in (rotations, pose(LETTERS["V"], view)))
    depth, wanted = (hrlib.splat_depth(to_pixels(s.cloud), radius, (120, 120), "reference") for s in (step, target))
    assert np.abs(np.reshape(got["image"], (120, 120)) - depth[0].numpy()).max() < 1 / 255
    assert depth.max() > 0.5, "there is a hand"
    joints = joint_positions(hand, step.T_cam_joint)
    np.testing.assert_allclose(got["joints"], joints[0], atol=1e-3)
    losses = {"depth": depth_loss(depth, wanted), "mse": image_mse(depth, wanted), "collision": collision_loss(joints)}
    losses["physical"] = physical_loss(rotations, hand.limits_rad)
    for term, value in losses.items():
        assert got[term] == pytest.approx(value.item(), rel=1e-3, abs=1e-4), term
    assert (losses["physical"].item() > 1) == (name == "beyond the limits")


@pytest.mark.parametrize("name", POSES)
def test_the_copied_python_makes_the_same_pose(browser_results, name):
    angles, view, _ = POSES[name]
    names: dict = {}
    code = browser_results[name]["python"]
    every = [{part: values.get(part, 0) for part in parts} for parts, values in ((ANGLES, angles), (VIEW_DEG, view))]
    assert code == pose_code(*every), "the notebook's explorer copies the same"
    exec(code, names)
    assert torch.allclose(names["rotations"], pose(angles, view, within_limits=False), atol=2e-4)  # it has 0.01 degrees
    assert names["depth"].shape == (120, 120)


def test_the_data_are_small_and_hold_every_angle():
    data = page_data(load_hand())
    assert len(json.dumps(data)) < 1_000_000
    assert [angle["name"] for angle in data["angles"]] == list(ANGLES)


FORBIDDEN = ("http:", "https:", "\nimport", "@import", "import(", "fetch(", 'type="module"')


def test_the_page_asks_nobody_for_anything():
    """No framework, no CDN, and nothing that a page opened as a file may not load."""
    for name in SOURCES:
        text = (paths.ROOT / "docs" / "hand_page" / name).read_text(encoding="utf-8")
        assert [word for word in FORBIDDEN if word in text] == [], name


# ---- in the browser

SEEN = paths.ROOT / "build" / "browser"
LOOKS = {
    "hand_1280_light": {"viewport": {"width": 1280, "height": 720}, "color_scheme": "light"},
    "hand_1280_dark": {"viewport": {"width": 1280, "height": 720}, "color_scheme": "dark"},
    "hand_390_light": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True},
    "hand_390_dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True},
}


def pixels(part) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(part.screenshot())).convert("RGB")).astype(int)


def drawn_after(page, act) -> None:
    """Do something, and wait for the picture that follows."""
    before = page.locator("#mesh").get_attribute("data-drawn")
    act()
    page.wait_for_function(f"document.getElementById('mesh').dataset.drawn !== '{before}'")


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOKS)
def test_a_slider_moved_by_keyboard_changes_the_pictures(folder, tmp_path, name):
    with browser_page(tmp_path / "profile", folder.as_uri(), **LOOKS[name]) as page:
        page.goto((folder / "index.html").as_uri())
        page.wait_for_function("document.getElementById('mesh').dataset.drawn")
        page.wait_for_selector("#slopes li")  # they come after the pictures
        SEEN.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SEEN / f"{name}.png")
        size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        assert size[0] <= LOOKS[name]["viewport"]["width"], "nothing sticks out at the side"
        assert size[1] <= 720 or "390" in name, "one screen"
        parts = [page.locator(f"#{part}") for part in ("mesh", "splat", "difference")]
        before = [pixels(part) for part in parts]
        handle = page.locator("#angle-index_base_flexion")
        handle.focus()
        drawn_after(page, lambda: page.keyboard.press("End"))
        assert handle.get_attribute("aria-valuetext") == "90 degrees"
        page.evaluate("window.scrollTo(0, 0)")
        for part, old in zip(parts, before, strict=True):
            changed = (np.abs(pixels(part) - old).max(-1) > 30).mean()
            assert 0.005 < changed < 0.5, f"{changed:.2%} of the pixels changed"


@pytest.mark.slow
def test_poses_limits_descent_and_reset_do_what_they_say(folder, tmp_path):
    with browser_page(tmp_path / "profile", folder.as_uri(), **LOOKS["hand_1280_light"]) as page:
        page.goto((folder / "index.html").as_uri())
        page.wait_for_function("document.getElementById('mesh').dataset.drawn")

        def number(part: str) -> float:
            return float(page.locator(f"#{part}").inner_text().split()[0])

        start = number("depth-loss")
        page.click("text=Descend: Index")
        page.wait_for_function(f"Number(document.getElementById('depth-loss').innerText) < {0.8 * start}")
        drawn_after(page, lambda: page.click("#poses button:text-is('fist')"))
        drawn_after(page, lambda: page.select_option("#target", "fist"))
        assert number("depth-loss") == number("mse") == 0
        drawn_after(page, lambda: page.check("#beyond"))
        page.locator("#angle-thumb_far_flexion").evaluate(
            "s => { s.value = s.max; s.dispatchEvent(new Event('input')); }"
        )
        page.wait_for_function("document.getElementById('physical').innerText === '0.70 rad'")  # 40 degrees
        drawn_after(page, lambda: page.uncheck("#beyond"))
        assert number("physical") == 0
        page.locator("#mesh").focus()
        drawn_after(page, lambda: page.keyboard.press("ArrowRight"))
        drawn_after(page, lambda: page.click("#reset"))
        assert number("depth-loss") == start and page.locator("#target").input_value() == "neutral"
        with page.expect_download() as download:
            page.click("#save")
        assert Image.open(download.value.path()).size == (960, 1080)
