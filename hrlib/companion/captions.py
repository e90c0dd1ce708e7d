"""Captions of the figures: what each shows, on what, and what to look at.

`captions.toml` has them in the order of docs/figures.md. A figure's caption is written into its JSON as it is saved, with
numbers of that JSON filled in; `hrlib claims --write` brings captions and page up to date.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..support import paths
from .sources import found, spread

FIELD = re.compile(r"\{([\w/ ]+?)(?::([^{}/]+))?\}")  # {key} or {key:form}
OTHER = re.compile(r"\{(\w+):([\w/]+/[\w/]+)\}")  # {figure:key}, in what is said of a section
PARTS = ("shows", "on", "look")
BEGIN, END = "<!-- figures: written by `hrlib claims --write` -->", "<!-- end of figures -->"


def sections() -> list[dict[str, Any]]:
    """The sections of `captions.toml`: "title", where there are such "paper", "notebook" and "about", and "figure", a list."""
    return tomllib.loads(paths.CAPTIONS.read_text(encoding="utf-8")).get("section", [])


def drawn_elsewhere() -> set[str]:
    """Names of the figures that only computers without the real frames draw. They are not on docs/figures.md."""
    return {of["name"] for section in sections() for of in section["figure"] if of.get("elsewhere")}


def caption(record: Mapping[str, Any]) -> dict[str, str]:
    """The caption of a figure: {"paper": number in the paper or "", "title", "shows", "on", "look"}.

    Args:
        record: the figure's result, whose numbers the caption tells.

    Raises:
        ValueError: `captions.toml` has no such figure, or the caption asks for a number that the record lacks.
    """
    name = record["name"]
    chosen = [(section, of) for section in sections() for of in section["figure"] if of["name"] == name]
    if len(chosen) != 1:
        raise ValueError(f"captions.toml must have the figure {name!r} once, it has it {len(chosen)} times; correct it")
    section, of = chosen[0]
    return {"paper": section.get("paper", ""), "title": of["title"]} | {
        part: _filled(of[part], record) for part in PARTS
    }


def _filled(text: str, record: Mapping[str, Any]) -> str:
    def value(field: re.Match) -> str:
        try:
            return spread(found(record, field[1]), field[2] or "")
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"the caption of {record['name']} asks for {field[0]}: {error!r}; correct captions.toml"
            ) from error

    return FIELD.sub(value, text)


def figures_part(folder: Path) -> str:
    """What docs/figures.md says of all figures, in Markdown.

    Args:
        folder: with the figures' JSON files.

    Raises:
        ValueError: as `caption`.
        FileNotFoundError: a figure has no JSON file.
    """

    def record(name: str) -> dict[str, Any]:
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))

    lines, unseen = [], drawn_elsewhere()
    for section in sections():
        paper = f"{section['paper']}: " if "paper" in section else ""
        about = OTHER.sub(lambda field: spread(found(record(field[1]), field[2])), section.get("about", ""))
        notebook = f"Notebook {section['notebook']}. " if "notebook" in section else ""
        lines += [f"## {paper}{section['title']}", f"{notebook}{about}".strip()]
        for of in section["figure"]:
            if of["name"] in unseen:
                continue
            said = caption(record(of["name"]))
            lines.append(f"![{of['title']}](../figures/{of['name']}.png)")
            lines.append(f"**{of['title']}.** {said['shows']} *On:* {said['on']} **Look at:** {said['look']}")
            lines.append(f'<!--= of("{of["name"]}") -->')
    return "\n\n".join(line for line in lines if line) + "\n"
