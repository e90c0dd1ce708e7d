"""The machine's Chromium for tests: what a page complains about, or asks for elsewhere, fails the test."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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
