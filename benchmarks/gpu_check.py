"""All that needs a CUDA device, in one go of at most ten minutes: do the back ends agree, how fast are they, and training.

    python benchmarks/gpu_check.py               # writes benchmarks/results/gpu.json; exit status 2 without a CUDA device

Renderer (Eq. 3-5, forward + backward), rasteriser and sensor are compared with the reference and the numba kernels before
anything is timed. Then come the paper's refinement of 500,000 frames (Sec. 4.6), and, where Nsight Compute is installed,
how near the renderer's kernels are to the device's limits. The rest of the time goes to training the base model further,
in runs/gpu-check: each call goes on where the last one stopped, until all steps are done.
"""

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
import threading
import time
from _thread import interrupt_main
from pathlib import Path

import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout, installed or not

from bench_render import BASE, make_case  # noqa: E402

from hrlib.companion import results  # noqa: E402
from hrlib.frames.crop import crop_batch  # noqa: E402
from hrlib.hand.kinematics import forward_kinematics  # noqa: E402
from hrlib.hand.rig import load_hand  # noqa: E402
from hrlib.hand.skinning import skin, skinning_transforms  # noqa: E402
from hrlib.network.checkpoint import load_network  # noqa: E402
from hrlib.network.posenet import NetworkSettings  # noqa: E402
from hrlib.refine import PaperSettings, refine  # noqa: E402
from hrlib.render import has_triton, splat_depth  # noqa: E402
from hrlib.support.paths import BASE_MODEL, PAPER_MODEL  # noqa: E402
from hrlib.synthetic.frames import Synthesiser, SyntheticSettings, window_cameras  # noqa: E402
from hrlib.synthetic.many_hands import FRAMES  # noqa: E402
from hrlib.synthetic.rasterise import rasterise  # noqa: E402
from hrlib.synthetic.sensor import measure  # noqa: E402
from hrlib.synthetic.sensor.model import KINECT_V1, SR300  # noqa: E402
from hrlib.training.pretrain import PretrainSettings, pretrain  # noqa: E402

BATCHES = [32, 1000]  # a training step's, and what fills the device
AGREEMENT = [  # batch, points, radius (px), image size
    (32, 2048, 5.0, (120, 120)),
    (3, 300, 1.3, (61, 20)),
    (2, 40, 40.0, (9, 70)),
    (1, 20000, 5.0, (480, 640)),
]
GRADIENT_TARGET = 1e-5  # of the largest gradient: sums of up to 80 pixels in different orders
ROUNDED_TARGET = 1e-3  # share of pixels whose noise, rounded to a step or a pixel, falls to the other side in float32
STRAYS_TARGET = 1e-4  # share of drawn pixels next to an edge where float32 and float64 may decide differently


def forward_backward(backend, points, weight, radius, size):
    points.grad = None
    depth = splat_depth(points, radius, size, backend)
    depth.backward(weight)
    return depth.detach(), points.grad


def device_case(batch, count, size):
    points, weight = make_case(batch, count, size)
    return points.detach().cuda().requires_grad_(), weight.cuda()


def agreement() -> list[dict]:
    """Largest differences of the gpu back end from the reference on the same device and from the cpu back end."""
    rows = []
    for batch, count, radius, size in AGREEMENT:
        points, weight = device_case(batch, count, size)
        depth, grad = forward_backward("gpu", points, weight, radius, size)
        row = {"batch": batch, "count": count, "radius": radius, "size": size}
        for other in ("reference", "cpu"):
            leaf, weights = (points, weight) if other == "reference" else (points.detach().cpu(), weight.cpu())
            other_depth, other_grad = forward_backward(other, leaf.requires_grad_(), weights, radius, size)
            image = (depth - other_depth.to(depth.device)).abs().max().item()
            gradient = (grad - other_grad.to(grad.device)).abs().max() / other_grad.abs().max()
            row[other] = {"image": image, "gradient_relative": gradient.item()}
            assert image == 0 and gradient <= GRADIENT_TARGET, f"the gpu renderer differs from {other}: {row}"
        rows.append(row)
    return rows


