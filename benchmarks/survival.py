"""What `faults.py` and `kill.py` end with: how often something went wrong, and was survived."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hrlib.companion import results


def counted(rows: Collection[Mapping[str, Any]]) -> dict[str, int]:
    """ "tried", "survived" and "lost" of all rows, of which each lists what it has lost."""
    counts = {key: sum(row[key] for row in rows) for key in ("tried", "survived")}
    return counts | {"lost": sum(len(row["lost"]) for row in rows)}


def write(out: Path, name: str, counts: Mapping[str, int], parts: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """The result file, with the share that was survived as its claim."""
    values = {f"{name}-survived": counts["survived"] / max(counts["tried"], 1)}
    results.write_result(out, name, {**counts, **parts}, values, made, "full")
