"""What tests of the kernels share: Triton's interpreter in a process of its own, its compiler without a GPU, and clouds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
on_device = pytest.mark.skipif(
    DEVICE == "cpu" and not INTERPRETED, reason="no CUDA device: the first test runs this in Triton's interpreter"
)
compiling = pytest.mark.skipif(INTERPRETED, reason="Triton interprets in this process")


def run_interpreted(*files: str, only: str = "") -> None:
    """These files' tests in a process whose Triton interprets."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", *(str(ROOT / "tests" / file) for file in files), "-k", only]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout), done.stdout


def compile_for_h100(kernel, types: list[str], constants: dict, options: dict) -> str:
    """PTX of a kernel for an H100, which needs none: the arguments' types in order, then the constants."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = dict(zip(kernel.arg_names, types + ["constexpr"] * len(constants), strict=True))
    source = ASTSource(kernel, signature, constexprs=constants)
    done = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert done.asm["cubin"]  # the assembler took it too
    return done.asm["ptx"]


def random_points(batch, count, size, seed=0, dtype=torch.float32):
    """A cloud that also has points off the image (up to 8 px), behind the cube (z >= 1) and before it (z < 0)."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    unit = torch.rand(batch, count, 3, generator=generator, dtype=dtype)
    scale = torch.tensor([width + 16, height + 16, 1.6], dtype=dtype)
    return unit * scale - torch.tensor([8, 8, 0.3], dtype=dtype)