def milliseconds(function, repeats: int) -> float:
    """Median time of a call, launches included, after one that compiles. Backward runs in the calling thread: autograd's own
    for the device takes longer to wake up than a batch of 32 to render."""
    times = []
    with torch.autograd.set_multithreading_enabled(False):
        function()
        for _ in range(repeats):
            torch.cuda.synchronize()
            start = time.perf_counter()
            function()
            torch.cuda.synchronize()
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def recorded(points, weight, radius, size):
    """A function that repeats forward and backward of the gpu renderer as a CUDA graph, without Python and its launches.

    A training step is recorded likewise (`hrlib.training.pretrain`): a small batch's kernels end before
    Python has launched the next.
    """
    from hrlib.render.gpu import splat  # triton, which a machine without a GPU may lack

    leaf, beside = points.detach().clone().requires_grad_(), torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):  # what compiles, and allocates, is not recorded
        splat(leaf, radius, *size)[0].backward(weight)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        torch.autograd.grad(splat(leaf, radius, *size)[0], leaf, weight)
    return graph.replay


def renderer(repeats: int) -> list[dict]:
    """Forward + backward at the base setting: gpu against reference, and the memory that gpu adds to its inputs."""
    rows = []
    for batch in tqdm(BATCHES, desc="renderer"):
        points, weight = device_case(batch, BASE["count"], BASE["size"])
        case = points, weight, BASE["radius"], BASE["size"]
        row = {"batch": batch, "gpu_ms": milliseconds(lambda case=case: forward_backward("gpu", *case), repeats)}
        points.grad = None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        forward_backward("gpu", *case)
        units = batch * (BASE["count"] + BASE["size"][0] * BASE["size"][1])
        row["bytes_per_point_and_pixel"] = (torch.cuda.max_memory_allocated() - before) / units
        slow_repeats = 5 if batch == BATCHES[0] else 2
        row["reference_ms"] = milliseconds(lambda case=case: forward_backward("reference", *case), slow_repeats)
        row["speed_up"] = row["reference_ms"] / row["gpu_ms"]
        row["graph_ms"] = milliseconds(recorded(*case), repeats)
        rows.append(row)
    return rows


def posed_meshes(hand, maker: Synthesiser, count: int):
    """Random hands with a forearm: vertices [count, V, 3] mm and the cameras [count, 4] that look at them."""
    generator = torch.Generator().manual_seed(0)
    rotations, wrist_mm = maker.sample(count, generator)
    T_cam_joint = forward_kinematics(hand, rotations, wrist_mm)
    vertices = skin(hand.vertices_mm, hand.weights, skinning_transforms(hand, T_cam_joint))
    stump = maker.forearms(maker.sample_arms(count, generator))
    stump = torch.einsum("brc,bvc->bvr", T_cam_joint[:, 0, :3, :3], stump) + wrist_mm[:, None]
    cameras = window_cameras(vertices, maker.settings, generator)
    return torch.cat([vertices, stump], 1), cameras.numpy()


def rasteriser(hand, repeats: int) -> list[dict]:
    """Hands drawn on the device and by numba on this machine's CPU: times, and the share of pixels that differ."""
    maker = Synthesiser(hand, SyntheticSettings())
    size = (maker.settings.window_px,) * 2
    rows = []
    for batch in tqdm(BATCHES, desc="rasteriser"):
        vertices, cameras = posed_meshes(hand, maker, batch)
        arrays = vertices.numpy(), maker.faces, cameras
        tensors = [torch.as_tensor(x).cuda() for x in arrays]
        expected = torch.from_numpy(rasterise(*arrays, size, closed=True))
        drawn = rasterise(*tensors, size, closed=True).cpu()
        strays = ((drawn - expected).abs() > 0.01).sum() / (expected > 0).sum()
        row = {"batch": batch, "size": size, "share_that_differs": strays.item()}
        assert strays <= STRAYS_TARGET, f"the gpu rasteriser draws other hands: {row}"
        row["gpu_ms"] = milliseconds(lambda t=tensors: rasterise(*t, size, closed=True), repeats)
        row["numba_ms"] = milliseconds(lambda a=arrays: rasterise(*a, size, closed=True), 3)
        row["speed_up"] = row["numba_ms"] / row["gpu_ms"]
        rows.append(row)
    return rows


