"""The reproduction report: what the paper says, what was run here, what came out and why it differs, on one page.

Its prose is docs/reproduction.md.in, the paper's own numbers are docs/paper_facts.toml, and all others are read from result
files, records and settings. No number is typed in, and each leads to the file and the key that it was read from. The site has
the report as a page (docs/conf.py); `hrlib reproduce` writes build/reproduction.html.
"""

import base64
import re
import tomllib
from collections.abc import Callable, Sequence
from functools import wraps
from html import escape
from importlib import import_module
from pathlib import Path
from statistics import fmean

from ..drawing.page import html_page
from ..support import paths
from ..support.files import write_bytes_atomically
from ..support.ground_truth import in_words
from ..synthetic.people import USERS
from . import results
from .claims import OPERATORS, Claim, Verdict, read_claims, verdicts
from .claims_table import as_headline, markdown_table
from .sources import NotMeasured, Sources, command_of, path_of, relative, spread, written

TEMPLATE = paths.ROOT / "docs" / "reproduction.md.in"
FACTS = paths.ROOT / "docs" / "paper_facts.toml"
VERDICTS = {"reproduced": "holds", "partly": "warn", "not": "fails", "open": "small"}  # and how they look
TALLY = {"reproduced": "are reproduced", "partly": "in part", "not": "not", "open": "not measured yet"}
UNITS = {
    "(share)": (".0%", ""),
    "mm": (".2f", " mm"),
    "AUC": (".2f", ""),
    "(Spearman)": (".2f", ""),
    "/s": (".0f", " /s"),
}
HIDDEN = ("<!--=", "-->")  # a comment, where nobody fills it in
PICTURE = re.compile(r'src="(\.\./figures/[^"]+\.png)"')


def _missing_is_said(function: Callable[..., str]) -> Callable[..., str]:
    """The function, or what to run where something that it reads is not there."""

    @wraps(function)
    def said(self, *arguments, **options):
        try:
            return function(self, *arguments, **options)
        except NotMeasured as missing:
            return f"*not measured yet: run* `{missing}`"

    return said


