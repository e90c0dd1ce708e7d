"""hrlib.companion.claims and claims_table: the file of claims, and what differs from it in either direction."""

import json
import re
import subprocess
from dataclasses import replace

import pytest

from hrlib.companion import captions, claims, claims_table
from hrlib.companion.claims import Claim, assert_claims, read_claims, records, verdicts
from hrlib.companion.results import read_results, read_table, require_alike
from hrlib.support import paths

FILE = """
[claims."fig3.error"]
text = "joint error of made up frames | after nothing"
of = "paper"
source = "Fig. 3"
operator = "<="
target = 10
unit = "mm"
target_from = "ours: a test"
result = "fig3"

[claims.steps]
text = "steps that it takes"
of = "engineering"
source = "-"
operator = "<"
target = 70
unit = "steps"
target_from = "the paper: 70 (Sec. 4.3)"
result = "fig3"
expected = "fails"
reason = "it is slow"

[retired.old]
text = "what was claimed"
reason = "it could not fail"
"""
AS_EXPECTED = {"fig3.error": 7.5, "steps": 90}


@pytest.fixture
def known(tmp_path, monkeypatch):
    (tmp_path / "claims.toml").write_text(FILE)
    monkeypatch.setattr(paths, "CLAIMS", tmp_path / "claims.toml")
    return read_claims()


def result(values: dict, name: str = "fig3", profile: str = "quick") -> dict:
    return {"name": name, "profile": profile, "claims": [{"id": key, "value": value} for key, value in values.items()]}


def problems(results: list[dict], known) -> list[str]:
    return claims_table.problems(*verdicts(results, known))


def test_a_value_of_another_run_is_not_as_expected(known):
    asked = replace(known, runs={"fig3": {"frames": 48, "recipe": "paper"}})
    of = lambda frames: result(AS_EXPECTED) | {"provenance": {"parameters": {"frames": frames, "recipe": "paper"}}}  # noqa: E731
    assert problems([of(48)], asked) == []
    assert problems([of(4)], asked) == ["fig3 is of frames = 4, its claims speak of 48"]
    assert problems([of(48) | {"claims": []}], replace(asked, claims={})) == []


# -- the committed file ------------------------------------------------------------------------------------------------


def test_every_claim_is_complete_and_stands_alone():
    """What `Claim` itself refuses is tested below; here what a reader of one line needs."""
    every = read_claims()
    assert len(every.claims) > 40 and {claim.of for claim in every.claims.values()} == set(claims.TABLES)
    for claim in every.claims.values():
        assert len(claim.text) >= 60, f"{claim.id}: says too little to stand alone"
        assert not re.match(r"(and|the same|likewise|it)\b", claim.text, flags=re.I), (
            f"{claim.id} leans on another line"
        )
        assert claim.target_from.startswith(("ours: ", "the paper: ")), claim.id
        assert re.match(r"-$|(Fig|Sec|Eq)\. \d", claim.source), f"{claim.id}: {claim.source}"
        assert claim.of != "paper" or claim.source != "-", f"{claim.id}: where does the paper say so?"
        assert claim.target or claim.operator == ">=", f"{claim.id}: more than 0 is next to nothing"
    texts = [claim.text for claim in every.claims.values()]
    assert len(set(texts)) == len(texts), "two claims say the same"


def test_every_retired_claim_has_its_reason_and_the_test_that_it_became():
    for old in read_claims().retired.values():
        assert len(old.text) > 20 and len(old.reason) > 10, old.id
        for name in re.findall(r"tests/[\w/]+\.py", old.reason):
            assert (paths.ROOT / name).is_file(), f"{old.id}: {name}"