def frames_made(hand, repeats: int, batch: int = 1000) -> dict:
    """Frames a second that the device makes, and the share of pixels in which its sensors and crops differ from numba's."""
    plain, generator = Synthesiser(hand, SyntheticSettings(noise_share=0.0)), torch.Generator().manual_seed(0)
    drawn = plain.draw(*plain.sample(64, generator), generator)
    arrays = drawn.clean_mm, drawn.intrinsics
    clean, cameras = (torch.from_numpy(x).cuda() for x in arrays)
    differ = {}
    for sensor in (KINECT_V1, SR300):
        expected = torch.from_numpy(measure(arrays[0], arrays[1][:, 0], sensor, seed=1))
        strays = (measure(clean, cameras[:, 0], sensor, seed=1).cpu() - expected).abs() > 0.01
        differ[sensor.name] = (strays.sum() / (expected > 0).sum()).item()
    expected = crop_batch(*arrays).image
    strays = (crop_batch(clean, cameras).image.cpu() - expected).abs() > 1e-4
    differ["crop"] = (strays.sum() / (expected > 0).sum()).item()
    assert max(differ.values()) <= ROUNDED_TARGET, f"sensors or crops on the device give other pixels: {differ}"
    maker, seeds = Synthesiser(hand.to("cuda")), iter(range(10**6))
    each = milliseconds(lambda: maker.batch(batch, next(seeds)), repeats)
    return {"batch": batch, "frames_per_s": 1e3 * batch / each, "share_that_differs": differ}


def refinement(hand, distinct: int = 2000, frames: int = 50_000, epochs: int = 10) -> dict:
    """The paper's recipe at the paper's size: batches of 1000, ten passes over 50,000 frames (here 2,000 again and again)."""
    crops = Synthesiser(hand, SyntheticSettings()).batch(distinct, seed=5).crops.to("cuda")
    crops = crops[torch.arange(frames, device="cuda") % distinct]
    net, _ = load_network(hand, PAPER_MODEL)
    torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    done = refine(net, hand, crops, PaperSettings(epochs=epochs, batch=1000, micro=1000), device="cuda")
    seconds = time.perf_counter() - began
    return {
        "frames": frames * epochs,
        "distinct_frames": distinct,
        "seconds": seconds,
        "frames_per_s": frames * epochs / seconds,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
        "mse": [done.curve[0]["mse"], done.curve[-1]["mse"]],
    }


LIMITS = {  # Nsight Compute's names, all in per cent of what the device can do
    "compute": "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "issue": "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "memory": "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed",
    "l1": "l1tex__throughput.avg.pct_of_peak_sustained_active",
    "l2": "lts__throughput.avg.pct_of_peak_sustained_elapsed",
    "dram": "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
}
RENDER_KERNELS = ["_keep_brightest", "_read_keys", "_add_to_winners"]


def limits(seconds: float = 90) -> dict:
    """Of each kernel of the renderer: its time, and per cent of the device's limits, as Nsight Compute counts them."""
    if not shutil.which("ncu"):
        return {"missing": "Nsight Compute (ncu) is not on the PATH"}
    wanted = ",".join([*LIMITS.values(), "gpu__time_duration.sum"])
    command = ["ncu", "--csv", "--page", "raw", "--clock-control", "none", "--metrics", wanted]
    command += ["-k", f"regex:{'|'.join(RENDER_KERNELS)}", sys.executable, __file__, "--render-only"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"missing": f"Nsight Compute took longer than {seconds:.0f} s"}
    lines = [line for line in said.stdout.splitlines() if line.startswith('"')]
    rows = list(csv.DictReader(lines))[1:]  # the first row has the units
    if not rows:
        return {"missing": f"Nsight Compute counted nothing: {(said.stdout + said.stderr)[-400:]}"}
    found = {}
    for row in rows:  # the last launch of each stands
        numbers = {name: float(row[key].replace(",", "")) for name, key in LIMITS.items() if row.get(key)}
        found[row["Kernel Name"]] = numbers | {"time": row.get("gpu__time_duration.sum")}
    return found


