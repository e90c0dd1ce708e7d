"""Digests of what must stay the same: predictions, gradients, refinements. A process of its own, with one thread from its
beginning, since sums over threads round otherwise with each number of threads: python tests/digests.py [NAME ...]"""

import hashlib
import json
import platform
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from core_fixtures import template

import hrlib
from hrlib.companion.results import cpu_model
from hrlib.frames.find import crop_frames
from hrlib.hand.skinning import skinning_transforms
from hrlib.network.checkpoint import load_network
from hrlib.network.predict import predict
from hrlib.refine import BestSettings, PaperSettings, refine
from hrlib.refine.explain import ExplainSettings
from hrlib.support import paths
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings
from hrlib.synthetic.people import USERS


@cache
def user_crops():
    """64 frames of a simulated user, segmented and cropped as real ones are."""
    return crop_frames(USERS["C"].frames(template(), 64, "test"), progress=False)[0]


def synthetic_frames():
    batch = Synthesiser(template(), SyntheticSettings()).batch(64, 7)
    return batch.crops.image, batch.crops.points, batch.joints_mm


def found_and_cropped():
    crops = user_crops()
    return crops.image, crops.points, crops.centre_mm


def predicted(model: Path):
    prediction = predict(load_network(template(), model)[0], user_crops())
    parts = (prediction.rotations, prediction.offset, prediction.points)
    return tuple(part for part in parts if part is not None)


def splat():
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(4, 500, 3, generator=generator) * torch.tensor([120.0, 120.0, 1.0])
    image = hrlib.splat_depth(points.requires_grad_(), 5.0, (120, 120))
    (image * torch.rand(image.shape, generator=generator)).sum().backward()
    return image, points.grad


def skinning():
    generator, hand = torch.Generator().manual_seed(4), template()
    q = torch.nn.functional.normalize(torch.randn(4, 16, 4, generator=generator), dim=-1).requires_grad_()
    cloud_mm = hand.cloud_mm.clone().requires_grad_()
    M = skinning_transforms(hand, hrlib.forward_kinematics(hand, q, torch.zeros(4, 3)))
    posed = hrlib.skin(cloud_mm, hand.cloud_weights, M)
    (posed * torch.rand(posed.shape, generator=generator)).sum().backward()
    return posed, q.grad, cloud_mm.grad


def refined(model: Path, settings):
    done = refine(load_network(template(), model)[0], template(), user_crops()[:60], settings, progress=False)
    weights = torch.cat([value.double().flatten() for value in done.net.state_dict().values()])
    return weights, done.cloud_mm, done.hand.vertices_mm


def refined_by_best():
    fit = ExplainSettings(iterations=6, points=128)
    settings = BestSettings(rounds=2, steps=6, prepare=2, synthetic=20, segmented=12, explain=fit)
    return refined(paths.ONE_HAND_MODEL, settings)


RESULTS = {
    "synthetic frames": synthetic_frames,
    "found and cropped": found_and_cropped,
    "predictions of the base model": lambda: predicted(paths.ONE_HAND_MODEL),
    "predictions of the paper's network": lambda: predicted(paths.PAPER_MODEL),
    "splat": splat,
    "skinning": skinning,
    "refined as the paper does": lambda: refined(paths.PAPER_MODEL, PaperSettings(epochs=2, batch=20, micro=10)),
    "refined by best": refined_by_best,
}


def digest(tensors) -> dict:
    """SHA-256 of the tensors' bytes, and their mean magnitudes."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(np.ascontiguousarray(tensor.detach().numpy()).tobytes())
    return {"sha256": sha.hexdigest(), "magnitudes": [float(t.detach().double().abs().mean()) for t in tensors]}


if __name__ == "__main__":
    machine = (
        f"{cpu_model()}, {torch.backends.cpu.get_cpu_capability()}, {platform.system()}, torch {torch.__version__}"
    )
    found = {name: digest(RESULTS[name]()) for name in sys.argv[1:] or RESULTS}
    print(json.dumps({"machine": machine} | found))
