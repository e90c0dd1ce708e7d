"""support.roma_alone: the hand comes without torch's compiler, and roma's functions that name it still work."""

import subprocess
import sys

import pytest

CODE = """
import sys
import torch
{before}
from hrlib.hand.rig import load_hand
load_hand()
assert ("torch._dynamo" in sys.modules) == {loaded}, "roma brought the compiler" if not {loaded} else "it is gone"
import roma
product = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
R = roma.special_procrustes(product)
assert torch.allclose(R @ R.mT, torch.eye(3).expand(2, 3, 3), atol=1e-5)
R.sum().backward()
assert product.grad.isfinite().all() and product.grad.abs().sum() > 0
import torch._dynamo
assert torch._dynamo.__file__ and torch._dynamo is sys.modules["torch._dynamo"]
"""


@pytest.mark.parametrize("before", ["", "import torch._dynamo", "import roma"])
def test_the_hand_is_there_without_the_compiler(before):
    code = CODE.format(before=before, loaded=bool(before))
    subprocess.run([sys.executable, "-c", code], check=True)
