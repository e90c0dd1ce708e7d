"""What a move of a slider costs in notebook 00: the kernel's time to the new depth image, and the bytes sent to the page.

And on the page without a kernel (docs/hand_page), where there is a Chromium: the time from a slider's event to the picture.
Writes benchmarks/results/viewer.json. A minute on a core that has nothing else to do.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.companion.hand_explorer import Explorer
from hrlib.hand.named_poses import ANGLES
from hrlib.hand.rig import load_hand
from hrlib.support.paths import BENCHMARKS, HAND_ASSET, ROOT

SWEPT = ("index_base_flexion", "middle_middle_flexion", "thumb_base_deviation", "pinky_far_flexion")


def measure(explorer: Explorer, repeats: int) -> dict:
    """One degree a move, up and down, by turns over the sliders of `SWEPT`; the first few do not count."""
    parts = {"bones": (explorer.hand_view, "bones"), "splat image": (explorer.depth, "value")}
    parts |= {"difference image": (explorer.difference, "value"), "numbers": (explorer.numbers, "value")}
    sent = {name: [] for name in parts}
    took, warm_up = [], 8
    for turn in tqdm(range(warm_up + repeats), desc="moves"):
        name = SWEPT[turn % len(SWEPT)]
        slider = explorer.sliders[name]
        slider.value = slider.value + (1 if slider.value < ANGLES[name].high else -1)
        if turn >= warm_up:
            took.append(explorer.redraw_ms)
            for part, (widget, trait) in parts.items():
                value = getattr(widget, trait)
                sent[part].append(len(json.dumps(value) if isinstance(value, str) else bytes(value)))
    deciles = statistics.quantiles(took, n=10)
    return {
        "moves": repeats,
        "redraw_ms": {"median": statistics.median(took), "p90": deciles[-1]},
        "bytes_by_part": {part: statistics.median(sizes) for part, sizes in sent.items()},
        "bytes_of_a_move": statistics.median(sum(sizes) for sizes in zip(*sent.values(), strict=True)),
    }


# From the event until the browser has handed the new picture on: a message that is sent while it draws comes after that.
PAGE_MOVES = """async (moves) => {
  const slider = document.getElementById("angle-index_base_flexion"), canvas = document.getElementById("mesh"), took = [];
  const drawn = async (before) => {
    while (canvas.dataset.drawn === before) await new Promise(requestAnimationFrame);
    const channel = new MessageChannel();
    await new Promise((done) => { channel.port1.onmessage = done; channel.port2.postMessage(0); });
  };
  for (let move = 0; move < moves; move++) {
    const before = canvas.dataset.drawn, started = performance.now();
    slider.value = Number(slider.value) + (move % 40 < 20 ? 2 : -2);
    slider.dispatchEvent(new Event("input"));
    await drawn(before);
    took.push(performance.now() - started);
  }
  return took;
}"""


def measure_page(moves: int = 50) -> dict | None:
    """Milliseconds from a slider's event to the picture on the page without a kernel; None without a browser."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        return None
    from playwright.sync_api import sync_playwright

    sys.path.insert(0, str(ROOT / "docs"))
    from hand_page.write import write_page

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        write_page(Path(folder))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.goto((Path(folder) / "index.html").as_uri())
        page.wait_for_selector("#slopes li")
        took = page.evaluate(PAGE_MOVES, 10 + moves)[10:]  # until the code is compiled
        browser.close()
    return {"moves": moves, "median": statistics.median(took), "p90": statistics.quantiles(took, n=10)[-1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200, help="timed moves")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "viewer.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    explorer = Explorer(load_hand())
    explorer.target.value = "fist"  # so that there is a difference to draw
    metrics = measure(explorer, arguments.repeats)
    metrics["page_ms"] = measure_page()
    metrics["load_average"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    values = {"viewer.time": metrics["redraw_ms"]["median"], "viewer.bytes.all": metrics["bytes_of_a_move"]}
    made = results.provenance({"repeats": arguments.repeats, "swept": SWEPT}, None, {"hand": HAND_ASSET})
    results.write_result(
        arguments.out, "viewer", metrics, values, made, "quick" if arguments.repeats >= 100 else "smoke"
    )


if __name__ == "__main__":
    main()
