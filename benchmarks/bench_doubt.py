"""Wrong settings on purpose: how wrong are the joints, and was the user told?

    python benchmarks/bench_doubt.py   # half an hour on one idle core; writes results/doubt.json, figures/doubt.png

Folders of full frames of the development people A-D and of the real sets with joints are predicted as `hrlib predict` does,
with the right settings and with wrong ones. Beside them stand good folders: drawn hands of the population before drawn sensors,
and real recordings; they should be told nothing. What was measured of a folder (`personal.doubt.Evidence`) is kept in
runs/bench_doubt, where a stopped run goes on, and what is told follows from it: bounds can be tried without a second run.
The bounds in `hrlib/personal/doubt.py` were chosen on these A-D and drawn hands, and three of them moved a little after a look
at real folders: their numbers flatter. Held out are people and drawn hands of seeds that were first measured when all bounds
stood; they count apart, and nothing may be chosen on them.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from random import Random

import numpy as np
import torch
from tqdm import tqdm

from hrlib.companion import results
from hrlib.companion.figures.beyond import figure_doubt
from hrlib.datasets.fetch import dataset_folder
from hrlib.datasets.real_joints import RealJoints, around_bones
from hrlib.frames import find
from hrlib.frames.camera import Camera
from hrlib.frames.crops import evenly
from hrlib.frames.finder import find_hand
from hrlib.frames.folder import DepthFolder, mirrored, write_folder
from hrlib.frames.frame import Frame
from hrlib.hand.joints import POINT_NAMES
from hrlib.hand.rig import HandRig, load_hand
from hrlib.network.checkpoint import load_network
from hrlib.personal import doubt
from hrlib.personal.doubt import Evidence, doubts
from hrlib.personal.first_look import first_look
from hrlib.personal.side import Sides
from hrlib.personal.stream import crop_chunk
from hrlib.personal.track import from_mirror, tracked
from hrlib.support import paths
from hrlib.support.files import write_json
from hrlib.support.ground_truth import note
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings
from hrlib.synthetic.people import KINECT, LONG_THIN, SHORT_THICK, SR300_NEAR, USERS, SimulatedUser, source_of
from hrlib.synthetic.population import Population
from hrlib.synthetic.sensor.model import random_sensor

BAD_MM = 25.0  # more than the same person's error with the right settings: then something must have been told
EVERY = 7  # frames of a recording are so far apart
UNIT_MM, SIZE = 0.125, (480, 640)  # of the files of A-D
FOCAL, UNIT = (0.5, 0.7, 0.8, 1.25, 1.3, 1.5, 2.0), (0.1, 0.25, 0.5, 0.8, 1.25, 2.0, 10.0)
GOOD_FRAMES = 8  # of each good folder
GOOD_SIZE, GOOD_FIELD_DEG, GOOD_DISTANCE_MM = (480, 640), (50.0, 88.0), (350.0, 750.0)  # of good drawn folders
ADULT_MM = 150.0, 230.0  # stretched from the wrist to the tip of the middle finger
TIP_MM = 9.0  # from the tip's point, which lies within it, to the skin's end
LETTERS = "acegikmoqsuwy"  # of ASL Finger Spelling, half of the alphabet
HELD_OUT = 1000  # the first seed of what the bounds were not chosen on
SCALE = 0.85, 1.1  # of a held-out person's hand, beside the morphs


@dataclass(frozen=True)
class Shots:
    """Frames as a user has them, and their truth."""

    frames: list[Frame]
    joints_mm: np.ndarray  # [F, 21, 3], in the frames' camera
    given: str | None = None  # what the user says of the side


# -- wrong settings -------------------------------------------------------------------------------------------------------


def each(shots: Shots, change: Callable[[Frame], Frame]) -> Shots:
    return replace(shots, frames=[change(frame) for frame in shots.frames])


def camera(shots: Shots, change: Callable[[float, float, float, float], Sequence[float]]) -> Shots:
    return each(shots, lambda f: replace(f, camera=Camera(*change(*vars(f.camera).values()))))


def unit(shots: Shots, factor: float) -> Shots:
    return each(shots, lambda f: replace(f, depth_mm=f.depth_mm * np.float32(factor)))


def in_mirror(shots: Shots) -> Shots:
    """As software saves frames that shows the user as in a mirror: a left hand."""
    return replace(each(shots, mirrored), joints_mm=shots.joints_mm * [-1, 1, 1])


def masked(shots: Shots, invert: bool = False, others: int = 0) -> Shots:
    masks = [around_bones(f, joints) for f, joints in zip(shots.frames, shots.joints_mm, strict=True)]
    masks = [~mask if invert else mask for mask in masks[others:] + masks[:others]]
    return replace(shots, frames=[replace(f, mask=m) for f, m in zip(shots.frames, masks, strict=True)])


def pixels(
    shots: Shots, change: Callable[[np.ndarray], np.ndarray], turn: Sequence[Sequence[int]] = np.eye(3)
) -> Shots:
    """Other images before the same camera, whose axes are turned with them."""
    changed = each(shots, lambda f: replace(f, depth_mm=np.ascontiguousarray(change(f.depth_mm))))
    return replace(changed, joints_mm=shots.joints_mm @ np.transpose(turn))


def sparse(depth_mm: np.ndarray) -> np.ndarray:
    """As put onto a colour image of twice the size: three of four pixels are missing."""
    kept = np.zeros_like(depth_mm)
    kept[::2, ::2] = depth_mm[::2, ::2]
    return kept


RIGHT = "right settings"
SETTINGS: dict[str, Callable[[Shots], Shots]] = {
    RIGHT: lambda s: s,
    "right masks": masked,
    **{f"focal x {k:g}": partial(camera, change=lambda fx, fy, cx, cy, k=k: (fx * k, fy * k, cx, cy)) for k in FOCAL},
    **{f"unit x {k:g}": partial(unit, factor=k) for k in UNIT},
    "in a mirror": in_mirror,
    "--side of the other hand": partial(replace, given="left"),
    **{
        f"principal point {x}, {y} px off": partial(
            camera, change=lambda fx, fy, cx, cy, x=x, y=y: (fx, fy, cx + x, cy + y)
        )
        for x, y in ((50, 0), (0, 50), (-50, 50), (100, 0), (100, 100))
    },
    "principal point in the corner": partial(camera, change=lambda fx, fy, cx, cy: (fx, fy, 0, 0)),
    "FX FY CY CX": partial(camera, change=lambda fx, fy, cx, cy: (fx, fy, cy, cx)),
    "FX CX FY CY": partial(camera, change=lambda fx, fy, cx, cy: (fx, cx, fy, cy)),
    "CX CY FX FY": partial(camera, change=lambda fx, fy, cx, cy: (cx, cy, fx, fy)),
    "FX CX CY FY": partial(camera, change=lambda fx, fy, cx, cy: (fx, cx, cy, fy)),
    "inverted masks": partial(masked, invert=True),
    "masks of other frames": partial(masked, others=7),
    "images of half the size": partial(pixels, change=lambda d: d[::2, ::2]),
    "images of twice the size": partial(pixels, change=lambda d: d.repeat(2, 0).repeat(2, 1)),
    "turned by 90 degrees": partial(pixels, change=np.rot90, turn=((0, 1, 0), (-1, 0, 0), (0, 0, 1))),
    "turned by 180 degrees": partial(pixels, change=lambda d: np.rot90(d, 2), turn=((-1, 0, 0), (0, -1, 0), (0, 0, 1))),
    "three of four pixels missing": partial(pixels, change=sparse),
    "depth in steps of 4 mm": partial(pixels, change=lambda d: np.round(d / 4) * np.float32(4)),
    "depth in steps of 16 mm": partial(pixels, change=lambda d: np.round(d / 16) * np.float32(16)),
}


# -- folders --------------------------------------------------------------------------------------------------------------


def fresh(number: int, template: HandRig) -> SimulatedUser:
    """A held-out person, made as A-D are: an adult's hand between the template's and the extremes of C and D."""
    random = np.random.default_rng([HELD_OUT, number])
    while True:
        most, scale, part = (LONG_THIN, SHORT_THICK)[number % 2], random.uniform(*SCALE), random.uniform()
        morphs = {name: part * value for name, value in most.items()}
        if ADULT_MM[0] <= stretched_mm(template.morphed(morphs, scale)) <= ADULT_MM[1]:
            break
    sensor = (KINECT, SR300_NEAR)[number // 2 % 2]
    return SimulatedUser(f"fresh{number}", "held out", morphs, scale, sensor, HELD_OUT + number)


def person(user: SimulatedUser, hand: HandRig, count: int) -> Shots:
    """Full frames of a simulated person, from files."""
    folder = paths.RUNS / "bench_doubt" / f"{user.name}-{count}"
    whole = Camera(user.camera.focal_px, user.camera.focal_px, (SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2)
    note(source_of(user, "test"), "joints_mm, to judge")
    if not (folder / "joints_mm.csv").exists():
        frames = user.frames(hand, count, "test", EVERY)
        write_folder(frames, folder, whole, SIZE, UNIT_MM)
        np.savetxt(folder / "joints_mm.csv", np.reshape([frame.truth.joints_mm for frame in frames], (count, 63)))
    joints = np.loadtxt(folder / "joints_mm.csv").reshape(count, 21, 3)
    return Shots(list(DepthFolder(folder, whole, UNIT_MM)), joints)


def real(name: str, count: int) -> Shots:
    labelled = RealJoints(name)
    chosen = evenly(len(labelled), count).tolist()
    return Shots([labelled[i] for i in chosen], labelled.joints_mm[chosen])


@cache
def population() -> Population:
    return Population.load()


def stretched_mm(hand: HandRig) -> float:
    """From the wrist over the joints of the middle finger to its end."""
    chain = hand.points_mm[[0, *(POINT_NAMES.index(f"middle_{part}") for part in ("base", "middle", "far", "tip"))]]
    return chain.diff(dim=0).norm(dim=1).sum().item() + TIP_MM


def drawn(seed: int, count: int) -> Shots:
    """A good folder: an adult's hand of the population, right or left, before a sensor of a random kind."""
    random = np.random.default_rng([seed, 20])
    while True:
        hand = population().hand(int(random.integers(2**31)))[0]
        if ADULT_MM[0] <= stretched_mm(hand) <= ADULT_MM[1]:
            break
    z, field = random.uniform(*GOOD_DISTANCE_MM), np.radians(random.uniform(*GOOD_FIELD_DEG))
    height, width = GOOD_SIZE
    f, middle = width / 2 / np.tan(field / 2), np.array([width - 1, height - 1]) / 2 + random.normal(0, 0.01, 2) * width
    generator = torch.Generator().manual_seed(int(random.integers(2**31)))
    settings = SyntheticSettings(
        (0.9 * z, 1.1 * z), off_axis=0.1, forearm_share=1.0, forearm_mm=200.0, sensor=random_sensor(generator, 0.2),
        noise_share=1.0,
    )  # fmt: skip
    maker = Synthesiser(hand, settings)
    view = Camera(f, f, *middle)
    drawing = maker.draw(*maker.sample(count, generator), generator, camera=view, size=GOOD_SIZE)
    frames = [Frame(f"drawn/{i:02d}", np.round(depth), view) for i, depth in enumerate(drawing.depth_mm)]
    shots = Shots(frames, drawing.joints_mm.numpy())
    return in_mirror(shots) if random.random() < 0.5 else shots


