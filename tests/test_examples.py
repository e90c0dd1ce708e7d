"""The examples in the docstrings of what `hrlib` exports: each function has one, and each says the truth."""

import doctest
import importlib
import inspect
import subprocess
import sys

import pytest
import torch
from core_fixtures import drawn_frames

import hrlib

PUBLIC = [name for name in hrlib.__all__ if inspect.isfunction(getattr(hrlib, name)) or name in ("Camera", "Tracker")]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_says_what_comes(name):
    frame = drawn_frames()[0][0]
    names = {"hrlib": hrlib, "torch": torch, "depth_mm": frame.depth_mm, "camera": frame.camera}
    module = importlib.import_module(f"hrlib.{hrlib._EXPORTS[name]}")
    example = doctest.DocTestParser().get_doctest(getattr(hrlib, name).__doc__, names, name, module.__file__, 0)
    assert example.examples, f"hrlib.{name} has no example in its docstring"
    said = []
    assert doctest.DocTestRunner().run(example, out=said.append).failed == 0, "".join(said)


def test_import_alone_loads_nothing_heavy():
    code = "import hrlib, sys; print({'torch', 'numpy', 'numba'} & set(sys.modules), sorted(hrlib.__all__) == hrlib.__all__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set() True\n"


def test_types_are_for_other_programs():
    assert (importlib.resources.files("hrlib") / "py.typed").is_file()
