"""What is claimed. `claims.toml` says it; results bring a number for each claim, and here the two are compared.

A claim may be expected to fail, with its reason. What differs from what is expected, in either direction, is a problem.
"""

import math
import operator
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..support import paths
from ..support.files import plain

OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}
TABLES = {"paper": "Claims of the paper", "beyond": "Beyond the paper", "engineering": "Engineering"}
EXPECTED = ("holds", "fails")


@dataclass(frozen=True)
class Claim:
    """One checkable statement about a result, as `claims.toml` has it; it has no value of its own."""

    id: str  # short and unique, e.g. "fig3.real.mse"
    text: str  # the statement, to be understood without anything beside it
    of: str  # key of TABLES: who claims it
    source: str  # figure or section of the paper, or "-"
    operator: str  # key of OPERATORS: between value and target
    target: float
    unit: str  # of value and target
    target_from: str  # the paper's number with its place, or "ours: " and the reason
    result: str  # name of the result file that holds the value, without .json
    expected: str = "holds"  # or "fails"
    reason: str = ""  # why it fails, where that is expected

    def __post_init__(self):
        known = {"of": tuple(TABLES), "operator": tuple(OPERATORS), "expected": EXPECTED}
        for key, allowed in known.items():
            if getattr(self, key) not in allowed:
                raise ValueError(f"{self.id}: {key} must be one of {allowed}, got {getattr(self, key)!r}")
        empty = [key for key in ("text", "source", "unit", "target_from", "result") if not getattr(self, key)]
        if empty:
            raise ValueError(f"{self.id}: {', '.join(empty)} must not be empty")
        if not is_number(self.target):
            raise ValueError(f"{self.id}: target must be a finite number, got {self.target!r}")
        if bool(self.reason) != (self.expected == "fails"):
            raise ValueError(f"{self.id}: a reason belongs to what is expected to fail, and to nothing else")

    @property
    def wanted(self) -> str:
        """Operator, target and unit, e.g. ">= 0.4 lower"."""
        return f"{self.operator} {self.target:g} {self.unit}"

    def holds(self, value: float) -> bool:
        """Whether the value meets the target; one that is not finite never does."""
        return is_number(value) and bool(OPERATORS[self.operator](value, self.target))

    def problem(self, value: float | None) -> str:
        """What differs from what is expected of the value; "" if nothing does."""
        if value is None or not is_number(value):
            return "no value" if value is None else f"the value is {value}, not a finite number"
        if self.holds(value) == (self.expected == "holds"):
            return ""
        return "holds, though it is expected to fail" if self.holds(value) else "does not hold"


@dataclass(frozen=True)
class Retired:
    """A claim that is made no longer."""

    id: str
    text: str
    reason: str


@dataclass(frozen=True)
class Claims:
    """All of `claims.toml`."""

    claims: Mapping[str, Claim]  # by id, in the order of the file
    retired: Mapping[str, Retired]
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # result -> parameters that its texts speak of


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_claims(file: Path | None = None) -> Claims:
    """The claims of the file, by default of the repository's `claims.toml`.

    Raises:
        ValueError: an entry is incomplete or contradicts itself; names it.
    """
    file = file or paths.CLAIMS
    with open(file, "rb") as opened:
        content = tomllib.load(opened)
    kinds = {"claims": Claim, "retired": Retired}
    made = {"runs": content.pop("runs", {})}
    for section, kind in kinds.items():
        try:
            made[section] = {name: kind(id=name, **entry) for name, entry in content.pop(section).items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file.name}, section {section}: {error}") from error
    if content or made["claims"].keys() & made["retired"].keys():
        raise ValueError(
            f"{file.name} must have the sections runs, claims and retired alone, and each id in one of them"
        )
    return Claims(**made)