def good_real(name: str, count: int) -> Shots:
    """A real recording without joints: "sr305/FOLDER" or "asl/LETTER"."""
    side = None
    if name.startswith("sr305"):
        place = dataset_folder("sr305") / name.partition("/")[2]
        frames = DepthFolder(place, Camera(476.007, 476.007, 313.683, 242.755), 0.125)
    else:
        side = "left"
        frames = DepthFolder(dataset_folder("asl_fingerspelling") / "dataset5" / "A" / name[-1], (525.0, 525.0))
        frames.names = [name for name in frames.names if Path(name).name.startswith("depth")]
    return Shots([frames[i] for i in evenly(len(frames), count).tolist()], np.zeros((0, 21, 3)), side)


# -- measured -------------------------------------------------------------------------------------------------------------


def remember_what_is_found():
    """Ask the finder once of each image: a command looks up to three times, and finding takes most of the time."""
    known = {}

    def once(depth_mm, view, near_mm=None, side=True):
        key = hash(depth_mm.tobytes()), view, None if near_mm is None else tuple(near_mm)
        if key not in known:
            known[key] = find_hand(depth_mm, view, near_mm)
        return known[key]

    find.find_hand = doubt.find_hand = once
    return known


def measured(shots: Shots, net, hand: HandRig) -> dict:
    """What a user gets of a folder: the joints' error, and all that doubts rest on."""
    look = first_look(shots.frames, net, hand, shots.given)
    told_net, told_hand = look.told(net, hand)
    frames = shots.frames if look.side == "right" else [mirrored(replace(frame, truth=None)) for frame in shots.frames]
    crops, kept, _ = crop_chunk(frames)
    row = {"evidence": plain(look.evidence), "found": len(kept) / len(frames)}
    if crops is None or not len(shots.joints_mm):
        return row
    seen = tracked(told_net, told_hand, crops, [frame.name for frame in kept], quick=True)
    index = {frame.name: i for i, frame in enumerate(frames)}
    truth = torch.from_numpy(shots.joints_mm[[index[frame.name] for frame in kept]]).float()
    apart = from_mirror(seen.joints_mm, look.side) - truth
    own = apart - apart.mean(1, keepdim=True)
    return row | {"error_mm": apart.norm(dim=-1).mean().item(), "hand_error_mm": own.norm(dim=-1).mean().item()}


