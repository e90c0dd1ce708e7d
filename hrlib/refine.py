"""Refinement (Eq. 1, Sec. 4.4): adapt the network, and the hand, to one user's unlabelled depth frames.

Two recipes. `paper`: gradient descent on Eq. 1 through network, skinning and renderer, on the weights and the points P.
`best`: explain the frames (`hrlib.bundle`), adapt the hand to the user and the network to the hand: it learns from the
poses that explain its own frames well, from synthetic frames of the adapted hand, whose labels are exact and of which half
were segmented as real frames are, and from two facts about all frames, explained or not: a hand moves evenly, and turns as
the camera turns.
"""

import copy
import io
import json
import math
import pickle
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from .bundle import (
    BundleSettings,
    Explained,
    evenly,
    explain,
    fit_hand,
    fit_poses,
    saturating,
    surprise,
    without_forearm,
)
from .crop import Crops, rotated, turned, turned_image
from .evaluate import apart_mm, image_mse, predict, predicted_joints, voted_joints
from .fit import bounded
from .hand import HandRig
from .kinematics import forward_kinematics, joint_positions
from .network import PoseNet, Prediction
from .pipeline import PipelineSettings, evaluate_step, wrist_position
from .pretrain import batch_to, has_bfloat16, pose_loss
from .results import write_bytes_atomically
from .shape import HandShape, shaped
from .synthetic import Synthesiser, SyntheticBatch, SyntheticSettings, joined, rolled
from .workers import finish_the_step, workers

FEW_FRAMES = 200  # fewer of a user than this do not tell the hand's shape from the poses (notebook 10)
RUN = 100  # frames in a row that are learnt from: `bundle` evens the movement in so many
TURN_DEG = 30.0  # by which the camera turns at most where the hand is to be seen to turn with it
NO_HAND = 0.30  # median surprise of fitted poses above which the frames show something else (simulated users: 0.08)


@dataclass(frozen=True)
class PaperSettings:
    """Sec. 4.4: Adam on Eq. 1 for `epochs`, the network's weights and P together. `batch` frames a step, gradients
    accumulated over `micro` at a time (the memory is theirs). cloud_rate_mm: step of each coordinate of P; reach_mm: no
    point of P gets farther from the template than this. turn_deg: each frame is turned in the image by up to so much, as a
    turned camera would see it, so that fewer frames serve (the paper: 0).

    The paper has a rate of 1e-5 and 1000 frames a step, of 72,757: 730 steps. A user here has 4,000 frames, which would
    make 40 steps of it; we keep the number of steps about the same instead, with fewer frames in each.
    """

    epochs: int = 10
    batch: int = 100
    micro: int = 100
    learning_rate: float = 1e-5
    cloud_rate_mm: float = 0.1
    reach_mm: float = 25.0
    turn_deg: float = 0.0
    pipeline: PipelineSettings = PipelineSettings()
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch", "micro"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.turn_deg >= 0:
            raise ValueError(f"turn_deg must not be negative, got {self.turn_deg}")


