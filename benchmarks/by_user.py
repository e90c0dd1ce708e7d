"""What a benchmark has measured of some users, kept beside its result file until a run has all of them."""

import json
from pathlib import Path

from hrlib.companion.results import content_hash
from hrlib.support.files import write_json
from hrlib.support.paths import BASE_MODEL, HAND_ASSET


def read(out: Path, parameters: dict) -> dict:
    """Users of stopped runs and of runs for other users, with the same parameters, hand and base model: name -> what was
    measured."""
    users, same = {}, _conditions(parameters)
    for file in _files(out):
        old = json.loads(file.read_text())
        if all(old.get(key) == value for key, value in same.items()):
            users |= old["users"]
    return users


def place(out: Path, names: str) -> Path:
    """Where a run for the users `names` keeps what it has."""
    return out.with_name(f"{out.stem}.{names}.partial.json")


def write(out: Path, names: str, parameters: dict, users: dict):
    """Keep what a run for the users `names` has so far."""
    write_json(place(out, names), _conditions(parameters) | {"users": users})


def say_kept(out: Path, names: str):
    """What a run ends with that has not all users."""
    print(f"kept in {place(out, names).name}; a run without --users puts all of them together")


def finish(out: Path, record: dict):
    """Write the result file, which has all users; what was kept beside it goes."""
    write_json(out, record)
    for file in _files(out):
        file.unlink()
    print(f"written to {out.name} in {out.parent.name}/")


def _conditions(parameters: dict) -> dict:
    return {"parameters": parameters, "data_sha256": [content_hash(file) for file in (HAND_ASSET, BASE_MODEL)]}


def _files(out: Path) -> list[Path]:
    return list(out.parent.glob(f"{out.stem}.*.partial.json"))