# -- the form of the file ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('of = "paper"', 'of = "friends"', r"fig3\.error: of must be one of"),
        ('operator = "<="', 'operator = "=<"', r"fig3\.error: operator must be one of"),
        ("target = 10", 'target = "10"', r"fig3\.error: target must be a finite number"),
        ("target = 10", "target = nan", r"fig3\.error: target must be a finite number"),
        ('target_from = "ours: a test"', 'target_from = ""', r"fig3\.error: target_from must not be empty"),
        ('target_from = "ours: a test"', "", "section claims.*target_from"),
        ('reason = "it is slow"', "", "steps: a reason belongs to what is expected to fail"),
        ('expected = "fails"', 'expected = "holds"', "steps: a reason belongs to what is expected to fail"),
        ('expected = "fails"', 'expected = "maybe"', "steps: expected must be one of"),
        ("[retired.old]", "[retired.steps]", "each id in one of them"),
        ("[retired.old]", "[gone.old]", "section retired"),
        ('unit = "mm"', 'unit = "mm"\nvalue = 7.5', "section claims.*value"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, old, new, message):
    assert FILE.count(old) == 1
    (tmp_path / "claims.toml").write_text(FILE.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_claims(tmp_path / "claims.toml")


@pytest.mark.parametrize(
    ("operator", "below", "equal", "above"),
    [
        (">=", False, True, True),
        ("<=", True, True, False),
        (">", False, False, True),
        ("<", True, False, False),
        ("==", False, True, False),
    ],
)
def test_operators(operator, below, equal, above):
    claim = Claim("a", "text", "beyond", "-", operator, 2.0, "mm", "ours: a test", "fig3")
    assert [claim.holds(value) for value in (1.0, 2.0, 3.0)] == [below, equal, above]
    assert not claim.holds(float("nan")) and not claim.holds(float("inf")) and not claim.holds(True)


# -- what a result writes ----------------------------------------------------------------------------------------------


def test_a_result_has_the_records_of_its_values(known):
    assert records({"fig3.error": 7.5}, "fig3") == [
        {
            "id": "fig3.error",
            "claim": "joint error of made up frames | after nothing",
            "paper": "Fig. 3",
            "target": "<= 10 mm",
            "value": 7.5,
            "holds": True,
        }
    ]
    assert not records({"steps": 90}, "fig3")[0]["holds"], "what is expected to fail still fails"


@pytest.mark.parametrize(
    ("values", "name", "message"),
    [
        ({"fig3.eror": 1.0}, "fig3", "'fig3.eror', which claims.toml does not know"),
        ({"old": 1.0}, "fig3", "'old', which claims.toml does not know"),
        ({"steps": 1.0}, "fig4", "'steps' belongs to the result 'fig3', not to 'fig4'"),
        ({"steps": True}, "fig3", "'steps' must be a finite number, got True"),
        ({"steps": None}, "fig3", "'steps' must be a finite number, got None"),
        ({"steps": float("nan")}, "fig3", r"values\.steps.* must be finite"),
    ],
)
def test_a_result_cannot_bring_values_that_nobody_asked_for(known, values, name, message):
    with pytest.raises(ValueError, match=message):
        records(values, name)


# -- as expected, or not -----------------------------------------------------------------------------------------------


def test_all_as_expected(known):
    assert problems([result(AS_EXPECTED)], known) == []


@pytest.mark.parametrize(
    ("results", "problem"),
    [
        ([result(AS_EXPECTED | {"fig3.error": 11})], "fig3.error: does not hold"),
        ([result(AS_EXPECTED | {"steps": 60})], "steps: holds, though it is expected to fail"),
        ([result({"steps": 90})], "fig3.error: no value"),
        ([result(AS_EXPECTED | {"steps": float("nan")})], "steps: the value is nan, not a finite number"),
        ([result(AS_EXPECTED | {"fig3.error": float("nan")})], "fig3.error: the value is nan, not a finite number"),
        ([result(AS_EXPECTED | {"old": 1.0})], "fig3 has a value of old, which claims.toml does not know"),
        ([result(AS_EXPECTED), result({"steps": 90}, "fig4")], "fig4 has a value of steps, which belongs to fig3"),
        ([result(AS_EXPECTED), result({"steps": 95})], "fig3 has two values of steps"),
    ],
)
def test_what_differs_in_either_direction(known, results, problem):
    assert problems(results, known) == [problem]


def test_a_smoke_run_brings_no_values(known):
    found = problems([result(AS_EXPECTED, profile="smoke")], known)
    assert {"fig3.error: no value", "steps: no value"} < set(found)
    assert "fig3 is of the smoke profile, which is too short for steps" in found


def test_a_notebook_fails_where_anything_is_not_as_expected(known, capsys):
    assert_claims(AS_EXPECTED)
    out = capsys.readouterr().out
    assert "fig3.error: 7.5 (wanted <= 10 mm) holds: joint error" in out
    assert "steps: 90 (wanted < 70 steps) FAILS, as expected: " in out
    with pytest.raises(AssertionError, match=r"\n  fig3\.error: does not hold: got 11, wanted <= 10 mm: joint error"):
        assert_claims({"fig3.error": 11.0})
    with pytest.raises(AssertionError, match=r"\n  steps: holds, though it is expected to fail: got 60"):
        assert_claims({"steps": 60}, "full")
    assert_claims({"steps": 60})  # fewer frames, another processor
    assert_claims({"fig3.error": 11.0}, "smoke")
    assert "too short to tell" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"values\.steps.* must be finite"):
        assert_claims({"steps": float("nan")}, "smoke")


