"""What the paper's recipe (Eq. 1, Sec. 4.4) makes of the four simulated users, starting from the paper's network.

Writes benchmarks/results/paper.json, and with --wristband paper_wristband.json: the same numbers of the same users, who
wear a band as the paper's does. All else must be equal, or the figure that compares the two refuses them. Goes on where a
stopped run of the same numbers was; several runs with other --users may share the work, and a last one without finds what
they did. About six minutes a user on one core, and less than two on a GPU.

A larger step does not lower the image error of test frames further, and loses the hands: with 20,000 frames of each user, a
constant rate and 10 epochs, at 1e-4 and 2e-4 the joints' error doubles or triples on three users (13.9 -> 43.5 mm on A),
while the hand's MSE falls by 3 to 33 %, no more than at 2e-5. Nor do 40 epochs instead of 10: on D, -19 % instead of -17,
and the joints go from 20.4 to 21.3 mm instead of 19.0.
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import by_user
import torch
from bench_refine import measured

from hrlib.companion import results
from hrlib.hand.rig import load_hand
from hrlib.network.checkpoint import load_network
from hrlib.network.predict import predict
from hrlib.refine import RECIPES, PaperSettings, refine
from hrlib.support.paths import BENCHMARKS, HAND_ASSET, PAPER_MODEL
from hrlib.synthetic.people import USERS, record


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", default="".join(USERS), help="some of them, kept for a run with all of them")
    parser.add_argument("--train", type=int, default=4000, help="unlabelled frames of each user")
    parser.add_argument("--test", type=int, default=1000, help="test frames of each user")
    parser.add_argument("--recipes", nargs="+", default=["paper"], help="depth: without the other terms")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=100, help="frames a step")
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--turn-deg", type=float, default=30.0, help="by which each frame is turned at most")
    parser.add_argument(
        "--anneal", action=argparse.BooleanOptionalAction, default=True, help="shrink the steps to nothing"
    )
    parser.add_argument("--wristband", action="store_true", help="the users wear one, as the paper's does")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--processes", type=int, default=1, help="that make the frames")
    parser.add_argument("--out", type=Path, help="default: paper.json or paper_wristband.json in benchmarks/results")
    arguments = parser.parse_args()
    band = arguments.wristband
    arguments.out = arguments.out or BENCHMARKS / ("paper_wristband.json" if band else "paper.json")
    template = load_hand()
    paper = load_network(template, PAPER_MODEL)[0]
    apart = ("out", "users", "processes")
    parameters = {key: value for key, value in vars(arguments).items() if key not in apart}
    data = {"hand": HAND_ASSET, "paper's network": PAPER_MODEL}
    same = {"learning_rate": arguments.rate, "batch": arguments.batch, "micro": arguments.batch, "wristband": band}
    same |= {name: getattr(arguments, name) for name in ("epochs", "turn_deg", "anneal")}
    recipes = {name: replace(RECIPES[name], **same) for name in arguments.recipes}
    made = results.provenance(parameters | {"recipe": recipes}, 0, data)
    kept = by_user.Partial(arguments.out, arguments.users, made)
    if users := kept.rows(arguments.users, USERS, lambda name: row(name, paper, template, recipes, arguments)):
        kept.finish("paper_wristband" if band else "paper", {"users": users}, values_of(users, band), "full")


def row(name: str, paper, template, recipes: dict[str, PaperSettings], arguments: argparse.Namespace) -> dict:
    """All numbers of one user."""
    began = time.perf_counter()
    user = replace(USERS[name], wristband=arguments.wristband)
    frames = partial(record, user, template, processes=arguments.processes)
    train, test = frames(arguments.train), frames(arguments.test, "test")
    numbers = {"alexnet": measured(predict(paper, test.crops), template, test)}
    for recipe, settings in recipes.items():
        done = refine(paper, template, train.crops, settings, device=arguments.device)
        net, cloud_mm = done.net.cpu(), done.cloud_mm.cpu()
        moved = (cloud_mm - template.cloud_mm).norm(dim=-1)
        own = numbers[recipe] = measured(predict(net, test.crops), template, test, cloud_mm)
        own |= {"moved_mean_mm": moved.mean().item(), "moved_max_mm": moved.max().item()}
        own["train_mse"] = [done.curve[0]["mse"], done.curve[-1]["mse"]]
        print("{}, {}: hand's MSE {hand_mse:.5f}, joints {mean16:.1f} mm".format(name, recipe, **own))
    return numbers | {"seconds": time.perf_counter() - began}


def values_of(users: dict, wristband: bool) -> dict[str, float]:
    """The claims' values: by which share the recipe lowers the hand's image MSE and its variance, worst user."""
    rows, name = users.values(), "refine-paper-band" if wristband else "refine-paper"
    keys = {"mse": "hand_mse", "variance": "hand_mse_variance"}
    return {
        f"{name}-{end}": min(1 - row["paper"][key] / row["alexnet"][key] for row in rows) for end, key in keys.items()
    }


if __name__ == "__main__":
    main()
