"""Refinement beyond the paper, recipe `best`: find the user's hand and tell the network, or adapt the network to the hand.

A network that knows many hands is told the user's (`refine.own_hand`), and learns nothing. Rounds of learning are for one
that knows a single hand, and for those who have the time. `refine.explain` explains the frames. The network learns from
synthetic frames of the adapted hand, whose labels are exact and of which half were segmented as real frames are. It also
learns two facts about all of the user's frames: a hand moves evenly, and turns as the camera turns. Poses of the user's own
frames as labels did not help (docs/method.md).
"""

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ..frames.crops import Crops, evenly, rotated, turned
from ..hand.rig import HandRig
from ..hand.shape import HandShape, shaped
from ..losses import saturating
from ..method import predicted_joints, voted_joints, wrist_position
from ..network.known import knows_many
from ..network.model import PoseModel, ask, check_learns
from ..network.posenet import Prediction
from ..network.predict import predict
from ..support.checks import require_at_least, require_seed
from ..support.parallel import add_gradients, any_of
from ..support.progress import tqdm
from ..support.stops import finish_the_step
from ..synthetic.frames import Synthesiser, SyntheticBatch, SyntheticSettings, joined
from ..training.step import has_bfloat16, pose_loss
from .explain import Explained, ExplainSettings, again_from_neighbours, explain, fit_hand, fit_to_depth
from .gauss_newton import FitSettings, fitted_poses
from .own_hand import compare_hands, judge, tell, with_hand
from .state import Refined, State

FEW_FRAMES = 200  # fewer frames of a user do not tell the hand's shape from the poses (notebook 10)
FEWEST_TO_HOLD_OUT = 10  # with fewer frames none is held out
MANY_TO_HOLD_OUT = 50  # from this number of frames on, every tenth is held out; below, every fifth
RUN = 100  # frames in a row that are explained: `explain` evens the movement within as many
TURN_DEG = 30.0  # the largest turn of the camera with which the hand is to be seen to turn
WARM_UP = 20  # steps in which the rate rises at the beginning of a round
NO_HAND = 0.30  # median surprise of fitted poses above which the frames show something else (simulated users: 0.08)
PREPARATION = -1  # number of the round before the first, which has the template's hand
ROUNDS = 2  # of learning where it is asked for; more add nothing to speak of
JUDGED_FITS = 50  # frames whose fitted poses tell whether they show a hand at all


@dataclass(frozen=True)
class BestSettings:
    """Rounds of explaining and learning. The ablation (benchmarks/bench_ablation.py) sets single parts to 0 or False."""

    # None: none for a network that can be told the user's hand, `ROUNDS` for one that cannot; 0: the hand is found, no more
    rounds: int | None = None
    frames: int = 2000  # at most so many of the user's frames are explained
    steps: int = 300  # of learning in each round
    prepare: int = 60  # steps before the first round, on the template: they teach what segmentation leaves of an arm
    synthetic: int = 100  # frames in a batch; half of them have fingers of the user's frames, the others random ones
    segmented: int = 1000  # frames a round that are segmented with all their arm; they make half of each batch
    keep: float = 0.7  # share of the explained frames, the best ones, that correct the hand's shape
    learning_rate: float = 1e-4  # falls along a cosine in each round
    joint_weight: float = 5.0  # of the mean joint distance, as in pretraining
    steady: float = 4.0  # weight of uneven movement, which needs no pose that explains the frames
    equivariance: float = 10.0  # weight of what turning the image does to the seen hand beyond turning it: noise
    runs: int = 16  # runs of three frames a step on which these two weights act
    jump_mm: float = 50.0  # an uneven movement or a distance counts as this at most
    reshape: bool = True  # learn the hand's shape
    correct: bool = True  # take off the error that the shape's fit makes on synthetic frames
    neighbours: bool = True  # fit bad frames again from good ones
    explain: ExplainSettings = ExplainSettings()
    # how the poses are fitted while the network learns: by Gauss-Newton, in a seventh of the time; None: by Adam, as in
    # benchmarks/results
    poses: FitSettings | None = None
    # of the hand that a network is told: fewer frames and iterations, since the network has seen most of its shape
    find: ExplainSettings = ExplainSettings(iterations=40, shape_frames=100)
    synthesis: SyntheticSettings = SyntheticSettings(forearm_mm=150.0)  # as much forearm as the cube holds
    # before segmentation: a sensor sees more of the arm
    arms: SyntheticSettings = SyntheticSettings(forearm_share=1.0, forearm_mm=300.0, window_px=320)
    seed: int = 0

    def __post_init__(self):
        require_at_least(1, self, "frames", "steps", "synthetic", "runs")
        require_seed(self)
        require_at_least(0, self, "prepare", "segmented", "steady", "equivariance")
        if self.rounds is not None:
            require_at_least(0, self, "rounds")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep must be a share in (0, 1], got {self.keep}")


