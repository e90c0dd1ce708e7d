"""The shapes that signatures name, checked while the tests run.

`install` wraps every public function, method and dataclass of `hrlib` whose signature is annotated. An argument that does not
fit its annotation is an error, unless the function itself refuses it: then its own message, which users see, is what counts.
"""

import copy
import functools
import inspect
import sys
from contextlib import suppress
from importlib.abc import MetaPathFinder
from types import FunctionType

from beartype import BeartypeConf, beartype
from jaxtyping import TypeCheckError, jaxtyped

STRICT = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do for a float
PARAMETERS = "checking the parameters"  # in the message of an error that is about what comes in, not about the result


def checker(function):
    """`function` with its types checked. What cannot be read is no wrong type: a sequence's check reads one item at random."""
    strict = STRICT(function)

    @functools.wraps(function)
    def call(*arguments, **options):
        with suppress(OSError, ValueError):
            return strict(*arguments, **options)

    return call


def checked(function: FunctionType) -> FunctionType:
    """`function` with its annotations checked."""
    strict = jaxtyped(function, typechecker=checker)

    @functools.wraps(function)
    def call(*arguments, **options):
        try:
            return strict(*arguments, **options)
        except TypeCheckError as error:
            if PARAMETERS not in str(error):
                raise
            function(*arguments, **options)  # must raise an error of its own
            raise

    return call


def check_module(module) -> None:
    """Wrap what the module defines; kernels (numba, Triton) are no Python functions and stay as they are."""
    for name, value in list(vars(module).items()):
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isgeneratorfunction(inspect.unwrap(value)):
            continue  # or a context manager: its annotation is of what it yields
        if isinstance(value, FunctionType) and value.__annotations__:
            setattr(module, name, checked(value))
        elif inspect.isclass(value):
            for key, member in list(vars(value).items()):
                plain = isinstance(member, FunctionType) and member.__annotations__
                if plain and (not key.startswith("_") or key in ("__init__", "__call__")):
                    setattr(value, key, checked(member))


class Finder(MetaPathFinder):
    """Finds nothing itself: it adds `check_module` to the end of the import of each module of `hrlib`."""

    def __init__(self):
        self.busy = set()

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "hrlib" or name in self.busy:
            return None
        self.busy.add(name)
        try:
            spec = importlib_find(name, path)
        finally:
            self.busy.discard(name)
        if spec is None or spec.loader is None:
            return spec
        # a copy: pytest loads hrlib/synthetic/test_people.py, by its name, with the one loader of all tests
        spec.loader = copy.copy(spec.loader)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            check_module(module)

        spec.loader.exec_module = exec_module
        return spec


def importlib_find(name, path):
    for finder in sys.meta_path:
        if not isinstance(finder, Finder):
            spec = finder.find_spec(name, path, None)
            if spec is not None:
                return spec
    return None


def install() -> None:
    """From now on, before the first import of `hrlib`."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
