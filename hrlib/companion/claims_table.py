"""The claims with their values as tables: for the terminal, for CLAIMS.md, and README.md's summary and headline numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from ..evaluation.people import development_rows, evaluated_rows
from ..support.files import write_together
from . import captions
from .claims import TABLES, Claims, Verdict
from .page import number

BEGIN, END = "<!-- claims: written by `hrlib claims --write` -->", "<!-- end of claims -->"
REAL = "real people"  # a kind of evaluate.json
PEOPLE_BEGIN, PEOPLE_END = "<!-- people: written by `hrlib claims --write` -->", "<!-- end of people -->"
COLUMNS = {"base": "base model", "best": "shape fitted", "best fitted": "shape and pose fitted"}  # none needs a label
HEAD = """# What is claimed, and whether it holds

Written by `hrlib claims --write` from [claims.toml](claims.toml) and the result files in `figures/` and `benchmarks/results/`.
A claim may be expected to fail: then its reason stands below the tables. The exit status of `hrlib claims` is 1 as soon as
anything differs from what is expected, in either direction, or a claim has no value.
"""


def in_one_word(verdict: Verdict) -> str:
    """Whether it holds, and whether that is a surprise."""
    if verdict.value is None:
        return "no value"
    holds = "yes" if verdict.holds else "NO"
    if verdict.problem:
        return f"{holds}, NOT AS EXPECTED"
    return holds if verdict.holds else f"{holds}, as expected"


def failing(judged: Sequence[Verdict]) -> list[Verdict]:
    """Those that do not hold."""
    return [verdict for verdict in judged if not verdict.holds]


def of_table(judged: Sequence[Verdict], table: str) -> list[Verdict]:
    """Those of one table: of the paper, beyond it, engineering."""
    return [verdict for verdict in judged if verdict.claim.of == table]


def problems(judged: Sequence[Verdict], strays: Sequence[str]) -> list[str]:
    """All that differs from what is expected, a line each."""
    return [f"{verdict.claim.id}: {verdict.problem}" for verdict in judged if verdict.problem] + list(strays)


def _value(verdict: Verdict) -> str:
    return "-" if verdict.value is None else number(verdict.value)


def as_text(judged: Sequence[Verdict], strays: Sequence[str], claims: Claims) -> str:
    """Three tables, what does not hold with its reason, what was retired, and what differs from what is expected."""
    lines = []
    for table, title in TABLES.items():
        lines.append(f"== {title}")
        for verdict in of_table(judged, table):
            claim = verdict.claim
            lines.append(f"{claim.id}: {_value(verdict)}, wanted {claim.wanted}: {in_one_word(verdict)}")
            lines.append(f"    {claim.text}")
            lines.append(f"    source: {claim.source}; target: {claim.target_from}; value: {claim.result}.json")
        lines.append("")
    lines.append("== What does not hold, and why")
    lines += [f"{v.claim.id}: {v.claim.reason or v.problem}" for v in failing(judged)] or ["(nothing)"]
    lines += ["", "== Retired", *(f"{old.id}: {old.text}\n    {old.reason}" for old in claims.retired.values()), ""]
    wrong = problems(judged, strays)
    lines += ["== Not as expected", *wrong, ""] if wrong else []
    held = sum(verdict.holds for verdict in judged)
    lines.append(
        f"{held} of {len(judged)} claims hold; {len(wrong)} differ{'s' * (len(wrong) == 1)} from what is expected"
    )
    return "\n".join(lines)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells below their heads, in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def as_page(judged: Sequence[Verdict], strays: Sequence[str], claims: Claims) -> str:
    """The content of CLAIMS.md."""
    head = ("id", "claim", "value", "target", "holds", "source", "where the target comes from")
    parts = [HEAD]
    for table, title in TABLES.items():
        rows = [
            (v.claim.id, v.claim.text, _value(v), v.claim.wanted, in_one_word(v), v.claim.source, v.claim.target_from)
            for v in of_table(judged, table)
        ]
        parts.append(f"## {title}\n\n{markdown_table(head, rows)}")
    why = "".join(f"- **{v.claim.id}**: {v.claim.reason or v.problem}\n" for v in failing(judged))
    parts.append(f"## What does not hold, and why\n\n{why or 'Nothing.'}")
    if wrong := problems(judged, strays):
        parts.append("## Not as expected\n\n" + "".join(f"- {line}\n" for line in wrong))
    old = [(old.id, old.text, old.reason) for old in claims.retired.values()]
    parts.append(f"## Retired\n\n{markdown_table(('id', 'what was claimed', 'why not any more'), old)}")
    return "\n".join(parts)


def as_summary(judged: Sequence[Verdict], strays: Sequence[str]) -> str:
    """What README.md shows: how many claims of each table hold, and whatever is not as expected."""
    rows = []
    for table, title in TABLES.items():
        own = of_table(judged, table)
        rows.append((title, str(len(own)), str(len(own) - len(failing(own))), str(len(failing(own)))))
    wrong = "".join(f"- NOT AS EXPECTED: {line}\n" for line in problems(judged, strays))
    return markdown_table(("", "claims", "hold", "do not"), rows) + ("\n" + wrong if wrong else "")


def as_headline(results: Sequence[Mapping]) -> str:
    """README's headline numbers in mm: real people, test people, then the mean of the development people.

    Those who are alike stand by their error in the last column, the least first.

    Args:
        results: as `results.read_results` has them; without "evaluate", "users" and "people" the table is empty.
    """
    metrics = {result["name"]: result["metrics"] for result in results}
    sets, rows = metrics.get("evaluate", {}).get("sets", {}), []
    evaluated, last = evaluated_rows(sets), [*COLUMNS][-1]
    for name in sorted(evaluated, key=lambda name: (sets[name]["kind"] != REAL, evaluated[name]["mm"][last])):
        row, kind = evaluated[name], sets[name]["kind"].replace("test person", f"test person {name}")
        cells = ["{:.1f}\N{NO-BREAK SPACE}({:.1f})".format(*row["mm"][model]) for model in COLUMNS]
        rows.append((f"{kind}: {sets[name]['description']}", found_in_words(*row["counts"]), *cells))
    if {"users", "people"} <= set(metrics):
        people = development_rows(metrics["users"]["users"], metrics["people"]["users"])
        means = (fmean(row["mm"][model][0] for row in people.values()) for model in COLUMNS)
        label = f"development people {', '.join(people)}, simulated: their mean"
        counts = map(sum, zip(*(row["counts"] for row in people.values()), strict=True))
        rows.append((label, found_in_words(*counts), *(f"{mean:.1f}" for mean in means)))
    return markdown_table(("mean error of 16 joints, mm", "hand found in", *COLUMNS.values()), rows)


def found_in_words(found: int, lost: int, left_out: int) -> str:
    """In how many frames the hand was found: not where something else was taken for it (`lost`), nor where nothing was."""
    total = found + lost + left_out
    return f"all {total} frames" if found == total else f"{found} of {total} frames"


def write_tables(
    folder: Path, judged: Sequence[Verdict], strays: Sequence[str], claims: Claims, results: Sequence[Mapping]
) -> None:
    """Write CLAIMS.md, and what stands between the marks in README.md and docs/figures.md.

    Raises ValueError where a mark is missing.
    """
    readme = folder / "README.md"
    text = between(readme, BEGIN, END, as_summary(judged, strays), readme.read_text(encoding="utf-8"))
    text = between(readme, PEOPLE_BEGIN, PEOPLE_END, as_headline(results), text)
    page, shown = as_page(judged, strays, claims), folder / "docs" / "figures.md"
    figures = between(
        shown, captions.BEGIN, captions.END, captions.figures_part(folder / "figures"), shown.read_text("utf-8")
    )
    write_together({readme: text.encode(), folder / "CLAIMS.md": page.encode(), shown: figures.encode()})


def between(file: Path, begin: str, end: str, content: str, text: str) -> str:
    """The text of a file with other content between two marks. ValueError where one is missing."""
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{file.name} must hold the lines {begin} and {end} once each; put them back")
    before, rest = text.split(begin)
    return f"{before}{begin}\n\n{content}\n{end}{rest.split(end)[1]}"