def plain(e: Evidence) -> dict:
    return asdict(e) | {"shape": None if e.shape is None else e.shape.tolist()}


def evidence(row: dict) -> Evidence:
    """As `plain` wrote it."""
    e = row["evidence"]
    shape = None if e["shape"] is None else torch.tensor(e["shape"])
    sides = e["sides"] and Sides(**e["sides"])
    return Evidence(**e | {"camera": Camera(**e["camera"]), "image": tuple(e["image"]), "sides": sides, "shape": shape})


def told(row: dict) -> list[str]:
    """What the user is told of a folder: the doubts, and the error of a command that finds no hand."""
    return [*doubts(evidence(row)), *([] if row["found"] else ["no hand in any of the frames"])]


def cells(arguments) -> Iterator[tuple[str, str, Callable[[], Shots]]]:
    """(person or kind of folder, setting, its shots)."""
    hand = load_hand()
    people = [*(USERS[name] for name in arguments.people), *(fresh(i, hand) for i in range(arguments.fresh))]
    for user in people:
        load = cache(partial(person, user, hand, arguments.frames))
        yield from ((user.name, setting, partial(_changed, load, change)) for setting, change in SETTINGS.items())
    for name in ("handpose_x_plus", "d435_table"):
        load = cache(partial(real, name, arguments.frames))
        yield from ((name, setting, partial(_changed, load, change)) for setting, change in SETTINGS.items())
    for seed in range(arguments.good):
        yield "drawn", str(seed), partial(drawn, seed, GOOD_FRAMES)
        yield "drawn anew", str(HELD_OUT + seed), partial(drawn, HELD_OUT + seed, GOOD_FRAMES)
    for name in (*(f"sr305/{place.name}" for place in sorted(dataset_folder("sr305").iterdir())),
                 *(f"asl/{letter}" for letter in LETTERS)):  # fmt: skip
        yield "real", name, partial(good_real, name, GOOD_FRAMES)


