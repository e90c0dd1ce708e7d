"""What the paper says beside what was found here and why it differs: the table of a notebook.

The paper's words and numbers are read from docs/paper_facts.toml, ours from result files; none is typed in.
"""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from IPython.display import HTML

from .reproduction import UNITS, Report
from .sources import NotMeasured, relative, written

SIGNS = {True: "&#10003;", False: "&#10007;", None: "?"}
HEAD = {"the paper says": 32, "we found": 40, "why": 28}  # and per cent of the width
STYLE = "text-align:left; vertical-align:top; white-space:normal"


def quoted(text: str) -> str:
    """The paper's words as HTML, in which ^{above} and _below are raised and lowered as they are in print."""
    text = re.sub(r"\^\{([^}]*)\}", r"<sup>\1</sup>", escape(text))
    return re.sub(r"_(\w)\b", r"<sub>\1</sub>", text)


class Findings(Report):
    """The report's numbers, each with a tooltip that says where it was read."""

    def show(self, text: str, file: Path, key: str) -> str:
        """The text, and where it was read."""
        return f'<b title="{escape(relative(file))}: {escape(key)}">{text}</b>'

    def of_statement(self, name: str) -> tuple[str, str, str]:
        """A row for a statement of the paper: its words, each check with its sign, and why checks do not hold."""
        made, found, why = self.statements[name], [], [self.statements[name].get("because", "")]
        for claim in (self.judged[name].claim for name in made.get("checks", ())):
            verdict = self.judged[claim.id]
            holds = None if verdict.value is None else verdict.holds
            found.append(f"{SIGNS[holds]} {self.claim(claim.id)}: {escape(claim.text)}")
            why += [] if verdict.holds else [claim.reason]
        for order in made.get("orders", ()):
            try:
                holds = self._compare(*(order[part] for part in ("file", "key", "operator", "other")))
            except NotMeasured:
                holds = None
            found.append(f"{SIGNS[holds]} {escape(order['says'])}")
        return f"“{quoted(made['quote'])}” ({made['place']})", "<br>".join(found), " ".join(filter(None, why))

    def of_claim(self, name: str) -> tuple[str, str, str]:
        """A row for a claim: the target instead of the paper's words."""
        verdict = self.judged[name]
        of, holds = verdict.claim, None if verdict.value is None else verdict.holds
        form, unit = UNITS.get(of.unit, ("g", f" {of.unit}"))
        target = format(of.target, form) + unit
        words = of.source if of.of == "paper" else "nothing"
        return (
            f"{words}; we ask for {escape(of.operator)} {target}",
            f"{SIGNS[holds]} {self.claim(name)}: {escape(of.text)}",
            of.reason,
        )

    def of_fact(self, name: str, found: object, why: str) -> tuple[str, str, str]:
        """A row for a number or word of the paper, and ours beside it: a value, or (result, key, form) of one."""
        fact = self.facts[name]
        if isinstance(found, tuple):
            ours = self.number(*found)
        else:
            ours = written(found) if isinstance(found, int | float) else escape(str(found))
        return f"<b>{written(fact['value'])}</b>: “{quoted(fact['quote'])}” ({fact['place']})", f"<b>{ours}</b>", why


def findings(*rows: str | Sequence) -> HTML:
    """The table. From committed results, whatever profile the notebook ran in.

    Args:
        rows: statements of docs/paper_facts.toml and ids of claims.toml by name, or (fact of docs/paper_facts.toml, ours,
            why it differs).

    Raises:
        KeyError: neither file has such a name.
    """
    report = Findings()
    made = []
    for row in rows:
        if not isinstance(row, str):
            made.append(report.of_fact(*row))
        else:
            made.append(report.of_statement(row) if row in report.statements else report.of_claim(row))
    cells = ["".join(f'<td style="{STYLE}">{cell}</td>' for cell in cells) for cells in made]
    head = "".join(f'<th style="{STYLE}; width:{share}%">{title}</th>' for title, share in HEAD.items())
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return HTML(f'<table style="width:100%"><tr>{head}</tr>{body}</table>')
