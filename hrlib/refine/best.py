"""Refinement beyond the paper: explain the user's frames, adapt the hand to the user and the network to the hand.

The frames are explained by `refine.explain`. The network learns from synthetic frames of the adapted hand, whose labels are
exact and of which half were segmented as real frames are, and from two facts about all frames, explained or not: a hand moves
evenly, and turns as the camera turns. Poses of the user's own frames as labels were tried and did not help (docs/method.md).
"""

import copy
import hashlib
import math
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from ..frames.crops import Crops
from ..frames.turn import rotated, turned
from ..hand.rig import HandRig
from ..hand.shape import HandShape, shaped
from ..losses import saturating
from ..method import predicted_joints, voted_joints, wrist_position
from ..network.posenet import PoseNet, Prediction
from ..network.predict import predict
from ..support.parallel import add_gradients, any_of, finish_the_step
from ..synthetic.frames import Synthesiser, SyntheticSettings, joined
from ..training.step import has_bfloat16, pose_loss
from .explain import Explained, ExplainSettings, evenly, explain, fit_hand, fit_to_depth, surprise
from .state import Refined, State

FEW_FRAMES = 200  # fewer of a user than this do not tell the hand's shape from the poses (notebook 10)
RUN = 100  # frames in a row that are learnt from: `explain` evens the movement in so many
TURN_DEG = 30.0  # by which the camera turns at most where the hand is to be seen to turn with it
NO_HAND = 0.30  # median surprise of fitted poses above which the frames show something else (simulated users: 0.08)


@dataclass(frozen=True)
class BestSettings:
    """`rounds` of: explain at most `frames` of the user's frames, then `steps` of learning from them. Before the first,
    `prepare` steps of learning what segmentation leaves of an arm, from synthetic frames of the template's hand.

    synthetic: frames in a batch. They show the adapted hand in the poses of the user's frames from other sides (half of them)
    and in random poses. Half of a batch's have gone through segmentation with all their arm (`segmented` of them are made for
    each round), the others have a piece of it at random. keep: share of the explained frames, the best ones, that correct the
    hand's shape. The rate falls along a cosine in each round. joint_weight as in pretraining.

    steady: weight of how unevenly the joints move that the network sees in `runs` times three of the user's frames, each
    following the other; all frames serve, since this needs no pose that explains them. equivariance: weight of how far the
    joints seen in the same frames, turned in the image, are from the joints turned, which tells nothing but noise from the
    hand. A jump, or a distance, counts as `jump_mm` at most.
    The parts are switches for the ablation (benchmarks/bench_ablation.py): prepare = 0, steady = 0, equivariance = 0,
    reshape (learn the hand's shape), correct (take off the error that its fit makes on synthetic frames), segmented = 0,
    neighbours (fit bad frames again from good ones).
    """

    rounds: int = 2
    frames: int = 2000
    steps: int = 300
    prepare: int = 60
    synthetic: int = 100
    segmented: int = 1000
    keep: float = 0.7
    learning_rate: float = 1e-4
    joint_weight: float = 5.0
    steady: float = 4.0
    equivariance: float = 10.0
    runs: int = 16
    jump_mm: float = 50.0
    reshape: bool = True
    correct: bool = True
    neighbours: bool = True
    explain: ExplainSettings = ExplainSettings()
    # segmentation may leave as much forearm as the cube holds; a sensor sees more
    synthesis: SyntheticSettings = SyntheticSettings(forearm_mm=150.0)
    arms: SyntheticSettings = SyntheticSettings(forearm_share=1.0, forearm_mm=300.0, window_px=320)
    seed: int = 0

    def __post_init__(self):
        for name in ("rounds", "frames", "steps", "synthetic", "runs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("prepare", "segmented", "steady"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep must be a share in (0, 1], got {self.keep}")