class Report(Sources):
    """What the template can say. Every number that it shows is kept, with its place, for the tables at the page's end."""

    def __init__(self):
        super().__init__()
        facts = tomllib.loads(FACTS.read_text(encoding="utf-8"))
        self.facts, self.statements = facts["facts"], facts["statements"]
        known = read_claims()
        judged, _ = verdicts(results.read_results(paths.FIGURES, paths.BENCHMARKS), known)
        self.judged = {verdict.claim.id: verdict for verdict in judged}

    # -- numbers of result files ----------------------------------------------------------------------------------------

    @_missing_is_said
    def number(self, name: str, key: str, form: str = ".1f", unit: str = "") -> str:
        """One number, or the range of several."""
        return self.show(spread(self.values(name, key), form) + unit, path_of(name), key)

    @_missing_is_said
    def mean(self, name: str, key: str, form: str = ".1f", unit: str = "") -> str:
        """The mean of several numbers."""
        value = format(fmean(self.values(name, key)), form)
        return self.show(value + unit, path_of(name), f"computed: mean of {key}")

    @_missing_is_said
    def count(self, name: str, key: str) -> str:
        """How many numbers there are."""
        return self.show(f"{len(self.values(name, key)):,}", path_of(name), f"computed: number of {key}")

    @_missing_is_said
    def lower(self, name: str, before: str, after: str, form: str = ".0%", unit: str = "") -> str:
        """By which share a number is lower afterwards; by how much, if the form is no percentage. Or the range."""
        pairs = zip(self.values(name, before), self.values(name, after), strict=True)
        changes = [1 - b / a if form.endswith("%") else a - b for a, b in pairs]
        how = f"1 - [{after}] / [{before}]" if form.endswith("%") else f"[{before}] - [{after}]"
        return self.show(spread(changes, form) + unit, path_of(name), f"computed: {how}")

    @_missing_is_said
    def by_user(
        self,
        name: str,
        columns: Sequence[Sequence[str]],
        first: str = "user",
        at: str = "metrics/users",
    ) -> str:
        """A table with a row for each user, and one of means; or for each entry of another dictionary.

        Args:
            name: of the result file.
            columns: title, key below the user (with " -> " between two: by which share the second is lower), and form.
            first: title of the first column.
            at: key of the users.
        """
        users = list(self.values(name, at)[0])
        rows = [[user, *(self._cell(name, f"{at}/{user}", key, form) for _, key, form in columns)] for user in users]
        if all(cell == "-" for row in rows for cell in row[1:]):
            raise NotMeasured(command_of(name))
        if at.endswith("users"):
            rows.append(["mean", *(self._cell(name, f"{at}/*", key, form, fmean) for _, key, form in columns)])
        lost = f"\n-: not measured yet, run `{command_of(name)}`\n" * any("-" in row for row in rows)
        return markdown_table([first, *(title for title, _, _ in columns)], rows) + lost

    def _cell(self, name: str, at: str, key: str, form: str, of: Callable | None = None) -> str:
        keys = [f"{at}/{part}" for part in key.split(" -> ")]
        try:
            parts = [self.values(name, key) for key in keys]
        except NotMeasured:
            return "-"
        many = [1 - b / a for a, b in zip(*parts, strict=True)] if len(parts) > 1 else parts[0]
        how = f"1 - [{keys[1]}] / [{keys[0]}]" if len(parts) > 1 else keys[0]
        how = f"mean of {how}" if of else how
        where = f"computed: {how}" if of or len(parts) > 1 else how
        return self.show(format(of(many), form) if of else spread(many, form), path_of(name), where)

    @_missing_is_said
    def parameters(self, titles: Sequence[str], names: Sequence[str]) -> str:
        """A table of the recorded parameters that several results have, a column a result."""
        rows = []
        for title in titles:
            key = f"provenance/parameters/{title}"
            rows.append([f"`{title}`", *(self._recorded(name, key) for name in names)])
        return markdown_table(["parameter", *(f"{name}.json" for name in names)], rows)

    def _recorded(self, name: str, key: str) -> str:
        try:
            value = spread(self.values(name, key), "")
        except NotMeasured:
            return "not recorded"
        return self.show(value, path_of(name), key)

    @_missing_is_said
    def alike(self, one: str, other: str, but: str) -> str:
        """Whether two results differ in one parameter alone, and in what else."""
        tables = {name: {"provenance": self.values(name, "provenance")[0]} for name in (one, other)}
        try:
            results.require_alike(tables, [but])
        except ValueError as error:
            differences = str(error).split("differ in ", 1)[-1].removesuffix(": run one again")
            return f"**They are not like with like yet**, for they also differ in {escape(differences)}."
        return f"They differ in `{but}` alone."

    # -- numbers of the code and of the paper --------------------------------------------------------------------------

    def code(self, module: str, name: str, form: str = "") -> str:
        """A setting or constant of the code, e.g. "PaperSettings.epochs". AttributeError if there is no such name."""
        loaded = import_module(module)
        value = loaded
        for part in name.split("."):
            value = getattr(value, part)
        text = written(len(value), "") if form == "len" else written(value, form)
        return self.show(text, Path(loaded.__file__), ("computed: number of " if form == "len" else "") + name)

    def points(self) -> str:
        """How many points P has."""
        from ..hand.rig import load_hand

        return self.show(f"{len(load_hand().cloud_mm):,}", paths.HAND_ASSET, "computed: number of cloud_mm")

    def paper(self, name: str) -> str:
        """A number or word of the paper, and where it is. Raises KeyError for a fact that paper_facts.toml has not."""
        fact = self.facts[name]
        return self.show(written(fact["value"]), FACTS, f"facts/{name}: “{fact['quote']}”") + f" ({fact['place']})"

    def paper_steps(self, frames: str) -> str:
        """Update steps of the paper's refinement: frames over batch, times epochs."""
        count, batch, epochs = (self.facts[name]["value"] for name in (frames, "batch", "epochs"))
        return self.show(
            f"{-(-count // batch) * epochs:,}",
            FACTS,
            f"computed: [facts/{frames}] / [facts/batch], rounded up, x [facts/epochs]",
        )

    def people_names(self) -> str:
        """The development people."""
        return self.show(" ".join(USERS), paths.PACKAGE / "synthetic" / "people.py", "USERS")

    # -- claims and verdicts -------------------------------------------------------------------------------------------

    @_missing_is_said
    def claim(self, name: str) -> str:
        """A claim's measured value. Raises KeyError for a claim that claims.toml has not."""
        verdict = self.judged[name]
        if verdict.value is None:
            raise NotMeasured(command_of(verdict.claim.result))
        self.values(verdict.claim.result, "claims")  # the file counts as read
        return self.show(
            _with_unit(verdict.value, verdict.claim.unit),
            path_of(verdict.claim.result),
            f"claims/id={name}/value",
        )

    def claims(self, *names: str) -> str:
        """A table of claims: text, wanted, where the target comes from, found, and whether it holds.

        Args:
            names: their ids; one with `*` at its end stands for all that begin so.

        Raises:
            KeyError: claims.toml has no such claim.
        """
        rows = []
        for verdict in [verdict for name in names for verdict in self._judged(name)]:
            of, word, why = verdict.claim, "open", ""
            if verdict.value is not None:
                looks, word = ("holds", "yes") if verdict.holds else ("fails", "no")
                word, why = f'<span class="{looks}">{word}</span>', "" if verdict.holds else of.reason
            text = f"`{of.id}`<br>{of.text}" + (f"<br>*Why not:* {why}" if why else "")
            rows.append([text, f"{_wanted(of)}<br>*{of.target_from}*", self.claim(of.id), word])
        return markdown_table(["check", "wanted", "found", "holds"], rows)

    def _judged(self, name: str) -> list[Verdict]:
        if not name.endswith("*"):
            return [self.judged[name]]
        chosen = [verdict for key, verdict in self.judged.items() if key.startswith(name[:-1])]
        if not chosen:
            raise KeyError(f"no claim's id begins with {name[:-1]}")
        return chosen

    def checks(self, statement: str) -> list[tuple[str, bool | None]]:
        """The checks of a statement of the paper, each in words, and whether it holds; None where it is not measured."""
        made = self.statements[statement]
        judged = [self.judged[name] for name in made.get("checks", ())]
        listed = [(self._words(verdict), None if verdict.value is None else verdict.holds) for verdict in judged]
        for order in made.get("orders", ()):
            name, key, operator, other = (order[part] for part in ("file", "key", "operator", "other"))
            title = f"{relative(path_of(name))}: {key} {operator} {other}"
            words = f'<span title="{escape(title)}">{order["says"]}</span> (`{name}.json`)'
            try:
                listed.append((words, self._compare(name, key, operator, other)))
            except NotMeasured:
                listed.append((words, None))
        return listed

    def _compare(self, name: str, key: str, operator: str, other: str | float) -> bool:
        ours = self.values(name, key)
        theirs = self.values(name, other) if isinstance(other, str) else [other] * len(ours)
        return all(OPERATORS[operator](a, b) for a, b in zip(ours, theirs, strict=True))

    def so(self, name: str, key: str, operator: str, other: str | float) -> bool:
        """Whether each number at a key compares so with those at another key, or with a number: for sentences that say it."""
        try:
            return self._compare(name, key, operator, other)
        except NotMeasured:
            return False

    def _words(self, verdict: Verdict) -> str:
        of = verdict.claim
        return f"`{of.id}` ({self.claim(of.id)}, wanted {_wanted(of)})"

    def verdict(self, statement: str) -> str:
        """reproduced, partly, not; or open, as long as a check is not measured."""
        holding = [holds for _, holds in self.checks(statement)]
        most = self.statements[statement].get("at_most", "reproduced")
        if None in holding:
            return "open"
        reached = "not" if holding and not any(holding) else "reproduced" if all(holding) else "partly"
        return max(most, reached, key=list(VERDICTS).index)

    def tally(self, verdict: str) -> str:
        """How many statements of the paper have this verdict. Raises KeyError for a word that is none."""
        VERDICTS[verdict]
        return str(sum(self.verdict(statement) == verdict for statement in self.statements))

    def statement(self, name: str) -> str:
        """What the paper says, in its words and with its place, and the verdict with its checks."""
        made, checks = self.statements[name], self.checks(name)
        words = {True: "holds", False: "does not hold", None: "not measured yet"}
        listed = "; ".join(f"{check} {words[holds]}" for check, holds in checks) or "there is no check"
        because = f" {made['because']}" if "because" in made else ""
        return f"> “{made['quote']}” ({made['place']})\n\n**Verdict: {self._coloured(name)}.** Checks: {listed}.{because}\n"

    def summary(self) -> str:
        """A table of all statements of the paper with their verdicts."""
        rows = []
        for name, made in self.statements.items():
            failing = [check for check, holds in self.checks(name) if holds is False]
            why = (f"Does not hold: {'; '.join(failing)}. " if failing else "") + made.get("because", "")
            rows.append([made["place"], made["title"], self._coloured(name), why or "All checks hold."])
        return markdown_table(["place", "the paper's statement", "verdict", "why"], rows)

    def verdict_list(self) -> str:
        """The verdicts in one line, and the statements that are not reproduced with their checks."""
        counts = [f"{self.tally(verdict)} {words}" for verdict, words in TALLY.items() if self.tally(verdict) != "0"]
        lines = [f"Of {len(self.statements)} statements of the paper, {', '.join(counts)}."]
        for name, made in self.statements.items():
            if self.verdict(name) == "not":
                failing = "; ".join(check for check, holds in self.checks(name) if holds is False)
                why = made.get("because", f"Does not hold: {failing}.")
                lines.append(f"- {self._coloured(name)}: {made['title']} ({made['place']}). {why}")
        return f"{lines[0]}\n\n" + "\n".join(lines[1:])

    def headline(self) -> str:
        """README's table of everybody whose joints are known."""
        return as_headline(results.read_results(paths.FIGURES, paths.BENCHMARKS))

    def of(self, name: str) -> str:
        """What a figure's claims came to, its data and its profile."""
        try:
            made = {key: self.values(name, key)[0] for key in ("profile", "provenance")}
        except NotMeasured as missing:
            return f"*Not drawn yet: run* `{missing}`"
        lines = []
        for verdict in self.judged.values():
            if verdict.claim.result == name and verdict.value is not None:
                looks, word = ("holds", "holds") if verdict.holds else ("fails", "does not hold")
                lines.append(f'- {self._words(verdict)} <span class="{looks}">{word}</span>: {verdict.claim.text}')
        source = made["provenance"].get("parameters", {}).get("source")
        data = "".join(
            f"{words}: {value}. " for words, value in (("Data", source), ("Profile", made["profile"])) if value
        )
        return "\n".join([*lines, "", f"*{data}Numbers: [{name}.json](../figures/{name}.json)*"])

    def _coloured(self, statement: str) -> str:
        verdict = self.verdict(statement)
        words = {"partly": "partly reproduced", "not": "not reproduced", "open": "not measured yet"}
        return f'<span class="{VERDICTS[verdict]}">{words.get(verdict, verdict)}</span>'

    # -- tables of a kind of their own ---------------------------------------------------------------------------------

    @_missing_is_said
    def curves(self, name: str, key: str) -> str:
        """The success curves of a list, a row each: on which frames, whose, and the mean errors in mm by the bias removed."""
        rows, head = (
            [],
            ["on", "model", "frames", "joints", "as they are, mm", "the paper's bias removed", "offset removed"],
        )
        for curve in self.values(name, key):
            published = curve["kind"] == "published"
            if curve["protocol"]["bias"] == "none" and (curve["in_fig8"] or not published):
                of = f"{key}/name={curve['name']},dataset={curve['dataset']},protocol.bias="
                counts = [self.number(name, f"{of}none/{count}", "d") for count in ("frames", "protocol/joints")]
                errors = [self.number(name, f"{of}{bias}/mean_mm") for bias in ("none", "paper", "offset")]
                on = curve["dataset"].upper() if published else curve["kind"]
                rows.append([on, curve["name"], *counts, *errors])
        return markdown_table(head, rows)

    @_missing_is_said
    def people(self) -> str:
        """The test people and the real people with joints: frames, and the mean joint error of each model, mm."""
        at, rows, models = "metrics/sets", [], ("base", "best", "base fitted", "best fitted")
        for name, row in self.values("evaluate", at)[0].items():
            place = f"{at}/{name}"
            cells = [self._cell("evaluate", place, key, "d") for key in ("frames", "left_out", "lost")]
            for how in ("as_they_are", "offset_removed"):
                errors = [f"models/{model}/found/16/{how}/mean_mm" for model in models]
                cells += [
                    self._cell("evaluate", place, key, ".1f") for key in errors[: 2 if how == "as_they_are" else 4]
                ]
            rows.append([name, f"{row['kind']}: {row.get('description', '')}", *cells])
        counts, errors = ("frames", "left out", "lost"), ("base, as it is", "best, as it is", *models)
        return markdown_table(["who", "what", *counts, *errors], rows)

    @_missing_is_said
    def faults(self) -> str:
        """What was let go wrong, how often it was tried, survived and lost something."""
        groups = self.values("faults", "metrics/groups")[0] | {
            "killed at random moments": self.values("kill", "metrics/jobs")[0]
        }
        rows = [
            [group, name, str(row["tried"]), str(row["survived"]), str(len(row["lost"]))]
            for group, faults in groups.items()
            for name, row in faults.items()
        ]
        return markdown_table(["kind", "fault", "tried", "survived", "lost"], rows)

    # -- figures, files, numbers ---------------------------------------------------------------------------------------

    def figure(self, name: str, caption: str) -> str:
        """A picture of `figures/` with its caption, and where its numbers are."""
        try:
            profile = self.values(name, "profile")[0]
        except NotMeasured as missing:
            return f"*Not drawn yet: run* `{missing}`"
        picture = f"![{escape(caption)}](../figures/{name}.png)\n\n"
        return picture + f"*{caption}* Numbers: [{name}.json](../figures/{name}.json), profile {profile}.\n"

    def file_table(self) -> str:
        """The files that the page's numbers come from: what wrote them, when, from what code, and which truth it read."""
        rows = []
        for file in sorted({file for _, file, _ in self.shown} | set(self.files)):
            made = self.files.get(file, {}).get("provenance", {})
            name = Path(file).stem
            by = f"`{command_of(name)}`" if made else "part of the repository"
            commit = made.get("commit", {})
            of = f"{str(commit.get('id', ''))[:10]}{' with local changes' if commit.get('dirty') else ''}"
            truth = in_words(made["ground_truth"]) if "ground_truth" in made else "-"
            rows.append([f"[{file}](../{file})", by, made.get("date_utc", "-"), of or "-", truth])
        return markdown_table(["file", "written by", "when (UTC)", "commit", "ground truth that it read"], rows)

    def number_table(self) -> str:
        """Every number on the page with the file and the key that it was read from, in the order of the page."""
        rows = "".join(
            f'<tr id="n{number}"><td>{number}</td><td>{text}</td><td>{escape(file)}</td><td>{escape(key)}</td></tr>'
            for (text, file, key), number in self.shown.items()
        )
        return f'<table class="numbers"><tr><th></th><th>number</th><th>file</th><th>key</th></tr>{rows}</table>\n'

    def numbers_below(self) -> str:
        """The table of numbers, folded."""
        return f"<details><summary>Where these numbers were read</summary>\n\n{self.number_table()}</details>\n"


