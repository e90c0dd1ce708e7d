"""The table of all claims, for the terminal and for README.md."""

from pathlib import Path

from ..support.files import write_bytes_atomically
from .page import number

BEGIN, END = "<!-- claims: written by `hrlib claims --readme` -->", "<!-- end of claims -->"
COLUMNS = ("id", "claim", "paper", "target", "value")


def _rows(claims: list[dict]) -> list[list[str]]:
    return [[*(number(claim[key]) for key in COLUMNS), "yes" if claim["holds"] else "NO"] for claim in claims]


def as_text(claims: list[dict]) -> str:
    """The claims in aligned columns, the long sentence last, and how many hold."""
    rows = [[r[0], r[5], r[4], r[3], r[1]] for r in _rows(claims)]
    head = ["id", "holds", "value", "target", "claim"]
    widths = [*(max(len(row[i]) for row in [head, *rows]) for i in range(4)), 0]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join([*lines, f"{sum(claim['holds'] for claim in claims)} of {len(claims)} claims hold"])


def as_markdown(claims: list[dict]) -> str:
    """The claims as a Markdown table, one row each."""
    if not claims:
        return "No figures yet.\n"
    head = [[*COLUMNS, "holds"], ["---"] * 6]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in _rows(claims)]
    return "".join("| " + " | ".join(row) + " |\n" for row in head + cells)


def write_into(readme: Path, claims: list[dict]) -> None:
    """Replace what stands between the two marks in README.md. ValueError where a mark is missing."""
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{readme.name} must hold the lines {BEGIN} and {END} once each; put them back")
    before, rest = text.split(BEGIN)
    write_bytes_atomically(readme, f"{before}{BEGIN}\n\n{as_markdown(claims)}\n{END}{rest.split(END)[1]}".encode())
