"""Small refinements that several tests run."""

from dataclasses import replace

from core_fixtures import template

from hrlib.refine import BestSettings, PaperSettings, refine
from hrlib.refine.explain import ExplainSettings
from hrlib.synthetic.frames import SyntheticSettings

CLEAN = SyntheticSettings(noise_share=0.0, forearm_mm=2.0, window_px=96, focal_px=180.0)
ARMS = replace(CLEAN, forearm_mm=60.0, forearm_share=1.0)  # what lies behind the wrist is no target
SMALL = 0.88  # of the template: the base model explains the template's own frames so well that nothing is left to learn
PAPER = PaperSettings(epochs=2, batch=4, micro=4, learning_rate=5e-5, cloud_rate_mm=0.2)
BEST = BestSettings(
    rounds=1, prepare=0, steps=3, synthetic=16, segmented=6, explain=ExplainSettings(iterations=3, points=64),
    synthesis=CLEAN, arms=replace(ARMS, forearm_mm=200.0, window_px=160), learning_rate=3e-4,
)  # fmt: skip


def run(net, crops, settings, out=None):
    return refine(net, template(), crops, settings, out, progress=False)
