"""What a move of a slider costs in notebook 00: the kernel's time to the new depth image, and the bytes sent to the page.

Writes benchmarks/results/viewer.json. A minute on a core that has nothing else to do.
"""

import argparse
import json
import os
import statistics
from pathlib import Path

import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.companion.hand_explorer import Explorer
from hrlib.hand.named_poses import ANGLES
from hrlib.hand.rig import load_hand
from hrlib.support.paths import BENCHMARKS, HAND_ASSET

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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200, help="timed moves")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "viewer.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    explorer = Explorer(load_hand())
    explorer.target.value = "fist"  # so that there is a difference to draw
    metrics = measure(explorer, arguments.repeats)
    metrics["load_average"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    values = {"viewer.time": metrics["redraw_ms"]["median"], "viewer.bytes.all": metrics["bytes_of_a_move"]}
    made = results.provenance({"repeats": arguments.repeats, "swept": SWEPT}, None, {"hand": HAND_ASSET})
    results.write_result(
        arguments.out, "viewer", metrics, values, made, "quick" if arguments.repeats >= 100 else "smoke"
    )


if __name__ == "__main__":
    main()
