"""companion.findings: the paper beside our results, from files alone."""

import re
from html import unescape

import pytest

from hrlib.companion.findings import findings, quoted
from hrlib.companion.reproduction import Report


def cells(*rows) -> list[list[str]]:
    parts = re.findall(r"<tr>(.*?)</tr>", findings(*rows).data, flags=re.S)[1:]
    return [[unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<td.*?>(.*?)</td>", row)] for row in parts]


def test_a_statement_shows_the_papers_words_and_a_sign_for_each_check():
    report = Report()
    ((says, found, why),) = cells("terms")
    (check,) = report.statements["terms"]["checks"]
    verdict = report.judged[check]
    assert report.statements["terms"]["quote"] in says and "Sec. 4.4" in says
    assert (
        found.startswith("✓✗"[not verdict.holds]) and verdict.claim.text in found and f"{verdict.value:.2f} mm" in found
    )
    assert report.statements["terms"]["because"] in why and verdict.claim.reason in why


def test_a_fact_stands_beside_ours_and_a_claim_beside_its_target():
    fact, read, claim = cells(
        ("rate", 2e-5, "faster"), ("steps", ("03_pose_real", "provenance/parameters/steps", "d"), ""), "auc.real.gain"
    )
    assert fact[0].startswith("10^-5: “The complete network") and fact[1:] == ["2e-05", "faster"]
    assert read[0].startswith("70: “We take images") and read[1] == "70"
    assert claim[0] == "nothing; we ask for >= 0.10"


def test_what_is_raised_and_lowered_in_print_is_here():
    assert quoted("θ ∈ R^{16×4}, P = [p_1, …, p_n] < 1") == (
        "θ ∈ R<sup>16×4</sup>, P = [p<sub>1</sub>, …, p<sub>n</sub>] &lt; 1"
    )
    assert "L<sup>coll</sup>(θ)" in findings(("weights", 1, "")).data


def test_unknown_names_are_refused():
    for row in ("nothing of that name", ("nothing", 1, "")):
        with pytest.raises(KeyError, match="nothing"):
            findings(row)
