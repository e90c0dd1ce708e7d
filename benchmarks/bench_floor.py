"""How low the hand's image error of simulated users' test frames can get, and what keeps the paper's recipe from there.

Writes benchmarks/results/floor.json: for each user the MSE of bench_paper.py (before the true wrist) for the paper's network,
for the shipped base, neither of them refined, and for the true pose of the template's and of the user's own hand. What the
true pose of the true hand costs is left by sensor and renderer alone. A minute on one core, once the frames are made.
"""

import argparse
from pathlib import Path

from bench_refine import hand_mse
from tqdm import tqdm

from hrlib.companion import results
from hrlib.hand.rig import load_hand
from hrlib.network.checkpoint import load_network
from hrlib.network.predict import predict
from hrlib.support.paths import BENCHMARKS, HAND_ASSET, ONE_HAND_MODEL, PAPER_MODEL
from hrlib.synthetic.people import USERS, record


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", type=int, default=1000, help="test frames of each user")
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "floor.json")
    arguments = parser.parse_args()
    data = {"hand": HAND_ASSET, "base model": ONE_HAND_MODEL, "paper's network": PAPER_MODEL}
    made = results.provenance({"test": arguments.test}, None, data)
    template = load_hand()
    paper, base = (load_network(template, file)[0] for file in (PAPER_MODEL, ONE_HAND_MODEL))
    users = {}
    for name, user in tqdm(USERS.items(), desc="users"):
        test, own = record(user, template, arguments.test, "test"), user.hand(template)
        poses = {
            "alexnet": (predict(paper, test.crops), template),
            "base": (predict(base, test.crops), template),
            "true pose, template's hand": (test.true_prediction(template), template),
            "true pose, own hand": (test.true_prediction(own), own),
        }
        found = {what: hand_mse(pose, hand, test, None).mean().item() for what, (pose, hand) in poses.items()}
        users[name] = {
            "hand_mse": found,
            "of_alexnet": {what: value / found["alexnet"] for what, value in found.items()},
        }
        print(
            name,
            *(f"{what}: {share:.0%} of AlexNet's" for what, share in users[name]["of_alexnet"].items()),
            sep="\n  ",
        )
    results.write_result(arguments.out, "floor", {"users": users}, {}, made, "full")


if __name__ == "__main__":
    main()