def refine_best(net, hand, crops, s: BestSettings, state: State, progress, rank, world) -> Refined:
    """Rounds of explaining and learning; called by `hrlib.refine.refine`, which checks what it is given. After each the curve
    has the mean surprise of the network on frames that it has not learnt from, by which the best round is chosen."""
    held_out = torch.arange(4, len(crops), 10) if len(crops) >= 50 else torch.arange(len(crops))
    learn = torch.tensor([i for i in range(len(crops)) if i % 10 != 4 or len(crops) < 50])
    middles = learn[1:-1][learn[2:] - learn[:-2] == 2]  # with a frame on each side that may be learnt from, too
    # a recording's frames stay neighbours: the first ones of many short pieces would not
    learn = learn[in_runs(len(learn), s.frames, RUN)]
    mine, best = crops[learn], copy.deepcopy(net)
    teach = partial(_teach, net, crops, middles, s=s, state=state, progress=progress, rank=rank, world=world)
    optimiser = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    kept = state.restore(net=net, best=best, optimiser=optimiser) or {"round": -1}
    shape = HandShape(*kept["shape"]) if "shape" in kept else HandShape.template(hand.vertices_mm)
    if not state.curve:
        state.curve.append({"round": 0, "surprise": _surprise(net, hand, crops[held_out], s)})
    if state.done < s.prepare:
        with finish_the_step() as interrupted:
            if teach(hand, None, optimiser, -1, interrupted):
                state.stop(net=net, best=best, optimiser=optimiser, extra=kept)
        state.save(net=net, best=best, optimiser=optimiser, extra=kept)
    # by the curve, not by the steps: a stop in a round's last step leaves that round without its row
    for turn in range(sum("surprise" in row for row in state.curve) - 1, s.rounds):
        if kept["round"] == turn:
            fits = Prediction(kept["rotations"], kept["offset"], kept["points"])
            explained = Explained(fits, kept["loss"], torch.empty(0))
            own = shaped(hand, shape)
        else:
            shape, own, explained = _explain(net, hand, mine, s, shape, turn == 0, progress)
            kept = {"round": turn, "shape": shape.parts(), "loss": explained.loss}
            kept |= {name: getattr(explained.prediction, name) for name in ("rotations", "offset", "points")}
            optimiser = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
            state.save(net=net, best=best, optimiser=optimiser, extra=kept)
        with finish_the_step() as interrupted:  # a stop while the frames are explained need not wait for anything
            if teach(own, explained, optimiser, turn, interrupted):
                state.stop(net=net, best=best, optimiser=optimiser, extra=kept)
        after = _surprise(net, own, crops[held_out], s)
        row = {"round": turn + 1, "surprise": after, "fitted_surprise": explained.loss.median().item()}
        row |= {name: part.tolist() for name, part in vars(shape).items()}
        lowest = min(r["surprise"] for r in state.curve if "surprise" in r)
        state.curve.append(row)
        if after < lowest:
            best.load_state_dict(net.state_dict())
        state.save(net=net, best=best, optimiser=optimiser, extra=kept)
    rounds = [row for row in state.curve if "surprise" in row]
    chosen = min(rounds, key=lambda row: row["surprise"])  # the hand of the round that `best` is from
    if chosen["round"]:
        like = hand.vertices_mm
        shape = HandShape(**{f.name: like.new_tensor(chosen[f.name]) for f in fields(HandShape)})
        hand = shaped(hand, shape, name=f"{hand.name}, adapted")
    return Refined(best.eval(), hand, hand.cloud_mm, state.curve, tuple(_alarms(rounds, len(crops))))