# -- tables ------------------------------------------------------------------------------------------------------------


def test_three_tables_with_everything_in_them(known):
    judged, strays = verdicts([result(AS_EXPECTED)], known)
    text, page = (show(judged, strays, known) for show in (claims_table.as_text, claims_table.as_page))
    assert all(title in text and f"## {title}" in page for title in claims.TABLES.values())
    assert "fig3.error: 7.5, wanted <= 10 mm: yes" in text and "steps: 90, wanted < 70 steps: NO, as expected" in text
    assert "source: Fig. 3; target: ours: a test; value: fig3.json" in text and "steps: it is slow" in text
    assert "old: what was claimed\n    it could not fail" in text
    assert text.endswith("1 of 2 claims hold; 0 differ from what is expected")
    row = r"| fig3.error | joint error of made up frames \| after nothing | 7.5 | <= 10 mm | yes | Fig. 3 | ours: a test |"
    assert row in page and "| NO, as expected |" in page and "| the paper: 70 (Sec. 4.3) |" in page
    assert "- **steps**: it is slow" in page and "| old | what was claimed | it could not fail |" in page
    assert "Not as expected" not in text + page
    judged, strays = verdicts([result({"steps": 60, "old": 1.0})], known)
    text, page = (show(judged, strays, known) for show in (claims_table.as_text, claims_table.as_page))
    assert "fig3.error: -, wanted <= 10 mm: no value" in text and "yes, NOT AS EXPECTED" in text
    for line in ("steps: holds, though it is expected to fail", "fig3 has a value of old, which claims.toml"):
        assert line in text.split("== Not as expected")[1] and line in page.split("## Not as expected")[1]
    assert text.endswith("1 of 2 claims hold; 3 differ from what is expected")


def test_the_readme_has_counts_and_the_people(known, tmp_path, monkeypatch):
    monkeypatch.setattr(captions, "sections", list)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/figures.md").write_text(f"{captions.BEGIN}\nstale\n{captions.END}\n")
    readme = tmp_path / "README.md"
    people = f"{claims_table.PEOPLE_BEGIN}\nstale\n{claims_table.PEOPLE_END}\n"
    readme.write_text(f"before\n{people}{claims_table.BEGIN}\nstale\n{claims_table.END}\nafter\n")
    judged, strays = verdicts([result(AS_EXPECTED)], known)
    claims_table.write_tables(tmp_path, judged, strays, known, [evaluated()])
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "stale" not in text
    assert "| Claims of the paper | 1 | 1 | 0 |" in text and "| Engineering | 1 | 0 | 1 |" in text
    assert "steps that it takes" not in text and "NOT AS EXPECTED" not in text
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    assert "| simulated: another hand | 60 of 100 frames | 30.0 (9.0) | 20.0 (8.0) | 10.0 (7.0) |" in text
    assert (tmp_path / "CLAIMS.md").read_text() == claims_table.as_page(judged, strays, known)
    assert "stale" not in (tmp_path / "docs/figures.md").read_text()
    claims_table.write_tables(tmp_path, *verdicts([result({"steps": 60})], known), known, [])
    assert "- NOT AS EXPECTED: steps: holds, though it is expected to fail" in readme.read_text()
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="put them back"):
        claims_table.write_tables(tmp_path, judged, strays, known, [])


def test_development_people_are_one_row_of_means():
    users = {name: {"description": "a hand", "test_frames": 9, "test_left_out": 1, "test_lost": 0} for name in "AB"}
    errors = {"A": (8.0, 6.0), "B": (5.0, 3.0)}  # five views, fitted
    people = {
        name: {key: {"five": {"mean16": five}, "fitted": {"mean16": [fitted, fitted + 1]}} for key in ("base", "best")}
        for name, (five, fitted) in errors.items()
    }
    metrics = {"users": {"users": users}, "people": {"users": people}}
    table = claims_table.as_headline([{"name": name, "metrics": metrics[name]} for name in metrics])
    assert "| development people A, B, simulated: their mean | 18 of 20 frames | 6.5 | 6.5 | 5.0 |" in table