def refine_best(net: PoseModel, hand: HandRig, crops: Crops, s: BestSettings, state: State) -> Refined:
    """The user's hand and, where asked for, rounds of learning; `hrlib.refine.refine` calls it with a copy of the network.

    After each round the curve has the network's mean surprise by held-out frames, which chooses the best round.
    """
    learn, held_out = split_frames(len(crops))
    judged = crops[held_out if len(held_out) else learn]
    mine = crops[learn[in_runs(len(learn), s.frames, RUN)]]
    best, optimiser = copy.deepcopy(net), torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    state.restore(net=net, best=best, optimiser=optimiser)
    rounds = s.rounds if s.rounds is not None else 0 if knows_many(net) else ROUNDS
    if not state.curve:
        if knows_many(net) or not rounds:
            state.curve += _hands(net, hand, mine, judged, s)
        else:
            state.curve.append({"round": 0, "surprise": judge(net, hand, judged, s.explain)})
    if rounds:
        check_learns(net, crops.image)
        middles = learn[1:-1][learn[2:] - learn[:-2] == 2]  # with a frame on each side that may be learnt from, too
        learner = Learner(net, optimiser, crops, middles, s, state)
        _learn(Explainer(net, hand, mine, s, state.processes.progress), learner, judged, rounds, best)
    chosen = min(_rounds(state), key=lambda row: row["surprise"])  # the hand of the round that `best` is from
    best, hand = with_hand(best, hand, _shape_of(chosen, hand))
    return Refined(best.eval(), hand, hand.cloud_mm, state.curve, tuple(_warnings(state.curve, len(crops))))


def _hands(net: PoseModel, hand: HandRig, mine: Crops, judged: Crops, s: BestSettings) -> list[dict]:
    """Rows of the curve: the hands that were compared, and the best of them as round 0."""
    hands = compare_hands(net, hand, mine, judged, s.find)
    found = min(hands, key=lambda own: own.surprise)
    net, hand = with_hand(net, hand, found.shape)
    some = judged[evenly(len(judged), JUDGED_FITS)]
    fits = fitted_poses(hand, some, predict(net, some), FitSettings(smooth=0.0), progress=False)
    first = {"round": 0, **found.row(), "fitted_surprise": fits.loss.median().item()}
    return [*(own.row() for own in hands), first]


def _learn(explainer: "Explainer", learner: "Learner", judged: Crops, rounds: int, best: PoseModel) -> None:
    """The rounds of learning that are still to do; `best` gets the weights of the best one."""
    net, hand, s, state = explainer.net, explainer.hand, explainer.settings, learner.state
    first = _shape_of(_rounds(state)[0], hand)
    tell(net, first)
    if state.done < s.prepare:
        learner.learn(hand if first is None else shaped(hand, first), None, PREPARATION)
        state.save()
    # by the curve, not by the steps: a stop in a round's last step leaves that round without its row
    for number in range(len(_rounds(state)) - 1, rounds):
        if state.extra.get("round") != number:
            known = HandShape(*state.extra["shape"]) if "shape" in state.extra else first
            tell(net, known)
            shape, fits = explainer.explain(known)
            fitted = {"rotations": fits.prediction.rotations, "loss": fits.loss}
            state.extra = {"round": number, "shape": shape.parts()} | fitted
            learner.optimiser.state.clear()
            state.save()
        shape = HandShape(*state.extra["shape"])
        own = shaped(hand, shape)
        tell(net, shape)
        learner.learn(own, state.extra["rotations"], number)
        row = {"round": number + 1, "surprise": judge(net, own, judged, s.explain)}
        if row["surprise"] < min(earlier["surprise"] for earlier in _rounds(state)):
            best.load_state_dict(net.state_dict())
        row["fitted_surprise"] = state.extra["loss"].median().item()
        state.curve.append(row | {name: part.tolist() for name, part in vars(shape).items()})
        state.save()


def _shape_of(row: dict, hand: HandRig) -> HandShape | None:
    """The hand's shape in a row of the curve; None for the template."""
    names = [f.name for f in fields(HandShape)]
    return HandShape(*(hand.vertices_mm.new_tensor(row[name]) for name in names)) if names[0] in row else None


