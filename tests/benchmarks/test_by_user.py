"""Rows of stopped benchmarks are taken up only where everything is the same."""

import json

import by_user
import pytest

from hrlib.companion.results import provenance
from hrlib.refine import RECIPES
from hrlib.support import ground_truth


def made(folder, recipe="paper", steps=3, network=b"weights"):
    (folder / "network").write_bytes(network)
    return provenance({"steps": steps, "recipe": RECIPES[recipe]}, 0, {"network": folder / "network"})


def test_runs_for_other_users_are_put_together_and_then_go(tmp_path):
    out = tmp_path / "toy.json"
    by_user.Partial(out, "AB", made(tmp_path)).write({"A": 1, "B": 2})
    by_user.Partial(out, "C", made(tmp_path)).write({"C": 3})
    other = by_user.Partial(out, "ABC", made(tmp_path, steps=4))
    other.write({"A": 7})
    whole = by_user.Partial(out, "CD", made(tmp_path))
    assert whole.read() == {"A": 1, "B": 2, "C": 3}
    whole.finish("toy", {"all": 4}, {}, "quick")
    assert [file.name for file in sorted(tmp_path.glob("*.json"))] == ["toy.ABC.partial.json", "toy.json"]


def test_a_user_is_measured_once_and_all_are_put_together_in_their_order(tmp_path, capsys):
    def measure(name):
        return {"of": name}

    kept = by_user.Partial(tmp_path / "toy.json", "B", made(tmp_path))
    assert kept.rows("B", "ABC", measure) is None and "toy.B.partial.json" in capsys.readouterr().out
    whole = by_user.Partial(tmp_path / "toy.json", "CAB", made(tmp_path))
    rows = whole.rows("CAB", "ABC", lambda name: measure(name) | {"again": True})
    assert list(rows) == list("ABC") and rows["B"] == {"of": "B"} and rows["C"]["again"]


@pytest.mark.parametrize(
    "differs",
    [{"steps": 4}, {"recipe": "best"}, {"network": b"other weights"}],
    ids=lambda differs: next(iter(differs)),
)
def test_rows_of_another_network_recipe_or_number_are_not_taken_up(tmp_path, capsys, differs):
    by_user.Partial(tmp_path / "toy.json", "AB", made(tmp_path)).write({"A": 1})
    assert by_user.Partial(tmp_path / "toy.json", "AB", made(tmp_path, **differs)).read() == {}
    what = "data_sha256" if "network" in differs else "parameters"
    assert f"toy.AB.partial.json is of another run ({what}): not used" in capsys.readouterr().out


def test_rows_of_other_code_are_not_taken_up(tmp_path, monkeypatch):
    by_user.Partial(tmp_path / "toy.json", "AB", made(tmp_path)).write({"A": 1})
    monkeypatch.setattr(by_user, "code_hash", lambda: "other")
    assert by_user.Partial(tmp_path / "toy.json", "AB", made(tmp_path)).read() == {}
    monkeypatch.undo()
    (tmp_path / "hrlib").mkdir()
    (tmp_path / "hrlib" / "new.py").write_text("x = 1\n")
    before = by_user.code_hash()
    monkeypatch.setattr(by_user, "ROOT", tmp_path)
    assert by_user.code_hash() != before


@pytest.mark.parametrize("bench", ["bench_ablation", "bench_paper", "bench_pseudo", "bench_refine"])
def test_every_benchmark_names_the_network_and_the_recipe(bench, monkeypatch, tmp_path):
    """Of each script, the conditions under which it goes on: what it read, and all settings of its recipes."""
    module = __import__(bench)
    seen = {}

    class Stop(Exception):
        pass

    def read(self):
        seen.update(self.provenance)
        raise Stop

    monkeypatch.setattr(by_user.Partial, "read", read)
    monkeypatch.setattr(module, "dataset_folder", lambda name: tmp_path, raising=False)
    monkeypatch.setattr("sys.argv", [bench, "--out", str(tmp_path / "toy.json")])
    with pytest.raises(Stop):
        module.main()
    assert any("network" in name or "model" in name for name in seen["data_sha256"])
    assert "seed" in str(seen["parameters"]["recipe"])


def test_what_another_process_read_is_recorded_with_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(ground_truth, "_read", {})
    ground_truth.note("simulated user A, test", "joints_mm")
    by_user.Partial(tmp_path / "toy.json", "A", made(tmp_path)).write({"A": 1})
    monkeypatch.setattr(ground_truth, "_read", {})
    whole = by_user.Partial(tmp_path / "toy.json", "AB", made(tmp_path))
    whole.read()
    ground_truth.note("simulated user B, test", "rotations")
    whole.finish("toy", {}, {}, "quick")
    read = json.loads((tmp_path / "toy.json").read_text())["provenance"]["ground_truth"]
    assert read == {
        "simulated user A, test: joints_mm": ["test_by_user"],
        "simulated user B, test: rotations": ["test_by_user"],
    }