def _changed(load: Callable[[], Shots], change: Callable[[Shots], Shots]) -> Shots:
    return change(load())


# -- the result -----------------------------------------------------------------------------------------------------------


def summary(rows: dict[str, dict[str, dict]]) -> dict:
    """Folders whose error grew by more than `BAD_MM` and of which nothing was told, and good ones that were warned.

    Drawn folders of which the model is more than `BAD_MM` wrong with right settings are no good ones: it may say so.
    """
    wrong, silent, good, warned = 0, [], {}, {}
    for name, settings in rows.items():
        right = settings
        if RIGHT in settings:
            right = {s: settings[s] for s in (RIGHT, "right masks") if s in settings}
        good[name] = [s for s, row in right.items() if row.get("error_mm", 0.0) <= BAD_MM]
        warned[name] = {s: told(settings[s]) for s in good[name] if told(settings[s])}
        for setting in settings.keys() - right.keys():
            if settings[setting].get("error_mm", np.inf) > settings[RIGHT]["error_mm"] + BAD_MM:
                wrong += 1
                silent += [] if told(settings[setting]) else [f"{name}: {setting}"]
    counts = {name: len(chosen) for name, chosen in good.items()}
    unsaid, needless = len(silent), sum(len(names) for names in warned.values())
    return {
        "wrong": wrong,
        "silent": sorted(silent),
        "good": counts,
        "warned": warned,
        "told_share": 1 - unsaid / wrong if wrong else None,
        "warned_share": needless / sum(counts.values()) if sum(counts.values()) else None,
    }