def split_frames(count: int) -> tuple[Int[Tensor, " L"], Int[Tensor, " H"]]:
    """The indices of the frames to learn from, and of those held out to choose the best round by."""
    every = 10 if count >= MANY_TO_HOLD_OUT else 5
    held_out = torch.arange(count) % every == 4 if count >= FEWEST_TO_HOLD_OUT else torch.zeros(count, dtype=torch.bool)
    return (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]


def in_runs(total: int, count: int, length: int) -> Int[Tensor, " N"]:
    """At most `count` of `total` indices: runs of `length` in a row, evenly spread, so that neighbours stay neighbours."""
    if total <= count:
        return torch.arange(total)
    starts = torch.linspace(0, total - length, -(-count // length)).round().long()
    return (starts[:, None] + torch.arange(length)).flatten().unique()[:count]


def draw_seed(seed: int, purpose: str, *numbers: int) -> int:
    """The seed of one random draw of a run: a hash of the run's seed, what is drawn, its round and step; the same after a stop.

    63 bits of SHA-256. A generator on the CPU (mt19937) takes the lowest 32 of them: two given draws share their numbers
    with a chance of 1 to 4 billion, any two of the 700 of a run with one of 1 to 17,000. Then a batch is seen twice.
    """
    digest = hashlib.sha256(repr((seed, purpose, *numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _rounds(state: State) -> list[dict]:
    """The curve's rows of rounds; the others are of hands that were compared, and of steps."""
    return rounds_of(state.curve)


def rounds_of(curve: list[dict]) -> list[dict]:
    """The rows of rounds in the curve of a refinement by `best`; the others are of hands and of steps."""
    return [row for row in curve if "round" in row]


def _warnings(curve: list[dict], frames: int) -> Iterator[str]:
    """What a user without labels must know."""
    first, *learned = rounds_of(curve)
    if frames < FEW_FRAMES:
        yield f"only {frames} frames: fewer than {FEW_FRAMES} do not tell the hand from its poses; record more"
    if frames < FEWEST_TO_HOLD_OUT:
        few = f"of fewer than {FEWEST_TO_HOLD_OUT} frames none is held out"
        chosen = (
            "round was chosen on frames learned from" if learned else "hand was chosen on frames that it was fitted to"
        )
        yield f"the best {chosen}: {few}"
    fitted = (learned or [first])[-1]["fitted_surprise"]
    if fitted > NO_HAND:
        yield (
            f"the frames do not look like a hand: fitted poses explain them with {fitted:.2f}, where hands come to less "
            f"than {NO_HAND}; check camera, unit and side, or keep the base model"
        )
    if learned and min(row["surprise"] for row in learned) >= first["surprise"]:
        yield "refinement explains frames it has not seen no better than the base model, which is kept"
    if not learned and first["hand"] == "template":
        yield "no other hand explains the frames better than the template, which is kept: the model is the base model"


# -- explain --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Explainer:
    """The user's hand and the pose of each frame, from what the network predicts."""

    net: PoseModel
    hand: HandRig  # the template
    crops: Crops  # the frames to explain
    settings: BestSettings
    progress: bool = False

    def explain(self, known: HandShape | None) -> tuple[HandShape, Explained]:
        """The hand's shape and the poses; known: the shape of the last round, None in the first."""
        s, fit, hand, crops = self.settings, self.settings.explain, self.hand, self.crops
        if known is None:  # a network that knows nothing but the template sees its bones in anybody's hand
            fit = replace(fit, seen=0.0)
        shape = known or HandShape.template(hand.vertices_mm)
        guess = predict(self.net, crops)
        if s.reshape:
            shape = fit_hand(hand, crops, guess, fit, known if knows_many(self.net) else None)
            shape = self.corrected(shape, known or shape, guess, fit) if s.correct else shape
        own = shaped(hand, shape)
        if s.poses is None:
            return shape, explain(own, crops, guess, fit, s.neighbours, self.progress)
        fits = fitted_poses(own, crops, guess, _voted(s.poses, fit), self.progress)
        return shape, again_from_neighbours(own, crops, fits, fit, fit=self._each(fit)) if s.neighbours else fits

    def _each(self, fit: ExplainSettings) -> Callable[[HandRig, Crops, Prediction], Explained]:
        """What fits the poses of frames that are no sequence."""
        if self.settings.poses is None:
            return partial(fit_to_depth, settings=replace(fit, smooth=0.0), progress=False)
        return partial(fitted_poses, settings=replace(_voted(self.settings.poses, fit), smooth=0.0), progress=False)

    def corrected(self, fitted: HandShape, known: HandShape, guess: Prediction, fit: ExplainSettings) -> HandShape:
        """The shape `fitted` to the user's frames, less the error that the same fit makes on synthetic frames.

        These show a hand of `known` shape in the user's poses, and go through sensor, segmentation and network as real ones
        do. The fit's result there, compared with `known`, is its error. This is indirect inference (Gourieroux, Monfort and
        Renault 1993, "Indirect inference"); with `known` = `fitted` it is the parametric bootstrap's correction of a bias.
        """
        s, own, some = self.settings, shaped(self.hand, known), evenly(len(self.crops), fit.shape_frames)
        crops = self.crops[some]
        fits = self._each(fit)(own, crops, guess[some])
        clear = fits.loss.argsort()[: max(1, round(s.keep * len(crops)))].sort().values
        poses = fits.prediction[clear]
        wrist_mm = wrist_position(poses, own, crops[clear])
        maker = Synthesiser(own.to("cpu"), replace(s.arms, noise_share=1.0))
        generator = Generator().manual_seed(draw_seed(s.seed, "correction"))
        try:
            synthetic = maker.segmented(poses.rotations.cpu(), wrist_mm.cpu(), generator, progress=False)
        except ValueError:  # no usable hand in any of them: the frames show something else, as a warning will say
            return fitted
        synthetic = synthetic.crops.to(wrist_mm.device)
        again = fit_hand(self.hand, synthetic, predict(self.net, synthetic), fit)
        return HandShape(*(k + f - a for k, f, a in zip(known.parts(), fitted.parts(), again.parts(), strict=True)))


def _voted(poses: FitSettings, fit: ExplainSettings) -> FitSettings:
    """The settings, without the network's votes where those of the shape's fit do without them."""
    return poses if fit.seen else replace(poses, votes=0.0)


# -- learn ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learner:
    """Steps of learning: labelled synthetic frames of the user's hand, and even, turning movement in the user's frames."""

    net: PoseModel
    optimiser: torch.optim.Optimizer
    crops: Crops  # all frames of the user
    middles: Int[Tensor, " M"]  # indices of frames that may be learnt from together with the frames before and after
    settings: BestSettings
    state: State

    def learn(self, hand: HandRig, poses: Float[Tensor, "B 16 4"] | None, number: int) -> None:
        """The steps of a round that are still to do; a stop saves the state and raises KeyboardInterrupt.

        Args:
            hand: of the synthetic frames.
            poses: joint rotations in the user's frames; None for random poses alone.
            number: of the round, from 0 on, or PREPARATION.
        """
        s, state, world = self.settings, self.state, self.state.processes.world
        steps, before = (s.prepare, 0) if number == PREPARATION else (s.steps, s.prepare + number * s.steps)
        name = "learn what segmentation leaves" if number == PREPARATION else f"learn, round {number + 1}"
        todo = range(state.done - before, steps)
        if not todo:
            return
        frames = RoundFrames(hand, poses, s, number, state)
        self.net.eval()  # without dropout: there is no lack of frames to learn from
        bar = tqdm(todo, initial=todo.start, total=steps, desc=name, disable=not state.processes.progress)
        with finish_the_step() as interrupted:
            for step in bar:
                generator = Generator().manual_seed(draw_seed(s.seed, "step", number, step))
                rate = s.learning_rate * min(1, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
                for group in self.optimiser.param_groups:
                    group["lr"] = rate
                loss, error_mm = self.loss(frames.draw(generator), hand, generator)
                self.optimiser.zero_grad(set_to_none=True)
                (loss / world).backward()
                add_gradients(list(self.net.parameters()), world)
                self.optimiser.step()
                state.done += 1
                if step % 10 == 9:
                    state.curve.append({"step": state.done, "loss": loss.item(), "to_labels_mm": error_mm.item()})
                    bar.set_postfix(loss=f"{loss.item():.3f}")
                if any_of(interrupted, world, hand.vertices_mm):
                    state.stop()
                state.save_at_times()

    def loss(self, batch: SyntheticBatch, hand: HandRig, generator: Generator) -> tuple[Tensor, Tensor]:
        """Loss of a step, and mean joint error (mm) on its synthetic frames."""
        s, rank, world = self.settings, self.state.processes.rank, self.state.processes.world
        runs = s.runs if (s.steady or s.equivariance) and len(self.middles) else 0
        middle = self.middles[torch.randint(max(len(self.middles), 1), (runs,), generator=generator)[rank::world]]
        three = self.crops[torch.cat([middle - 1, middle, middle + 1])]
        shown = [batch.crops, three]
        if s.equivariance and len(three):
            angle = math.radians(TURN_DEG) * (2 * torch.rand(3, runs, generator=generator) - 1)
            other, R = turned(three, angle[:, rank::world].flatten().to(three.image))
            shown.append(other)
        device = hand.vertices_mm.device
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            prediction = ask(self.net, torch.cat([crops.image for crops in shown]))
        labelled, rest = prediction[: len(batch)], prediction[len(batch) :]
        loss, error_mm = pose_loss(labelled, batch, hand, s.joint_weight)
        if len(three):  # more processes than runs leave some without
            here = rest[: len(three)]
            loss = loss + s.steady * (unevenness(_seen_joints(here, hand, three), s.jump_mm) / three.cube_mm)
            if s.equivariance:
                seen, there = _seen_joints(here, hand, three), _seen_joints(rest[len(three) :], hand, other)
                loss = loss + s.equivariance * (disagreement(seen, there, R, s.jump_mm) / three.cube_mm)
        return loss, error_mm


class RoundFrames:
    """The synthetic frames of one round: half of a batch is segmented as a user's frames are, the others are not."""

    def __init__(
        self, hand: HandRig, poses: Float[Tensor, "B 16 4"] | None, s: BestSettings, number: int, state: State
    ):
        self.device, self.poses = hand.vertices_mm.device, None if poses is None else poses.cpu()
        self.share = slice(state.processes.rank, None, state.processes.world)  # of this process
        self.segmented = s.synthetic // 2 if s.segmented else 0
        self.fresh, self.maker = s.synthetic - self.segmented, Synthesiser(hand.to("cpu"), s.synthesis)
        if self.segmented:
            shown = self.segmented * (s.prepare if number == PREPARATION else s.steps)
            maker = Synthesiser(hand.to("cpu"), s.arms)
            generator = Generator().manual_seed(draw_seed(s.seed, "segmented", number))
            drawn = self._poses(maker, min(s.segmented, shown), generator)
            self.pool = maker.segmented(*drawn, generator, state.processes.progress).to(self.device)

    def draw(self, generator: Generator) -> SyntheticBatch:
        """This process's share of a batch."""
        parts = []
        if self.segmented:
            index = torch.randint(len(self.pool), (self.segmented,), generator=generator)
            parts.append(self.pool[index[self.share]])
        rotations, wrist_mm = self._poses(self.maker, self.fresh, generator)
        parts.append(self.maker.frames_of(rotations[self.share], wrist_mm[self.share], generator).to(self.device))
        return joined(*parts)

    def _poses(self, maker: Synthesiser, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Random poses and places of the wrist (mm); half of the poses get the fingers of one of the user's frames."""
        rotations, wrist_mm = maker.sample(count, generator)
        if self.poses is not None:
            index = torch.randint(len(self.poses), (count // 2,), generator=generator)
            rotations[: count // 2, 1:] = self.poses[index, 1:]
        return rotations, wrist_mm


def _seen_joints(prediction: Prediction, hand: HandRig, crops: Crops) -> Float[Tensor, "B V 21 3"]:
    """Joints in mm: the posed hand's and those voted for (V = 2); a network that does not vote has the former alone."""
    seen = [predicted_joints(prediction, hand, crops)]
    if prediction.points is not None:
        seen.append(voted_joints(prediction, crops))
    return torch.stack(seen, 1)


def unevenness(seen_mm: Float[Tensor, "B V 21 3"], jump_mm: float) -> Float[Tensor, ""]:
    """Mean length (mm) of the joints' second difference from the first third of the frames over the second to the last.

    It saturates at `jump_mm`, as a gap in the recording is no movement; summed over the V ways to see the joints.
    """
    before, at, after = seen_mm.chunk(3)
    return saturating((before - 2 * at + after).norm(dim=-1), jump_mm).sum(1).mean()


def disagreement(
    seen_mm: Float[Tensor, "B V 21 3"], there_mm: Float[Tensor, "B V 21 3"], R: Float[Tensor, "B 3 3"], jump_mm: float
) -> Float[Tensor, ""]:
    """Mean distance (mm) of the joints `there_mm`, seen in frames turned by R, from the turned joints; as `unevenness`."""
    return saturating((rotated(seen_mm, R) - there_mm).norm(dim=-1), jump_mm).sum(1).mean()