@dataclass(frozen=True)
class BestSettings:
    """`rounds` of: explain at most `frames` of the user's frames, then `steps` of learning from them. Before the first,
    `prepare` steps of learning what segmentation leaves of an arm, from synthetic frames of the template's hand.

    own, synthetic: frames of each kind in a batch. Own ones are the share `keep` that is explained best, each turned in the
    image by up to `roll_deg`, as a turned camera would see it; with `agreed`, those that are explained well and whose fit
    lies where the network sees the hand's points. Synthetic frames show the adapted hand in the poses of the user's frames
    from other sides (half of them) and in random poses. Half of a batch's have gone through segmentation with all their arm
    (`segmented` of them are made for each round), the others have a piece of it at random. The rate falls along a cosine in
    each round. joint_weight as in pretraining.

    steady: weight of how unevenly the joints move that the network sees in `runs` times three of the user's frames, each
    following the other; all frames serve, since this needs no pose that explains them. equivariance: weight of how far the
    joints seen in the same frames, turned in the image, are from the joints turned, which tells nothing but noise from the
    hand. A jump, or a distance, counts as `jump_mm` at most.
    The parts are switches for the ablation (benchmarks/bench_ablation.py): prepare = 0, steady = 0, equivariance = 0,
    reshape (learn the hand's shape), correct (take off the error that its fit makes on synthetic frames), own = 0 (no poses
    of the user's frames), synthetic = 0, segmented = 0, neighbours (fit bad frames again from good ones), and, off as long
    as it has not shown that it is worth it, roll_deg and agreed.
    """

    rounds: int = 2
    frames: int = 2000
    steps: int = 300
    prepare: int = 60
    own: int = 25
    synthetic: int = 75
    segmented: int = 1000
    keep: float = 0.7
    agreed: bool = False
    roll_deg: float = 0.0
    learning_rate: float = 1e-4
    joint_weight: float = 5.0
    steady: float = 4.0
    equivariance: float = 10.0
    runs: int = 16
    jump_mm: float = 50.0
    reshape: bool = True
    correct: bool = True
    neighbours: bool = True
    bundle: BundleSettings = BundleSettings()
    # segmentation may leave as much forearm as the cube holds; a sensor sees more
    synthesis: SyntheticSettings = SyntheticSettings(forearm_mm=150.0)
    arms: SyntheticSettings = SyntheticSettings(forearm_share=1.0, forearm_mm=300.0, window_px=320)
    seed: int = 0

    def __post_init__(self):
        for name in ("rounds", "frames", "steps", "runs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("prepare", "segmented", "steady"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.own < 0 or self.synthetic < 0 or self.own + self.synthetic < 1:
            raise ValueError(f"own + synthetic must be at least 1, got {self.own} + {self.synthetic}")
        if not self.roll_deg >= 0:
            raise ValueError(f"roll_deg must not be negative, got {self.roll_deg}")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep must be a share in (0, 1], got {self.keep}")


RECIPES = {
    "paper": PaperSettings(),
    "depth": PaperSettings(pipeline=PipelineSettings(terms=("depth",))),  # Fig. 5's self-comparison
    "best": BestSettings(),
}


@dataclass(frozen=True)
class Refined:
    """net: the adapted network (eval mode); hand: the rig to pose with; cloud_mm [N, 3]: P; curve: one record a step or
    stage; warnings: what the run has to say against itself."""

    net: PoseNet
    hand: HandRig
    cloud_mm: Tensor
    curve: list[dict]
    warnings: tuple[str, ...]


def refine(
    net: PoseNet,
    hand: HandRig,
    crops: Crops,
    settings: PaperSettings | BestSettings,
    out: Path | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> Refined:
    """Adapt a copy of `net` to the frames of one user, in the order in which they were taken.

    out: folder for state.pt, from which the same call goes on after a stop (None: nothing is kept). Under torchrun the
    processes share each batch of the learning (the fits are repeated by each of them).
    Raises ValueError for no frames, for frames without depth, or where `out` holds a run of other settings or frames;
    OSError where the state cannot be written; KeyboardInterrupt after Ctrl-C or SIGTERM, when the state is saved.
    """
    if not len(crops):
        raise ValueError("crops must hold at least one frame, got none")
    if not torch.isfinite(crops.centre_mm).all():
        bad = int((~torch.isfinite(crops.centre_mm).all(1)).nonzero()[0])
        raise ValueError(f"frame {bad} has no measured depth (its centre is NaN); leave it out, as crop_frames does")
    with workers(device or "cpu") as (rank, world, device):
        if out is not None:
            Path(out).mkdir(parents=True, exist_ok=True)
        state = _State(net, hand, crops, settings, out, rank, device)
        run = _refine_paper if isinstance(settings, PaperSettings) else _refine_best
        net, hand = copy.deepcopy(net).eval().to(device), hand.to(device)
        return run(net, hand, crops.to(device), settings, state, progress and rank == 0, rank, world)


def check_run(net: PoseNet, hand: HandRig, settings: PaperSettings | BestSettings, out: str | Path) -> None:
    """ValueError where `out` holds a run that `refine` would not go on with, whatever the frames are: the sooner the better,
    since to find the hand in all frames takes minutes."""
    _State(net, hand, None, settings, out, 0, "cpu").stored()


# -- the paper's recipe ---------------------------------------------------------------------------------------------------


def _refine_paper(net, hand, crops, s: PaperSettings, state: "_State", progress, rank, world) -> Refined:
    with torch.no_grad():  # by the base network: a resumed run has the targets that an unbroken one has
        targets = torch.cat([_target(net, hand, crops[i : i + 200], s.pipeline) for i in range(0, len(crops), 200)])
    free = torch.zeros_like(hand.cloud_mm, requires_grad=True)
    parameters = [*net.parameters(), free]
    groups = [{"params": parameters[:-1]}, {"params": [free], "lr": s.cloud_rate_mm}]
    optimiser = torch.optim.Adam(groups, s.learning_rate, fused=True)
    state.restore(net=net, optimiser=optimiser, free=free)
    steps = s.epochs * -(-len(crops) // s.batch)
    bar = tqdm(total=steps, initial=state.done, desc="refine", disable=not progress)
    with finish_the_step() as interrupted:
        for epoch in range(s.epochs):
            order = torch.randperm(len(crops), generator=torch.Generator().manual_seed(s.seed * 1000 + epoch))
            for k, index in enumerate(order.split(s.batch)):
                if epoch * -(-len(crops) // s.batch) + k < state.done:
                    continue
                optimiser.zero_grad(set_to_none=True)
                sums, turn = {}, torch.Generator().manual_seed((s.seed * 1000 + epoch) * 100_000 + k)
                angle = math.radians(s.turn_deg) * (2 * torch.rand(len(index), generator=turn) - 1)
                mine = slice(rank, None, world)
                for part, by in zip(index[mine].split(s.micro), angle[mine].split(s.micro), strict=True):
                    cloud = hand.cloud_mm + bounded(free, s.reach_mm)
                    shown, target = crops[part], targets[part]
                    if s.turn_deg:
                        shown, R = turned(shown, by.to(shown.image))
                        target = turned_image(target, R)
                    step = evaluate_step(net(shown.image), hand, shown, s.pipeline, cloud, target)
                    (step.loss.sum() / len(index)).backward()
                    mse = image_mse(step.rendered, step.target)
                    for name, value in {"mse": mse, "loss": step.loss, **step.terms}.items():
                        sums[name] = sums.get(name, 0.0) + value.sum().item() / len(index)
                _add_gradients(parameters, world)
                optimiser.step()
                state.done += 1
                sums = _add_numbers(sums, world, free)
                state.curve.append({"step": state.done, **sums})
                bar.update()
                bar.set_postfix(mse=f"{sums['mse']:.4f}")
                if _any_of(interrupted, world, free):
                    state.stop(net=net, optimiser=optimiser, free=free)
            state.save(net=net, optimiser=optimiser, free=free)
    bar.close()
    with torch.no_grad():
        moved = bounded(free, s.reach_mm).detach()
    warnings, way = [], moved.norm(dim=-1)
    far, mean = way.max(), way.mean()
    if far > 8:
        warnings.append(f"P swells: its points moved {mean:.1f} mm on average, {far:.1f} mm at most; look at the hand")
    return Refined(net.eval(), hand, hand.cloud_mm + moved, state.curve, tuple(warnings))


def _target(net, hand, crops: Crops, pipeline: PipelineSettings) -> Tensor:
    """f_depth(P_D) without the forearm that segmentation left, as the base network sees the wrist: the model has none, and
    moves the hand over it otherwise (the paper's users wear a wristband and have none either)."""
    prediction = predict(net, crops)
    T = forward_kinematics(hand, prediction.rotations, wrist_position(prediction, hand, crops))
    return without_forearm(crops, T, BundleSettings(wrist_mm=-8.0, pipeline=pipeline))


def _add_gradients(parameters, world: int):
    """Sum over the processes, each of which has its share of the batch."""
    if world > 1:
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)


def _add_numbers(numbers: dict[str, float], world: int, like: Tensor) -> dict[str, float]:
    """Sums over the processes; `like` is of the device that they talk through."""
    if world == 1:
        return numbers
    total = torch.tensor(list(numbers.values()), device=like.device)
    dist.all_reduce(total)
    return dict(zip(numbers, total.tolist(), strict=True))


def _any_of(interrupted: list, world: int, like: Tensor) -> bool:
    """Whether any process was asked to stop: all stop after the same step, or one waits for the others for ever."""
    return _add_numbers({"stop": float(len(interrupted))}, world, like)["stop"] > 0


# -- the best recipe ------------------------------------------------------------------------------------------------------


def _refine_best(net, hand, crops, s: BestSettings, state: "_State", progress, rank, world) -> Refined:
    """After each round the curve has the mean surprise of the network on frames that it has not learnt from."""
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
            if teach(hand, None, None, optimiser, -1, interrupted):
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
            if teach(own, mine, explained, optimiser, turn, interrupted):
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
    bundle = replace(s.bundle, seen=0.0) if first else s.bundle
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
    fits = fit_poses(own, crops, guess, replace(bundle, smooth=0.0), progress=False)
    clear = fits.loss.argsort()[: max(1, round(s.keep * len(crops)))].sort().values
    poses, generator = fits.prediction[clear], torch.Generator().manual_seed(_seed(s, 0) + 2)
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
    net, crops, middles, own, mine, explained, optimiser, turn, interrupted, *, s: BestSettings, state, progress, rank, world
) -> bool:  # fmt: skip
    """Supervised learning, each step on frames of the user as explained and on synthetic frames of their hand, while the
    hand is to move evenly in `crops`, whose indices `middles` have a frame before and after them.

    mine, explained: the frames to learn from, and their poses; turn: number of the round, -1 for the preparation, which has
    neither. Returns whether it was stopped.
    """
    steps, before = (s.steps, s.prepare + turn * s.steps) if turn >= 0 else (s.prepare, 0)
    draw = _draw_frames(own, mine, explained, s, turn, progress, rank, world)
    device, runs = own.vertices_mm.device, s.runs if (s.steady or s.equivariance) and len(middles) else 0
    bfloat16 = has_bfloat16(device)
    net.eval()  # without dropout: there is no lack of frames to learn from
    done, what = state.done - before, f"learn, round {turn + 1}" if turn >= 0 else "learn what segmentation leaves"
    bar = tqdm(range(done, steps), initial=done, total=steps, desc=what, disable=not progress)
    for step in bar:
        generator = torch.Generator().manual_seed(_seed(s, turn, step))
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
        _add_gradients(list(net.parameters()), world)
        optimiser.step()
        state.done += 1
        if step % 10 == 9:
            state.curve.append({"step": state.done, "loss": loss.item(), "to_labels_mm": error.item()})
            bar.set_postfix(loss=f"{loss.item():.3f}")
        if _any_of(interrupted, world, own.vertices_mm):
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


def _seed(s: BestSettings, turn: int, step: int = 0) -> int:
    """Of all that is random in a step: the same after a resume. Multiples of 16; what lies between is for others."""
    return ((s.seed * 64 + turn + 1) * 8192 + step) * 16


def _draw_frames(own, crops, explained, s: BestSettings, turn: int, progress, rank: int, world: int):
    """A function generator -> batch of labelled frames, this process's share of them; see `_teach`."""
    device, cpu = own.vertices_mm.device, own.to("cpu")
    poses, sources = None, []
    if explained is not None:
        rotations, poses = explained.prediction.rotations, explained.prediction.rotations.cpu()
        wrist_mm = wrist_position(explained.prediction, own, crops)
        joints = joint_positions(own, forward_kinematics(own, rotations, wrist_mm))
        mine = SyntheticBatch(crops, rotations, wrist_mm, joints)[_trusted(own, crops, explained, s)]
        if s.own:
            sources.append(lambda generator: _some_own(mine, s, generator, rank, world))
    count = s.synthetic if explained is not None else s.own + s.synthetic
    segmented = count // 2 if s.segmented else 0
    if segmented:
        maker, generator = Synthesiser(cpu, s.arms), torch.Generator().manual_seed(_seed(s, turn) + 1)
        most = segmented * (s.steps if turn >= 0 else s.prepare)  # that are shown
        drawn = _poses(maker, poses, min(s.segmented, most), generator)
        pool = batch_to(maker.segmented(*drawn, generator, progress), device)
        pick = lambda generator: torch.randint(len(pool), (segmented,), generator=generator)[rank::world]  # noqa: E731
        sources.append(lambda generator: pool[pick(generator)])
    fresh = Synthesiser(cpu, s.synthesis)

    def some_fresh(generator):
        rotations, wrist_mm = _poses(fresh, poses, count - segmented, generator)
        share = slice(rank, None, world)
        return batch_to(fresh.frames_of(rotations[share], wrist_mm[share], generator), device)

    if count > segmented:
        sources.append(some_fresh)
    return lambda generator: joined(*(source(generator) for source in sources))


def _some_own(mine: SyntheticBatch, s: BestSettings, generator, rank: int, world: int) -> SyntheticBatch:
    """Frames of the user as they are explained, turned in the image where that is asked for."""
    batch = mine[torch.randint(len(mine), (s.own,), generator=generator)[rank::world]]
    if s.roll_deg:
        by = math.radians(s.roll_deg) * (2 * torch.rand(s.own, generator=generator) - 1)[rank::world]
        batch = rolled(batch, by.to(batch.rotations))
    return batch


def _trusted(own: HandRig, crops: Crops, explained: Explained, s: BestSettings) -> Tensor:
    """Indices of the share `keep` of the frames, the least doubtful first."""
    doubt = explained.loss
    if s.agreed and explained.prediction.points is not None:
        apart = apart_mm(explained.prediction, own, crops)
        # a frame's worse rank of the two, which have no common unit
        doubt = torch.maximum(doubt.argsort().argsort(), apart.argsort().argsort())
    return doubt.argsort()[: max(1, int(s.keep * len(crops)))]


def _poses(maker: Synthesiser, poses: Tensor | None, count: int, generator) -> tuple[Tensor, Tensor]:
    """Random poses to draw, half of which get the fingers of one of the user's frames, where there are such."""
    rotations, wrist_mm = maker.sample(count, generator)
    if poses is not None:
        rotations[: count // 2, 1:] = poses[torch.randint(len(poses), (count // 2,), generator=generator), 1:]
    return rotations, wrist_mm


def _surprise(net: PoseNet, hand: HandRig, crops: Crops, s: BestSettings) -> float:
    return surprise(hand, crops, predict(net, crops), s.bundle).mean().item()


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


# -- going on after a stop ------------------------------------------------------------------------------------------------


class _State:
    """What a run needs to go on: steps done, the curve, and the tensors that it names itself."""

    def __init__(self, net, hand, crops, settings, out, rank, device):
        self.file = None if out is None else Path(out) / "state.pt"
        self.writes, self.device = rank == 0, device
        weights = round(sum(p.double().abs().sum().item() for p in net.parameters()), 3)
        self.config = {"settings": json.loads(json.dumps(asdict(settings)))}
        if crops is not None:
            sums = (round(values.double().sum().item(), 3) for values in (crops.image, crops.centre_mm))
            self.config["frames"] = [len(crops), *sums]
        self.config |= {"start": weights, "hand": hand.fingerprint}
        self.done, self.curve = 0, []

    def stored(self) -> dict | None:
        """What the file holds, if there is one; ValueError where it is of another run."""
        if self.file is None or not self.file.exists():
            return None
        try:
            stored = torch.load(self.file, self.device, weights_only=True)
            config = stored["config"]
        except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
            raise ValueError(f"{self.file} is no state of a refinement ({error!r}); delete it to begin anew") from error
        changed = [k for k in self.config if config.get(k) != self.config[k]]
        if changed:
            raise ValueError(
                f"{self.file.parent} holds a refinement with other {', '.join(changed)}; choose another folder or delete it"
            )
        return stored

    def restore(self, **parts) -> dict:
        """Put the stored state into the given modules, optimisers and tensors, if there is one; returns its `extra`."""
        stored = self.stored()
        if stored is None:
            return {}
        self.done, self.curve = stored["done"], stored["curve"]
        for name, part in parts.items():
            if isinstance(part, Tensor):
                part.data.copy_(stored["parts"][name])
            else:
                part.load_state_dict(stored["parts"][name])
        return stored["extra"]

    def save(self, extra: dict | None = None, **parts):
        if self.file is None or not self.writes:
            return
        tensors = {
            name: part.detach() if isinstance(part, Tensor) else part.state_dict() for name, part in parts.items()
        }
        stored = {"config": self.config, "done": self.done, "curve": self.curve, "parts": tensors, "extra": extra or {}}
        buffer = io.BytesIO()
        torch.save(stored, buffer)
        try:
            write_bytes_atomically(self.file, buffer.getvalue())
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot save the refinement to {self.file.parent}: {error.strerror}. Free space there and run the same "
                "again; what was saved before is kept and goes on",
            ) from error

    def stop(self, **parts):
        self.save(**parts)
        if self.file is not None and self.writes:
            tqdm.write(f"stopped after {self.done} steps; the same again goes on from {self.file}")
        raise KeyboardInterrupt
