"""Notebook 00 in a real browser: a slider moved by keyboard changes the pictures, and nothing from outside is loaded."""

import io
import re

import numpy as np
import pytest
from browser import browser_page, jupyter_lab, run_all_cells
from PIL import Image

from hrlib.companion.hand_explorer import BRIGHTEST, look
from hrlib.hand.named_poses import ANGLES, PRESETS, pose
from hrlib.hand.rig import load_hand
from hrlib.support import paths

SCREENSHOTS = paths.ROOT / "build" / "browser"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with jupyter_lab(tmp_path_factory.mktemp("lab"), "00_hand.ipynb") as address:
        yield address


@pytest.fixture
def page(lab, tmp_path):
    with browser_page(tmp_path / "profile", lab, viewport={"width": 1500, "height": 1150}) as page:
        yield page


def pixels(part) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(part.screenshot())).convert("RGB")).astype(int)


GREYS = """const greys = [...document.querySelector(".hrlib-splat-splat").getContext("2d").getImageData(0, 0, 120, 120).data]
  .filter((_, i) => i % 4 === 0);"""
# The depth image's greys as soon as the key has drawn it, and how often it has been drawn since.
FIRST_PICTURE = """() => {
  const splat = document.querySelector(".hrlib-splat-splat"), first = { times: 0 };
  window.first = first;
  new MutationObserver(() => {
    first.times += 1;
    GREYS
    first.greys ??= greys;
  }).observe(splat, { attributeFilter: ["data-drawn"] });
}""".replace("GREYS", GREYS)


def drawn_as_python_draws(greys: list[int], angles_deg: dict[str, float]) -> bool:
    wanted = look(load_hand(), pose(angles_deg)).depth.clip(0, BRIGHTEST)
    return np.abs(np.reshape(greys, (120, 120)) / 255 * BRIGHTEST - wanted).max() < 1 / 255


def test_a_slider_moved_by_keyboard_changes_mesh_and_depth_image(lab, page):
    run_all_cells(page, lab, "00_hand.ipynb")
    canvas = page.locator(".hrlib-hand")
    canvas.wait_for()
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(2000)
    page.set_viewport_size({"width": 1280, "height": 720})
    page.wait_for_timeout(500)
    assert page.locator(".hrlib-explorer").bounding_box()["height"] < 600, "one screen of a small laptop"
    page.set_viewport_size({"width": 1500, "height": 1150})
    page.wait_for_timeout(500)
    depth = page.locator(".hrlib-splat-splat")
    page.locator(".lm-TabBar-tab", has_text=re.compile("^Index$")).click()
    handle = page.locator(".lm-TabPanel .noUi-handle:visible, .widget-tab .noUi-handle:visible").first
    handle.focus()
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    before = [pixels(part) for part in (canvas, depth)]
    assert (before[0] != before[0][0, 0]).any(-1).mean() > 0.05, "there is a hand in the 3D picture"
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "before.png")
    drawn = int(canvas.get_attribute("data-drawn"))
    handle.focus()
    page.evaluate(FIRST_PICTURE)
    page.keyboard.press("End")
    page.wait_for_function(f"document.querySelector('.hrlib-hand').dataset.drawn > {drawn}")
    page.wait_for_timeout(2000)  # the pictures beside it come a moment later
    after = [pixels(part) for part in (canvas, depth)]
    first = page.evaluate("window.first")
    assert first["times"] == 1, "the kernel's answer is what has been drawn"
    assert drawn_as_python_draws(first["greys"], {"index_base_flexion": ANGLES["index_base_flexion"].high})
    page.screenshot(path=SCREENSHOTS / "after.png")
    for name, old, new in zip(("mesh", "depth image"), before, after, strict=True):
        changed = (np.abs(old - new).max(-1) > 40).mean()
        assert 0.002 < changed < 0.5, f"{name}: {changed:.2%} of the pixels changed"
    page.click(".hrlib-explorer button:text-is('pinch')")  # the kernel's: no slider is moved by hand
    page.wait_for_timeout(2500)
    greys = page.evaluate("() => { " + GREYS + " return greys; }")
    assert drawn_as_python_draws(greys, PRESETS["pinch"])
    after = [pixels(part) for part in (canvas, depth)]
    middle = canvas.bounding_box()["x"] + 150, canvas.bounding_box()["y"] + 150
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 80, middle[1], steps=4)
    page.mouse.up()
    page.wait_for_timeout(2000)
    for name, old, part in zip(("mesh", "depth image"), after, (canvas, depth), strict=True):
        assert (np.abs(old - pixels(part)).max(-1) > 40).mean() > 0.02, f"dragging turns the {name}"
    for box in page.locator(".hrlib-viewer-parts input[type=checkbox]").all():
        shown = pixels(canvas)
        box.focus()
        page.keyboard.press("Space")
        page.wait_for_timeout(700)
        assert (shown != pixels(canvas)).any(), "each toggle shows or hides a part"
    page.screenshot(path=SCREENSHOTS / "cloud.png")
    assert page.locator(".hrlib-viewer-parts input[type=checkbox]").count() == 3
    assert page.locator(".jp-Dialog").count() == 0
    assert page.locator("pre[role=alert], .hrlib-viewer [role=alert]").count() == 0
