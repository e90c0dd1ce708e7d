"""Where numba finds no folder for its cache, and where its threads cannot run, and what is said while it fills one."""

import ast
import os
import subprocess
import sys
import tempfile

import numba
import pytest

from hrlib.support import compiled as module
from hrlib.support import paths
from hrlib.support.compiled import compiled


def doubled(x):
    return 2 * x


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_without_a_writable_home_the_code_is_kept_in_a_temporary_folder(monkeypatch, tmp_path):
    usual = module._cached

    def no_place(function, options):
        if not numba.config.CACHE_DIR:
            raise RuntimeError("cannot cache function: no locator available")
        return usual(function, options)

    monkeypatch.setattr(module, "_cached", no_place)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert compiled()(doubled)(21) == 42
    own = tmp_path / f"hrlib-numba-{os.getuid()}"
    assert list(own.rglob("*.nbc")) and own.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    own.chmod(0o777)  # another user could exchange the code: it is compiled for this run alone
    assert compiled()(doubled)(4) == 8 and not numba.config.CACHE_DIR


PROGRAM = """
import os, signal, threading, torch
from hrlib import splat_depth

points = torch.rand(4, 200, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([60.0, 60.0, 1.0])
wanted = splat_depth(points, 5.0, (60, 60))
same = []
def again():
    for _ in range(20):
        same.append(torch.equal(splat_depth(points, 5.0, (60, 60)), wanted))
callers = [threading.Thread(target=again) for _ in range(4)]
[caller.start() for caller in callers], [caller.join() for caller in callers]
assert all(same) and len(same) == 80
many = torch.ones(3_000_000)
total = (many + 1).sum()  # by torch's own threads
child = os.fork()
if child == 0:
    signal.alarm(60)  # one that waits for threads of its parent ends
    os._exit(0 if torch.equal(splat_depth(points, 5.0, (60, 60)), wanted) and (many + 1).sum() == total else 1)
assert os.waitpid(child, 0)[1] == 0
print("right")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_kernels_run_in_threads_and_after_a_fork(layer):
    environment = os.environ | {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    if "No threading layer could be loaded" in run.stderr:
        pytest.skip(f"no {layer} here")
    assert run.stdout == "right\n", run.stderr


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
def test_the_first_call_says_at_a_terminal_that_it_compiles(tmp_path):
    import pty

    script = tmp_path / "script.py"
    script.write_text(
        "from hrlib.support.compiled import compiled\n"
        "@compiled()\ndef f(x): return 2 * x\n"
        "@compiled()\ndef g(x): return 3 * x\n"
        "print(f(2) + g(2))\n"
    )

    def said(terminal: bool) -> str:
        ours, theirs = pty.openpty()
        stderr = theirs if terminal else subprocess.PIPE
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, stderr=stderr, env=environment)
        os.close(theirs)
        assert run.returncode == 0 and run.stdout == b"10\n"
        try:
            return os.read(ours, 10_000).decode() if terminal else run.stderr.decode()
        except OSError:  # nothing was said, and the other end is closed
            return ""
        finally:
            os.close(ours)

    assert said(terminal=True).split() == "hrlib: compiling for this computer, once; some seconds".split()
    assert said(terminal=True) == "", "the code is kept"
    for file in (tmp_path / "cache").rglob("*.nb?"):
        file.unlink()
    assert said(terminal=False) == "", "a program that reads the errors finds none"


def test_kernels_assign_numbers_alone():
    """An array assigned to a part of another one brings the text of an error, which takes seconds to compile."""

    def slow(node):
        targets, value = (node.targets, node.value) if isinstance(node, ast.Assign) else ((), None)
        pairs = [(target, value) for target in targets]
        while pairs:
            target, value = pairs.pop()
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs += zip(target.elts, value.elts, strict=True)
            elif isinstance(target, ast.Subscript) and not isinstance(value, ast.Constant):
                parts = target.slice.elts if isinstance(target.slice, ast.Tuple) else [target.slice]
                if isinstance(value, ast.Tuple) or any(isinstance(part, ast.Slice) for part in parts):
                    yield ast.unparse(node)

    assert list(slow(ast.parse("a[i] = 1, 2").body[0])) and list(slow(ast.parse("a[0, :3], n = b, 1").body[0]))
    kernels = 0
    for file in paths.PACKAGE.rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            decorators = getattr(function, "decorator_list", ())
            if any(isinstance(d, ast.Call) and getattr(d.func, "id", "") == "compiled" for d in decorators):
                kernels += 1
                lines = [line for node in ast.walk(function) for line in slow(node)]
                assert not lines, f"{file.name}, {function.name}: {lines}"
    assert kernels > 50
