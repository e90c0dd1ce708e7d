"""What a benchmark has measured of some users, kept beside its result file until a run has all of them."""

import json
from pathlib import Path

from hrlib.results import write_json


def read(out: Path, parameters: dict) -> dict:
    """Users of stopped runs and of runs for other users, with the same parameters: name -> what was measured."""
    users = {}
    for file in _files(out):
        if (old := json.loads(file.read_text()))["parameters"] == parameters:
            users |= old["users"]
    return users


def place(out: Path, names: str) -> Path:
    """Where a run for the users `names` keeps what it has."""
    return out.with_name(f"{out.stem}.{names}.partial.json")


def write(out: Path, names: str, parameters: dict, users: dict):
    """Keep what a run for the users `names` has so far."""
    write_json(place(out, names), {"parameters": parameters, "users": users})


def remove(out: Path):
    """The result file is written and has all of it."""
    for file in _files(out):
        file.unlink()


def _files(out: Path) -> list[Path]:
    return list(out.parent.glob(f"{out.stem}.*.partial.json"))
