"""The machine's Chromium, and JupyterLab to open in it: what a page complains about, or asks for elsewhere, is an error."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hrlib.support import paths

PATIENCE_MS = 240_000  # a notebook may run beside other work
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card
]


@contextmanager
def browser_page(profile: Path, address: str, **options) -> Iterator:
    """A page that reaches nothing but what begins with `address`.

    Args:
        profile: an empty folder for the browser.
        options: of playwright's `launch_persistent_context`, e.g. viewport or color_scheme.
    """
    if not CHROMIUM:
        assert not os.environ.get("CI"), "CI must have chromium: .ci/run installs it"
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    complaints, outside = [], []
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=CHROMIUM, headless=True, args=FLAGS, **options
        )

        def only_there(route):
            if route.request.url.startswith((address, "data:", "blob:")):
                route.continue_()
            else:
                outside.append(route.request.url)
                route.abort()

        context.route("**/*", only_there)
        page = context.pages[0]
        page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        context.close()
    assert outside == [] and complaints == []


@contextmanager
def jupyter_lab(folder: Path, *notebooks: str) -> Iterator[str]:
    """JupyterLab on copies of notebooks in the smoke profile, in an empty folder. Yields its address."""
    for name in notebooks:
        text = (paths.NOTEBOOKS / name).read_text(encoding="utf-8")
        (folder / Path(name).name).write_text(text.replace('profile = \\"quick\\"', 'profile = \\"smoke\\"'))
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
            raise AssertionError("JupyterLab did not start: " + (folder / "log").read_text())
        yield address
    finally:
        server.terminate()
        server.wait(30)


def run_all_cells(page, lab: str, notebook: str) -> None:
    """Open a notebook in JupyterLab and start all its cells. What they show comes later."""
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{lab}/lab/tree/{notebook}?token=test")
    # a click before there is a kernel makes JupyterLab ask for one; its indicator is idle without a kernel, too
    page.get_by_text(re.compile(r"ipykernel\) \| Idle")).wait_for()
    page.click("text=Run >> nth=0")
    page.wait_for_timeout(500)  # a menu that just opens loses a click
    page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
