"""What a move of a slider costs in notebook 00: the kernel's time to the new depth image, and the bytes sent to the page.

And in Chromium: the time from a key pressed on a slider to the new pictures in JupyterLab, and from a slider's event to the
picture on the page without a kernel (docs/hand_page). Writes benchmarks/results/viewer.json. Two minutes on two cores that
have nothing else to do: browser and kernel are busy by turns.
"""

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

import comm
import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.companion.hand_explorer import Explorer
from hrlib.hand.named_poses import ANGLES
from hrlib.hand.rig import load_hand
from hrlib.support.paths import BENCHMARKS, HAND_ASSET, ROOT

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "docs")]

# Chromium and JupyterLab as the tests start them, and the page without a kernel
from browser import CHROMIUM, browser_page, jupyter_lab, run_all_cells  # noqa: E402
from hand_page.write import write_page  # noqa: E402

SWEPT = ("index_base_flexion", "middle_middle_flexion", "thumb_base_deviation", "pinky_far_flexion")


def measure(explorer: Explorer, repeats: int) -> dict:
    """One degree a move, up and down, by turns over the sliders of `SWEPT`; the first few do not count."""
    took, sent, warm_up = [], [], 8

    def count(_, kind, data=None, metadata=None, buffers=None, **more):
        sent[-1] += len(json.dumps(data)) + sum(len(bytes(buffer)) for buffer in buffers or ())

    comm.DummyComm.publish_msg = count  # there is no kernel here: its messages go nowhere
    for turn in tqdm(range(warm_up + repeats), desc="moves"):
        name = SWEPT[turn % len(SWEPT)]
        slider = explorer.sliders[name]
        sent.append(0)
        slider.value = slider.value + (1 if slider.value < ANGLES[name].high else -1)
        if turn >= warm_up:
            took.append(explorer.redraw_ms)
    return {
        "moves": repeats,
        "redraw_ms": summary(took),
        "bytes_of_a_move": statistics.median(sent[warm_up:]),
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


# A picture is new when the browser has handed on the frame in which mesh and depth image are both those of the key.
KEY_PRESSES = """() => {
  const canvas = document.querySelector(".hrlib-hand");
  const splat = document.querySelector(".hrlib-splat-splat");
  const handed_on = (done) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => done(performance.now());
    channel.port2.postMessage(0);
  };
  window.presses = [];
  addEventListener("keydown", (event) => {
    const press = { mesh: null, depth: null };
    window.presses.push(press);
    for (const [part, picture] of [["mesh", canvas], ["depth", splat]]) {
      const drawn = new MutationObserver(() => {
        drawn.disconnect();
        handed_on((now) => { press[part] = now - event.timeStamp; });
      });
      drawn.observe(picture, { attributeFilter: ["data-drawn"] });
    }
  }, true);
}"""


def measure_lab(presses: int, apart_ms: int = 900) -> dict:
    """Milliseconds from a key pressed on a slider to the new mesh, and to mesh and depth image, in JupyterLab.

    Args:
        presses: that count, up and down over the middle of the index finger's bend.
        apart_ms: from one key to the next, so that each finds everything at rest.
    """
    warm_up = 5
    with tempfile.TemporaryDirectory() as own, tempfile.TemporaryDirectory() as profile:
        with jupyter_lab(Path(own), "00_hand.ipynb") as lab:
            with browser_page(Path(profile), lab, viewport={"width": 1280, "height": 720}) as page:
                run_all_cells(page, lab, "00_hand.ipynb")
                page.locator(".hrlib-hand").scroll_into_view_if_needed()
                page.get_by_text(re.compile(r"ipykernel\) \| Idle")).wait_for()  # the cells below have run, too
                page.locator(".lm-TabBar-tab", has_text=re.compile("^Index$")).click()
                page.locator(".lm-TabPanel .noUi-handle:visible, .widget-tab .noUi-handle:visible").first.focus()
                page.evaluate(KEY_PRESSES)
                for press in tqdm(range(warm_up + presses), desc="key presses"):
                    page.keyboard.press("ArrowRight" if press % 40 < 20 else "ArrowLeft")
                    page.wait_for_timeout(apart_ms)
                took = page.evaluate("window.presses")[warm_up:]
    drawn = all(press["mesh"] and press["depth"] for press in took)
    assert len(took) == presses and drawn, "a key that drew no mesh or no depth image"
    return {
        "presses": presses,
        "mesh_ms": summary([press["mesh"] for press in took]),
        "mesh_and_depth_ms": summary([max(press["mesh"], press["depth"]) for press in took]),
    }


def measure_page(moves: int = 50) -> dict:
    """Milliseconds from a slider's event to the picture on the page without a kernel."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as profile:
        write_page(Path(folder))
        address = (Path(folder) / "index.html").as_uri()
        with browser_page(Path(profile), address.rpartition("/")[0], viewport={"width": 1280, "height": 720}) as page:
            page.goto(address)
            page.wait_for_selector("#slopes li")
            took = page.evaluate(PAGE_MOVES, 10 + moves)[10:]  # until the code is compiled
    return {"moves": moves, **summary(took)}


def summary(took_ms: list[float]) -> dict:
    """Their median and ninth decile."""
    return {"median": statistics.median(took_ms), "p90": statistics.quantiles(took_ms, n=10)[-1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200, help="timed moves")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "viewer.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    explorer = Explorer(load_hand())
    explorer.target.value = "fist"  # so that there is a difference to draw
    metrics = measure(explorer, arguments.repeats)
    values = {"viewer.time": metrics["redraw_ms"]["median"], "viewer.bytes.all": metrics["bytes_of_a_move"]}
    if CHROMIUM:
        metrics |= {"lab": measure_lab(arguments.repeats // 4), "page_ms": measure_page()}
        values["viewer.key"] = metrics["lab"]["mesh_and_depth_ms"]["median"]
    metrics["load_average"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    made = results.provenance({"repeats": arguments.repeats, "swept": SWEPT}, None, {"hand": HAND_ASSET})
    results.write_result(
        arguments.out, "viewer", metrics, values, made, "quick" if arguments.repeats >= 100 else "smoke"
    )


if __name__ == "__main__":
    main()
