"""The reproduction report: no number is typed in, each can be checked from its file, and verdicts follow from the checks."""

import html
import json
import re

import jinja2
import pytest

from hrlib.companion import reproduction
from hrlib.companion.reproduction import FACTS, TEMPLATE, Report, markdown, write_reproduction
from hrlib.companion.sources import NotMeasured, found, spread, written
from hrlib.support import paths

PLACEHOLDER = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}|<style>.*?</style>", flags=re.S)
REFERENCE = re.compile(r"(?:Fig|Sec|Eq)\. \d(?:\.\d)*|`[^`]*`")
NUMBER_WORDS = (
    r"\b(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|hundred|thousand|half|third|quarter|twice)\b"
)
ROW = re.compile(r'<tr id="n(\d+)"><td>\d+</td><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>')
SOON: set[str] = set()  # results that are still to come


@pytest.fixture(scope="module")
def page() -> str:
    return markdown()


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A repository without results."""
    for name in ("FIGURES", "BENCHMARKS"):
        monkeypatch.setattr(paths, name, tmp_path / name)
        (tmp_path / name).mkdir()
    return tmp_path


def result(folder, name: str, metrics: dict) -> None:
    provenance = {"ground_truth": {}, "parameters": {"rate": 0.5}, "seed": 0, "data_sha256": {}}
    content = {"name": name, "profile": "quick", "metrics": metrics, "claims": [], "provenance": provenance}
    (folder / f"{name}.json").write_text(json.dumps(content))


def typed_in(prose: str) -> list[str]:
    prose = REFERENCE.sub("", PLACEHOLDER.sub("", prose)).replace("3D", "")
    return re.findall(r"\S*\d\S*", prose) + re.findall(NUMBER_WORDS, prose, flags=re.I)


# -- no number is typed in ----------------------------------------------------------------------------------------------------


def test_the_prose_has_no_digits_and_no_number_words_of_its_own():
    assert typed_in(TEMPLATE.read_text(encoding="utf-8")) == []
    assert typed_in('It falls by 17 % {{ number("paper", "x9") }} (Fig. 7, Sec. 4.4, `run 3`) on Two users, four in all') == [
        "17", "Two", "four",
    ]  # fmt: skip


def test_what_we_say_beside_the_papers_words_has_no_digits():
    for name, made in Report().statements.items():
        ours = [made["title"], made.get("because", ""), *(order["says"] for order in made.get("orders", ()))]
        assert [re.findall(r"\d", text) for text in ours] == [[]] * len(ours), name


def test_the_papers_numbers_stand_in_the_sentences_that_are_quoted_for_them():
    for name, fact in Report().facts.items():
        assert fact["place"] and fact["quote"], name
        if not isinstance(fact["value"], str):
            numbers = {float(number) for number in re.findall(r"\d+(?:\.\d+)?", fact["quote"])}
            assert float(fact["value"]) in numbers, f"{name} in {FACTS.name}"


# -- every number can be checked ----------------------------------------------------------------------------------------------


def test_the_page_shows_what_the_committed_results_hold(page):
    rows = {int(number): (text, file, html.unescape(key)) for number, text, file, key in ROW.findall(page)}
    assert len(rows) > 200 and {int(n) for n in re.findall(r'href="#n(\d+)"', page)} == set(rows)
    checked = 0
    for text, file, key in rows.values():
        assert (paths.ROOT / file).is_file(), file
        if file.endswith(".json") and not key.startswith("computed: "):
            values = found(json.loads((paths.ROOT / file).read_text()), key)
            shown = [float(part.replace(",", "").rstrip("%s")) for part in re.findall(r"-?[\d,.]*\d[%e\d-]*", text)]
            if len(set(map(str, values))) == 1 and isinstance(values[0], float) and len(shown) == 1:
                value = shown[0] / (100 if "%" in text else 1)
                assert value == pytest.approx(values[0], rel=0.12, abs=0.06), (text, file, key)
                checked += 1
    assert checked > 100


def test_only_results_that_are_still_to_come_are_missing(page):
    missing = set(re.findall(r"not (?:measured|drawn) yet(?:: run\*|, run) `([^`]*)`", page))
    assert missing <= SOON, "a file or key that the template names is nowhere: correct it, or run the command"


def test_every_file_on_the_page_is_linked(page):
    linked = set(re.findall(r"\]\(\.\./([^)]+)\)", page))
    assert {file for _, _, file, _ in ROW.findall(page)} <= linked
    assert all((paths.ROOT / file).is_file() for file in linked)


def test_a_changed_result_changes_the_page(empty):
    template = '{{ number("paper", "metrics/users/*/alexnet/mean16", ".1f", " mm") }}'
    template += '{{ lower("paper", "metrics/a", "metrics/b") }}'
    result(
        paths.BENCHMARKS, "paper", {"users": {"A": {"alexnet": {"mean16": 13.87}}}, "a": [4.0, 10.0], "b": [3.0, 5.0]}
    )
    assert ">13.9 mm<" in markdown(template) and ">25% to 50%<" in markdown(template)
    result(paths.BENCHMARKS, "paper", {"users": {"A": {"alexnet": {"mean16": 7}}, "B": {"alexnet": {"mean16": 9}}}})
    assert ">7.0 to 9.0 mm<" in markdown(template)
    assert "*not measured yet: run* `python benchmarks/bench_paper.py`" in markdown(template)


# -- what is missing, and what is wrong ---------------------------------------------------------------------------------------


def test_without_any_result_the_page_says_what_to_run(empty):
    page = markdown()
    for command in ("make evaluate", "hrlib reproduce --only 05 --profile full", "python benchmarks/bench_paper.py"):
        assert f"`{command}`" in page
    report = Report()
    assert {report.verdict(name) for name in report.statements} == {"open"} | {
        report.verdict(name) for name in report.statements if report.statements[name].get("at_most") == "not"
    }
    assert report.verdict("jitter") == "open" and report.tally("reproduced") == "0"


@pytest.mark.parametrize(
    "template, error",
    [
        ("{{ nmber('paper', 'metrics') }}", jinja2.UndefinedError),
        ("{{ number('papr', 'metrics') }}", KeyError),
        ("{{ claim('fig5.dept') }}", KeyError),
        ("{{ paper('epoch') }}", KeyError),
        ("{{ code('hrlib.refine.paper', 'PaperSettings.epoch') }}", AttributeError),
        ("{{ statement('dept') }}", KeyError),
        ("{{ tally('half') }}", KeyError),
    ],
)
def test_a_wrong_name_in_the_template_is_an_error(template, error):
    with pytest.raises(error):
        markdown(template)


def test_keys_lead_through_dictionaries_and_lists():
    tree = {
        "a": {"x": {"m": 1.0}, "y": {"m": [2.0, 3.0]}},
        "rows": [{"n": "b", "d": "u", "m": 4}, {"n": "b", "d": "v", "m": 5}],
    }
    assert found(tree, "a/*/m") == [1.0, 2.0, 3.0]
    assert found(tree, "rows/n=b,d=v/m") == [5] and found(tree, "rows/*/m") == [4, 5] and found(tree, "rows/1/m") == [5]
    for key in ("a/z", "rows/n=c/m", "a/x/m/k", "rows/q"):
        with pytest.raises((LookupError, TypeError, ValueError)):
            found(tree, key)


def test_numbers_are_written_as_people_write_them():
    assert [written(x) for x in (20000, 5.0, 1e-5, "quaternion")] == ["20,000", "5", "1e-05", "quaternion"]
    assert spread([3.21, 1.0, 2.0], ".1f") == "1.0 to 3.2" and spread([1.01, 1.02], ".1f") == "1.0"
    assert spread([True]) == "yes" and spread(["a", "b", "a"]) == "a; b"


# -- verdicts -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "holding, most, verdict",
    [
        ([True, True], None, "reproduced"),
        ([True, False], None, "partly"),
        ([False, False], None, "not"),
        ([True, None], None, "open"),
        ([True], "partly", "partly"),
        ([False], "partly", "not"),
        ([], "not", "not"),
    ],
)
def test_a_verdict_follows_from_the_checks(holding, most, verdict, monkeypatch):
    report = Report()
    report.statements = {"s": {"at_most": most} if most else {}}
    monkeypatch.setattr(report, "checks", lambda statement: [("check", holds) for holds in holding])
    assert report.verdict("s") == verdict and report.tally(verdict) == "1"


def test_an_order_holds_only_if_every_pair_is_in_it(empty):
    report = Report()
    order = {"says": "falls", "file": "paper", "key": "metrics/after", "operator": "<", "other": "metrics/before"}
    report.statements = {"s": {"orders": [order]}}
    assert report.verdict("s") == "open"
    sentence = '{% if so("paper", "metrics/after", "<", "metrics/before") %}it falls{% endif %}'
    assert markdown(sentence) == ""
    for after, verdict, said in (([1.0, 2.0], "reproduced", "it falls"), ([1.0, 4.0], "not", "")):
        result(paths.BENCHMARKS, "paper", {"before": [2.0, 3.0], "after": after})
        assert report.verdict("s") == verdict and markdown(sentence) == said


def test_every_statement_of_the_paper_has_a_section_and_a_check_or_a_reason():
    report, template = Report(), TEMPLATE.read_text(encoding="utf-8")
    for name, made in report.statements.items():
        assert template.count(f'{{{{ statement("{name}") }}}}') == 1
        assert made.get("checks") or made.get("orders") or made["at_most"] == "not"
        assert ("because" in made) == ("at_most" in made)


# -- tables of their own ------------------------------------------------------------------------------------------------------


def test_test_people_flow_in(empty):
    def errors(mm):
        return {"found": {"16": {how: {"mean_mm": mm} for how in ("as_they_are", "offset_removed", "cross_fitted")}}}

    models = {
        name: errors(mm) for name, mm in (("base", 21.0), ("base fitted", 18.0), ("best", 12.0), ("best fitted", 11.0))
    }
    row = {
        "kind": "test person, simulated",
        "description": "a child",
        "frames": 500,
        "left_out": 3,
        "lost": 7,
        "models": models,
    }
    real = row | {"kind": "real people", "models": {name: {"found": None} for name in models}}
    result(paths.BENCHMARKS, "evaluate", {"sets": {"E": row, "real": real}, "runs": 2})
    table = re.sub(r"<a[^>]*>|</a>", "", markdown('{{ people() }}, {{ number("evaluate", "metrics/runs", "d") }} runs'))
    assert "| E | test person, simulated: a child | 500 | 3 | 7 | 21.0 | 12.0 | 21.0 | 12.0 | 18.0 | 11.0 |" in table
    assert "| real | real people: a child | 500 | 3 | 7 | - |" in table and table.endswith(", 2 runs")


def test_users_have_a_row_each_and_a_mean(empty):
    columns = [["before", "a", ".1f"], ["lower by", "a -> b", ".0%"], ["seeds", "c", ".1f"], ["new", "z", "d"]]
    template = f'{{{{ by_user("paper", {json.dumps(columns)}) }}}}'
    assert markdown(template) == "*not measured yet: run* `python benchmarks/bench_paper.py`"
    result(
        paths.BENCHMARKS, "paper", {"users": {"A": {"a": 4, "b": 3, "c": [1, 2]}, "B": {"a": 8, "b": 2, "c": [3, 3]}}}
    )
    table = re.sub(r"<a[^>]*>|</a>", "", markdown(template))
    assert "| A | 4.0 | 25% | 1.0 to 2.0 | - |\n| B | 8.0 | 75% | 3.0 | - |\n| mean | 6.0 | 50% | 2.2 | - |" in table
    assert "-: not measured yet, run `python benchmarks/bench_paper.py`" in table


def test_results_that_are_not_alike_are_said_to_be_so(empty):
    for name, rate in (("paper", 0.5), ("paper_wristband", 0.1)):
        result(paths.BENCHMARKS, name, {})
        file = paths.BENCHMARKS / f"{name}.json"
        content = json.loads(file.read_text())
        content["provenance"]["parameters"] |= {"rate": rate, "wristband": name != "paper"}
        file.write_text(json.dumps(content))
    template = '{{ alike("paper", "paper_wristband", "wristband") }}'
    assert "not like with like" in markdown(template) and "rate: 0.5 and 0.1" in markdown(template)
    file.write_text(file.read_text().replace("0.1", "0.5"))
    assert markdown(template) == "They differ in `wristband` alone."


def test_a_missing_key_is_no_error_of_the_template_but_a_wrong_file_is(empty):
    result(paths.BENCHMARKS, "paper", {"a": 1})
    report = Report()
    with pytest.raises(NotMeasured, match="bench_paper"):
        report.values("paper", "metrics/b")
    with pytest.raises(NotMeasured, match=r"python benchmarks/faults\.py"):
        report.values("faults", "metrics/groups")
    with pytest.raises(KeyError, match="'paper_' is the name of no result"):
        report.values("paper_", "metrics/b")


# -- the page -----------------------------------------------------------------------------------------------------------------


def test_one_html_file_holds_it_all(tmp_path):
    pytest.importorskip("mistune")
    text = write_reproduction(tmp_path / "reproduction.html").read_text(encoding="utf-8")
    assert text.count("<table>") > 20 and "{{" not in text and "<h1>Reproduction report</h1>" in text
    pictures = re.findall(r'<img[^>]*src="([^"]{30})', text)
    assert len(pictures) > 10 and all(source.startswith("data:image/png;base64,") for source in pictures)
    assert reproduction.PICTURE.search(text) is None