def is_held_out(name: str) -> bool:
    return name.startswith("fresh") or name == "drawn anew"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=8, help="of each folder with wrong settings")
    parser.add_argument("--good", type=int, default=100, help="good folders that are drawn, and so many held-out ones")
    parser.add_argument("--fresh", type=int, default=6, help="held-out people, each with all settings")
    parser.add_argument("--write", action="store_true", help="measure right settings only, and write what there is")
    parser.add_argument("--people", default="".join(USERS), help="some of them, for a run that goes on later")
    parser.add_argument("--out", type=Path, default=paths.BENCHMARKS / "doubt.json")
    arguments = parser.parse_args()
    hand = load_hand()
    net = load_network(hand)[0]
    parameters = {"frames": arguments.frames, "good": arguments.good, "fresh": arguments.fresh}
    made = results.provenance(parameters, 0, {"hand": paths.HAND_ASSET, "base model": paths.BASE_MODEL})
    kept = paths.RUNS / "bench_doubt" / f"rows-{arguments.frames}.json"
    conditions = made["data_sha256"]
    stored = json.loads(kept.read_text()) if kept.exists() else {}
    rows = stored["rows"] if stored.get("conditions") == conditions else {}
    todo, found = list(cells(arguments)), remember_what_is_found()
    # right settings first, to which errors are compared; then at random: a stopped run has some of everything
    for name, setting, shots in tqdm(sorted(Random(0).sample(todo, len(todo)), key=is_other), "doubt"):
        if setting in rows.setdefault(name, {}) or (arguments.write and setting != RIGHT):
            continue
        rows[name][setting] = measured(shots(), net, hand)
        write_json(kept, {"conditions": conditions, "rows": rows})
        found.clear()
    there = [(name, setting) for name, setting, _ in todo if setting in rows[name]]
    rows = {
        name: {s: rows[name][s] | {"told": told(rows[name][s])} for n, s in there if n == name} for name, _ in there
    }
    groups = [{n: row for n, row in rows.items() if is_held_out(n) == apart} for apart in (False, True)]
    known, held_out = map(summary, groups)
    metrics = {"measured": len(there), "of": len(todo)} | known | {"held_out": held_out, "folders": rows}
    for title, group in (("the bounds were chosen on", known), ("held out", held_out)):
        print(f"-- {title}", *(f"{key}: {value}" for key, value in group.items()), sep="\n")
    print(f"measured: {len(there)} of {len(todo)}")
    if arguments.people == "".join(USERS):
        results.write_result(arguments.out, "doubt", metrics, values_of(metrics), made, "quick")
        results.save_figure(figure_doubt(rows), "doubt", {}, {}, made, "quick")


def values_of(metrics: dict) -> dict[str, float]:
    """The claims' values."""
    return {"doubt-told": metrics["told_share"], "doubt-good": metrics["warned_share"]}


def is_other(cell: tuple) -> bool:
    return cell[1] != RIGHT


if __name__ == "__main__":
    main()