def in_runs(total: int, count: int, length: int) -> Tensor:
    """At most `count` of `total` indices: runs of `length` in a row, evenly spread, so that neighbours stay neighbours."""
    if total <= count:
        return torch.arange(total)
    starts = torch.linspace(0, total - length, -(-count // length)).round().long()
    return (starts[:, None] + torch.arange(length)).flatten().unique()[:count]


def _explain(net, hand, crops, s, shape, first: bool, progress) -> tuple[HandShape, HandRig, Explained]:
    """The user's hand, and the pose of each frame."""
    guess = predict(net, crops)
    # a network that knows nothing but the template sees its bones in anybody's hand
    bundle = replace(s.explain, seen=0.0) if first else s.explain
    if s.reshape:
        found = fit_hand(hand, crops, guess, bundle)
        shape = _corrected(net, hand, crops, guess, bundle, s, found, found if first else shape) if s.correct else found
    own = shaped(hand, shape)
    return shape, own, explain(own, crops, guess, bundle, s.neighbours, progress)


def _corrected(net, hand, crops, guess, bundle, s, found: HandShape, known: HandShape) -> HandShape:
    """What a fit has `found` in the user's frames, less the error that the same fit makes on synthetic frames.

    Those show a hand of `known` shape in the user's poses, and go through sensor, segmentation and network as real ones do:
    the fit's result there, compared with `known`, is its error. This is indirect inference (Gourieroux, Monfort and Renault
    1993, "Indirect inference"); with `known` = `found` it is the parametric bootstrap's correction of a bias.
    """
    own, some = shaped(hand, known), evenly(len(crops), bundle.shape_frames)
    crops, guess = crops[some], guess[some]
    fits = fit_to_depth(own, crops, guess, replace(bundle, smooth=0.0), progress=False)
    clear = fits.loss.argsort()[: max(1, round(s.keep * len(crops)))].sort().values
    poses, generator = fits.prediction[clear], torch.Generator().manual_seed(draw_seed(s.seed, "correction"))
    maker, wrist_mm = (
        Synthesiser(own.to("cpu"), replace(s.arms, noise_share=1.0)),
        wrist_position(poses, own, crops[clear]),
    )
    try:
        made = maker.segmented(poses.rotations.cpu(), wrist_mm.cpu(), generator, progress=False).crops.to(
            wrist_mm.device
        )
    except ValueError:  # no usable hand in any of them: the frames show something else, which an alarm will say
        return found
    again = fit_hand(hand, made, predict(net, made), bundle)
    return HandShape(*(k + f - a for k, f, a in zip(known.parts(), found.parts(), again.parts(), strict=True)))


def _teach(
    net, crops, middles, own, explained, optimiser, turn, interrupted, *, s: BestSettings, state, progress, rank, world
) -> bool:  # fmt: skip
    """Supervised learning, each step on synthetic frames of the user's hand, while the hand is to move evenly in
    `crops`, whose indices `middles` have a frame before and after them.

    explained: the poses of the user's frames; turn: number of the round, -1 for the preparation, which has none. Returns
    whether it was stopped.
    """
    steps, before = (s.steps, s.prepare + turn * s.steps) if turn >= 0 else (s.prepare, 0)
    draw = _draw_frames(own, explained, s, turn, progress, rank, world)
    device, runs = own.vertices_mm.device, s.runs if (s.steady or s.equivariance) and len(middles) else 0
    bfloat16 = has_bfloat16(device)
    net.eval()  # without dropout: there is no lack of frames to learn from
    done, what = state.done - before, f"learn, round {turn + 1}" if turn >= 0 else "learn what segmentation leaves"
    bar = tqdm(range(done, steps), initial=done, total=steps, desc=what, disable=not progress)
    for step in bar:
        generator = torch.Generator().manual_seed(draw_seed(s.seed, "step", turn, step))
        batch = draw(generator)
        middle = middles[torch.randint(max(len(middles), 1), (runs,), generator=generator)[rank::world]]
        three = crops[torch.cat([middle - 1, middle, middle + 1])]
        for group in optimiser.param_groups:
            group["lr"] = s.learning_rate * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
        shown = [batch.crops, three]
        if s.equivariance and len(three):
            angle = math.radians(TURN_DEG) * (2 * torch.rand(3, runs, generator=generator) - 1)
            other, R = turned(three, angle[:, rank::world].flatten().to(three.image))
            shown.append(other)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            prediction = net(torch.cat([part.image for part in shown]))
        seen, moving = prediction[: len(batch)], prediction[len(batch) : len(batch) + len(three)]
        loss, error = pose_loss(seen, batch, own, s.joint_weight)
        if len(three):  # more processes than runs leave some without
            loss = loss + s.steady * _unevenness(moving, own, three, s.jump_mm)
        if s.equivariance and len(three):
            again = prediction[len(batch) + len(three) :]
            loss = loss + s.equivariance * _disagreement(moving, three, again, other, R, own, s.jump_mm)
        optimiser.zero_grad(set_to_none=True)
        (loss / world).backward()
        add_gradients(list(net.parameters()), world)
        optimiser.step()
        state.done += 1
        if step % 10 == 9:
            state.curve.append({"step": state.done, "loss": loss.item(), "to_labels_mm": error.item()})
            bar.set_postfix(loss=f"{loss.item():.3f}")
        if any_of(interrupted, world, own.vertices_mm):
            return True
    return False


def _unevenness(prediction: Prediction, hand: HandRig, crops: Crops, jump_mm: float) -> Tensor:
    """How unevenly the joints move from the first third of the frames over the second to the last, in units of the cube:
    the length of their second difference, saturating at `jump_mm`, of the posed hand and of the points voted for."""
    before, at, after = _seen_joints(prediction, hand, crops).chunk(3)
    return saturating((before - 2 * at + after).norm(dim=-1), jump_mm).sum(1).mean() / crops.cube_mm


def _disagreement(
    prediction, crops, other: Prediction, turned: Crops, R: Tensor, hand: HandRig, jump_mm: float
) -> Tensor:
    """How far the joints seen in turned frames are from those seen in the frames, turned by R [B, 3, 3]; as `_unevenness`."""
    here, there = _seen_joints(prediction, hand, crops), _seen_joints(other, hand, turned)
    return saturating((rotated(here, R) - there).norm(dim=-1), jump_mm).sum(1).mean() / crops.cube_mm


def _seen_joints(prediction: Prediction, hand: HandRig, crops: Crops) -> Tensor:
    """[B, 2, 21, 3] mm: the posed hand's and those voted for; [B, 1, 21, 3] of a network that does not vote."""
    seen = [predicted_joints(prediction, hand, crops)]
    if prediction.points is not None:
        seen.append(voted_joints(prediction, crops))
    return torch.stack(seen, 1)


def draw_seed(seed: int, purpose: str, *numbers: int) -> int:
    """The seed of one random draw of a run: a hash of the run's seed, what is drawn, its round and step; the same after a stop.

    63 bits of SHA-256. A generator on the CPU (mt19937) takes the lowest 32 of them: two given draws share their numbers
    with a chance of 1 to 4 billion, any two of the 700 of a run with one of 1 to 17,000. Then a batch is seen twice.
    """
    digest = hashlib.sha256(repr((seed, purpose, *numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _draw_frames(own, explained, s: BestSettings, turn: int, progress, rank: int, world: int):
    """A function generator -> batch of labelled frames, this process's share of them; see `_teach`."""
    device, cpu = own.vertices_mm.device, own.to("cpu")
    poses, sources, count = None if explained is None else explained.prediction.rotations.cpu(), [], s.synthetic
    segmented = count // 2 if s.segmented else 0
    if segmented:
        maker, generator = Synthesiser(cpu, s.arms), torch.Generator().manual_seed(draw_seed(s.seed, "segmented", turn))
        most = segmented * (s.steps if turn >= 0 else s.prepare)  # that are shown
        drawn = _poses(maker, poses, min(s.segmented, most), generator)
        pool = maker.segmented(*drawn, generator, progress).to(device)
        pick = lambda generator: torch.randint(len(pool), (segmented,), generator=generator)[rank::world]  # noqa: E731
        sources.append(lambda generator: pool[pick(generator)])
    fresh = Synthesiser(cpu, s.synthesis)

    def some_fresh(generator):
        rotations, wrist_mm = _poses(fresh, poses, count - segmented, generator)
        share = slice(rank, None, world)
        return fresh.frames_of(rotations[share], wrist_mm[share], generator).to(device)

    if count > segmented:
        sources.append(some_fresh)
    return lambda generator: joined(*(source(generator) for source in sources))


def _poses(maker: Synthesiser, poses: Tensor | None, count: int, generator) -> tuple[Tensor, Tensor]:
    """Random poses to draw, half of which get the fingers of one of the user's frames, where there are such."""
    rotations, wrist_mm = maker.sample(count, generator)
    if poses is not None:
        rotations[: count // 2, 1:] = poses[torch.randint(len(poses), (count // 2,), generator=generator), 1:]
    return rotations, wrist_mm


def _surprise(net: PoseNet, hand: HandRig, crops: Crops, s: BestSettings) -> float:
    return surprise(hand, crops, predict(net, crops), s.explain).mean().item()


def _alarms(rounds: list[dict], frames: int) -> list[str]:
    """What a user must know who has no labels to see it by."""
    said = []
    if frames < FEW_FRAMES:
        said.append(f"only {frames} frames: fewer than {FEW_FRAMES} do not tell the hand from its poses; record more")
    fitted = rounds[-1]["fitted_surprise"]
    if fitted > NO_HAND:
        said.append(
            f"the frames do not look like a hand: fitted poses explain them with {fitted:.2f}, where hands come to less "
            f"than {NO_HAND}; check camera, unit and side, or keep the base model"
        )
    if min(row["surprise"] for row in rounds[1:]) >= rounds[0]["surprise"]:
        said.append("refinement explains frames it has not seen no better than the base model, which is kept")
    return said