def records(values: Mapping[str, Any], result: str, claims: Claims | None = None) -> list[dict[str, Any]]:
    """The claims of a result as its file has them: id, claim, paper, target, value, holds.

    Args:
        values: id -> what was measured.
        result: name of the result that is written.
        claims: by default those of the repository.

    Raises:
        ValueError: an id is unknown or belongs to another result, or a value is no finite number.
    """
    known = (claims or read_claims()).claims
    made = []
    for name, value in plain(values, "values").items():
        if name not in known:
            raise ValueError(
                f"{result} has a value of {name!r}, which claims.toml does not know: add it or leave it out"
            )
        claim = known[name]
        if claim.result != result:
            raise ValueError(f"the value of {name!r} belongs to the result {claim.result!r}, not to {result!r}")
        if not is_number(value):
            raise ValueError(f"the value of {name!r} must be a finite number, got {value!r}")
        row = {"id": name, "claim": claim.text, "paper": claim.source, "target": claim.wanted, "value": value}
        made.append(row | {"holds": claim.holds(value)})
    return made


def tell(values: Mapping[str, Any], strict: bool = True) -> list[str]:
    """Print each claim of which there is a value; what differs from what is expected of them, a line each.

    strict: claims that hold, though they are expected to fail, count among those.
    """
    known, problems = read_claims().claims, []
    for name, value in plain(values, "values").items():
        claim = known[name]
        verdict = "holds" if claim.holds(value) else "FAILS"
        if claim.expected == "fails":
            verdict += ", though it is expected to fail" if claim.holds(value) else ", as expected"
        print(f"{name}: {value:.4g} (wanted {claim.wanted}) {verdict}: {claim.text}")
        if (problem := claim.problem(value)) and (strict or not claim.holds(value)):
            problems.append(f"{name}: {problem}: got {value:.4g}, wanted {claim.wanted}: {claim.text}")
    return problems


def assert_claims(values: Mapping[str, Any], profile: str = "quick") -> None:
    """Print the claims of a notebook, its last line; AssertionError where one differs from what is expected.

    The profile quick has fewer frames, and processors add in other orders: there, what holds though it is expected to fail is
    printed, and no error. The smoke profile is too short for the claims: it only prints.
    """
    problems = tell(values, strict=profile == "full")
    if problems and profile != "smoke":
        raise AssertionError("not as claims.toml expects:\n  " + "\n  ".join(problems))
    if problems:
        print("(smoke profile: too short to tell)")


@dataclass(frozen=True)
class Verdict:
    """A claim with what the results say of it."""

    claim: Claim
    value: float | None  # None: no result has one
    problem: str  # what differs from what is expected; "": nothing

    @property
    def holds(self) -> bool:
        """Whether there is a value that meets the target."""
        return self.value is not None and self.claim.holds(self.value)


def verdicts(results: Iterable[Mapping[str, Any]], claims: Claims) -> tuple[list[Verdict], list[str]]:
    """Each claim with its value, judged by its present target; and what else is wrong with the values.

    Args:
        results: result files' content: name, profile, and claims with id and value.
        claims: what is claimed.
    """
    found, strays = {}, []
    for result in results:
        strays += other_run(result, claims) if result["claims"] else []
        for row in result["claims"]:
            name, claim = row["id"], claims.claims.get(row["id"])
            if claim is None or claim.result != result["name"]:
                why = "which claims.toml does not know" if claim is None else f"which belongs to {claim.result}"
                strays.append(f"{result['name']} has a value of {name}, {why}")
            elif result["profile"] == "smoke":
                strays.append(f"{result['name']} is of the smoke profile, which is too short for {name}")
            elif name in found:
                strays.append(f"{result['name']} has two values of {name}")
            else:
                found[name] = row["value"]
    judged = [Verdict(claim, found.get(name), claim.problem(found.get(name))) for name, claim in claims.claims.items()]
    return judged, strays


def other_run(result: Mapping[str, Any], claims: Claims) -> list[str]:
    """What a result's parameters have otherwise than the claims' texts say: fewer frames, another rate, one seed."""
    had = result["provenance"]["parameters"] if claims.runs.get(result["name"]) else {}
    wanted = claims.runs.get(result["name"], {}).items()
    return [
        f"{result['name']} is of {key} = {had.get(key)}, its claims speak of {value}"
        for key, value in wanted
        if had.get(key) != value
    ]