# -- the page -----------------------------------------------------------------------------------------------------------------


def markdown(template: str | None = None, marks: tuple[str, str] = ("{{", "}}")) -> str:
    """The report in Markdown, with links as from docs/ or build/.

    Args:
        template: its prose; None takes docs/reproduction.md.in.
        marks: what stands around that which is filled in. Other pages take `HIDDEN`, so that they can be read unfilled.

    Raises:
        Exception: jinja2's or a `LookupError`, where the template asks for what cannot be there.
    """
    from jinja2 import Environment, StrictUndefined

    report = Report()
    text = TEMPLATE.read_text(encoding="utf-8") if template is None else template
    names = {name: getattr(report, name) for name in dir(report) if not name.startswith("_")}
    begin, end = marks
    settings = {"undefined": StrictUndefined, "keep_trailing_newline": True}
    settings |= {"variable_start_string": begin, "variable_end_string": end}
    return Environment(**settings).from_string(text).render(names)


def write_reproduction(out: Path) -> Path:
    """Write the report as one HTML file, its pictures in it."""
    import mistune

    text = re.sub(r"^\(.*\)=\n", "", markdown(), flags=re.M)
    body = mistune.create_markdown(escape=False, plugins=["table", "strikethrough"])(text)
    body = PICTURE.sub(lambda found_: f'src="{_embedded(out.parent / found_[1])}"', body)
    write_bytes_atomically(out, html_page("hrlib: reproduction report", body))
    return out


def _embedded(picture: Path) -> str:
    file = paths.FIGURES / picture.name
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}" if file.exists() else ""


# -- helpers ------------------------------------------------------------------------------------------------------------------


def _wanted(claim: Claim) -> str:
    target = _with_unit(claim.target, claim.unit) if claim.unit == "(share)" else f"{claim.target:g} {claim.unit}"
    return f"{escape(claim.operator)} {target}"


def _with_unit(value: float, unit: str) -> str:
    form, after = UNITS.get(unit, (".4g", f" {unit}"))
    return format(value, form) + after
