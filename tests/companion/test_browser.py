"""Notebook 00 in a real browser: a slider moved by keyboard changes the pictures, and nothing from outside is loaded."""

import io
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from browser import browser_page
from PIL import Image

from hrlib.support import paths

SCREENSHOTS = paths.ROOT / "build" / "browser"
PATIENCE_MS = 240_000  # the notebook runs first, maybe beside other work
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a copy of notebook 00, smoke profile; its address."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = (paths.NOTEBOOKS / "00_hand.ipynb").read_text(encoding="utf-8")
    assert notebook.count('profile = \\"quick\\"') == 1
    (folder / "00_hand.ipynb").write_text(notebook.replace('profile = \\"quick\\"', 'profile = \\"smoke\\"'))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=test", f"--ServerApp.root_dir={folder}"]
    own = {name: str(folder / name) for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_SETTINGS_DIR")}
    own |= {
        "JUPYTER_CONFIG_PATH": str(paths.ROOT / ".jupyter"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }
    own["PYTHONPATH"] = str(paths.ROOT)
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api?token=test", timeout=5)
                break
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.5)
        else:
            pytest.fail("JupyterLab did not start: " + (folder / "log").read_text())
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def page(lab, tmp_path):
    with browser_page(tmp_path / "profile", lab, viewport={"width": 1500, "height": 1150}) as page:
        page.set_default_timeout(PATIENCE_MS)
        yield page


def pixels(part) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(part.screenshot())).convert("RGB")).astype(int)


def test_a_slider_moved_by_keyboard_changes_mesh_and_depth_image(lab, page):
    page.goto(f"{lab}/lab/tree/00_hand.ipynb?token=test")
    # a click before there is a kernel makes JupyterLab ask for one; its indicator is idle without a kernel, too
    page.get_by_text(re.compile(r"ipykernel\) \| Idle")).wait_for()
    page.click("text=Run >> nth=0")
    page.wait_for_timeout(500)  # a menu that just opens loses a click
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
    canvas = page.locator(".hrlib-viewer canvas")
    canvas.wait_for()
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(2000)
    assert page.locator(".hrlib-explorer").bounding_box()["height"] < 600, "one screen of a small laptop: 1280 x 720"
    depth = page.locator("img.hrlib-splat, .hrlib-splat img").first
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
    page.keyboard.press("End")
    page.wait_for_function(f"document.querySelector('.hrlib-viewer canvas').dataset.drawn > {drawn}")
    page.wait_for_timeout(2000)  # the pictures beside it come a moment later
    after = [pixels(part) for part in (canvas, depth)]
    page.screenshot(path=SCREENSHOTS / "after.png")
    for name, old, new in zip(("mesh", "depth image"), before, after, strict=True):
        changed = (np.abs(old - new).max(-1) > 40).mean()
        assert 0.002 < changed < 0.5, f"{name}: {changed:.2%} of the pixels changed"
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