def test_real_people_come_first_and_the_smallest_error_of_their_kind():
    kinds = {"E": ("test person, simulated", 30.0), "F": ("test person, simulated", 7.0)}
    kinds |= {"table": ("real people", 33.0), "air": ("real people", 11.0)}
    found = evaluated()
    (row,) = found["metrics"]["sets"].values()
    found["metrics"]["sets"] = {
        name: json.loads(json.dumps(row)) | {"kind": kind, "description": name} for name, (kind, _) in kinds.items()
    }
    for name, (_, error) in kinds.items():
        found["metrics"]["sets"][name]["models"]["best fitted"]["found"]["16"]["as_they_are"]["mean_mm"] = error
    names = re.findall(r"^\| .*: (\w+) \|", claims_table.as_headline([found]), flags=re.M)
    assert names == ["air", "table", "F", "E"]
    assert claims_table.found_in_words(5, 0, 0) == "all 5 frames"


def evaluated():
    """A result of benchmarks/evaluate.py with one person."""
    errors = {"base": (30.0, 9.0), "base fitted": (25.0, 8.5), "best": (20.0, 8.0), "best fitted": (10.0, 7.0)}
    models = {
        name: {"found": {"16": {"as_they_are": {"mean_mm": mm[0]}, "offset_removed": {"mean_mm": mm[1]}}}}
        for name, mm in errors.items()
    }
    row = {
        "models": models,
        "found": 70,
        "lost": 10,
        "left_out": 30,
        "kind": "simulated",
        "description": "another hand",
    }
    return {"name": "evaluate", "metrics": {"sets": {"E": row}}}


# -- the committed results ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """A folder with claims.toml, the tables and the result files as they are committed: `make figures` writes new ones."""
    folder = tmp_path_factory.mktemp("committed")
    files = ["claims.toml", "CLAIMS.md", "README.md", "figures/*.json", "benchmarks/results/*.json"]
    listed = subprocess.run(["git", "ls-files", *files], cwd=paths.ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout, so nothing says which results are committed")
    command = ["git", "checkout-index", f"--prefix={folder}/", "--", *listed.stdout.split()]
    subprocess.run(command, cwd=paths.ROOT, check=True, capture_output=True)
    return folder


def test_the_committed_results_are_what_the_file_expects(committed):
    """What CI holds against every landing: `hrlib claims` ends with 0."""
    results = read_results(committed / "figures", committed / "benchmarks/results")
    assert problems(results, read_claims(committed / "claims.toml")) == []


def test_the_committed_records_and_tables_are_those_of_the_file(committed):
    """After a change of claims.toml, `hrlib claims --write` brings all of them up to date."""
    known = read_claims(committed / "claims.toml")
    results = read_results(committed / "figures", committed / "benchmarks/results")
    for found in results:
        stored = {row["id"]: row["value"] for row in found["claims"]}
        assert found["claims"] == records(stored, found["name"], known), f"{found['name']}: run hrlib claims --write"
    judged, strays = verdicts(results, known)
    page, readme = ((committed / name).read_text(encoding="utf-8") for name in ("CLAIMS.md", "README.md"))
    assert page == claims_table.as_page(judged, strays, known), "run hrlib claims --write"
    between = readme.split(claims_table.BEGIN)[1].split(claims_table.END)[0]
    assert between.strip() == claims_table.as_summary(judged, strays).strip(), "run hrlib claims --write"
    between = readme.split(claims_table.PEOPLE_BEGIN)[1].split(claims_table.PEOPLE_END)[0]
    assert between.strip() == claims_table.as_headline(results).strip(), "run hrlib claims --write"


def test_the_committed_tables_that_figures_compare_are_alike(committed):
    tables = {name: read_table(committed / f"benchmarks/results/{name}.json") for name in ("paper", "paper_wristband")}
    require_alike(tables, but=["wristband"])
    with pytest.raises(ValueError, match="wristband: False and True"):
        require_alike(tables)