def train(
    hand, folder: Path, settings: PretrainSettings, network: NetworkSettings, start: Path, seconds: float
) -> dict:
    """Go on from the weights in `start`, in `folder`, for about `seconds`, or until all steps are done."""
    # The same as Ctrl-C: the step is finished and saved.
    alarm = threading.Timer(seconds, interrupt_main)
    alarm.start()
    began = time.perf_counter()
    try:
        record = pretrain(hand, folder, settings, network, FRAMES, start, device="cuda")
    except KeyboardInterrupt:
        saved = folder / "training.json"
        record = json.loads(saved.read_text()) if saved.exists() else {"steps_done": 0, "curve": [], "seconds": 0.0}
    finally:
        alarm.cancel()
    last = record["curve"][-1] if record["curve"] else None
    done = {"steps": settings.steps, "steps_done": record["steps_done"], "seconds": record["seconds"], "last": last}
    return done | {"seconds_of_this_call": time.perf_counter() - began}


def values_of(metrics: dict) -> dict[str, float]:
    """The claims' values."""
    values = {
        "gpu-speed": min(row["speed_up"] for row in metrics["renderer"]),
        "gpu-memory": max(row["bytes_per_point_and_pixel"] for row in metrics["renderer"]),
        "gpu-refinement": metrics["refinement"]["seconds"],
    }
    if "missing" not in metrics["limits"]:
        slowest = metrics["limits"]["_keep_brightest"]
        values["gpu-limit"] = max(slowest[name] for name in LIMITS)
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.5, help="all of it; training takes what the rest leaves")
    parser.add_argument("--steps", type=int, default=6500, help="of the whole training; 0 leaves it out")
    parser.add_argument("--seed", type=int, default=1, help="of its frames: another for each piece")
    parser.add_argument("--start", type=Path, default=BASE_MODEL, help="the checkpoint that training goes on from")
    parser.add_argument("--render-only", action="store_true", help="a few passes of the renderer, for a profiler")
    parser.add_argument("--repeats", type=int, default=21, help="of each timing on the device")
    parser.add_argument("--training", type=Path, default=ROOT / "runs/gpu-check", help="where the training is kept")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/gpu.json")
    arguments = parser.parse_args()
    started = time.perf_counter()
    if not torch.cuda.is_available() or not has_triton():
        print(
            "gpu_check needs a CUDA device, a CUDA build of torch and triton; "
            f"here: torch {torch.__version__}, {torch.cuda.device_count()} CUDA device(s), "
            f"triton {'installed' if has_triton() else 'missing'}",
            file=sys.stderr,
        )
        sys.exit(2)
    if arguments.render_only:
        points, weight = device_case(BATCHES[-1], BASE["count"], BASE["size"])
        for _ in range(3):
            forward_backward("gpu", points, weight, BASE["radius"], BASE["size"])
        return
    hand = load_hand()
    metrics = {
        "setting": BASE | {"batch": BATCHES},
        "device": torch.cuda.get_device_name(),
        "agreement": agreement(),
        "renderer": renderer(arguments.repeats),
        "rasteriser": rasteriser(hand, arguments.repeats),
        "frames_made": frames_made(hand, arguments.repeats),
        "refinement": refinement(hand),
        "limits": limits(),
    }

    def write() -> list[str]:
        made = results.provenance({"repeats": arguments.repeats, "steps": arguments.steps}, seed=0, data=None)
        return results.write_result(arguments.out, "gpu", metrics, values_of(metrics), made, "quick")

    problems = write()  # before the training, which may be killed
    for name in ("renderer", "rasteriser"):
        for row in metrics[name]:
            print(f"{name}, B={row['batch']}: {row['gpu_ms']:.3f} ms, {row['speed_up']:.0f} times faster")
    for name in ("frames_made", "refinement", "limits"):
        print(f"{name}: {metrics[name]}")
    # what is left, but for what the training needs to stop: its last step and a checkpoint
    seconds = 60 * arguments.minutes - (time.perf_counter() - started) - 15
    if arguments.steps and seconds > 0:
        # frames are cheap to draw here: none is shown twice
        settings = PretrainSettings(
            steps=arguments.steps, batch=1024, fresh=1.0, memory=0, lanes=1, learning_rate=8e-4, decay=1.0,
            checkpoint_every=2000, curve_every=100, bfloat16=False, seed=arguments.seed,
        )  # fmt: skip
        network = NetworkSettings(rotation="6d", keep_probability=1.0, backbone="votes", shape=True)
        metrics["training"] = train(hand, arguments.training, settings, network, arguments.start, seconds)
        write()
        print(f"training: {metrics['training']}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
