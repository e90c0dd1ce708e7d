"""hrlib.companion.results: whole files or the old ones, honest records, claims."""

import errno
import io
import json
import os
import socket
import subprocess
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import hrlib.drawing.style  # noqa: F401  drawings have its type sizes from their making on
from hrlib.companion import results
from hrlib.companion.page import write_page
from hrlib.companion.results import (
    Only,
    Results,
    content_hash,
    provenance,
    read_results,
    renew_claims,
    save_figure,
    write_result,
)
from hrlib.support import paths
from hrlib.support.files import write_json

CLAIM = """
[claims."fig3.%s"]
text = "%s"
of = "paper"
source = "Fig. 3"
operator = "<"
target = 10
unit = "mm"
target_from = "ours: a test"
result = "fig3"
"""
VALUES = {"fig3.error": 7.5, "fig3.steps": 90}
ORIGIN = {"ground_truth": "none"}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "CLAIMS", tmp_path / "claims.toml")
    monkeypatch.setattr(paths, "CAPTIONS", tmp_path / "captions.toml")
    caption = '[[section.figure]]\nname = "%s"\ntitle = "a"\nshows = "b"\non = "c"\nlook = "d"\n'
    paths.CAPTIONS.write_text('[[section]]\ntitle = "a"\n' + caption % "fig3" + caption % "fig4")
    slow = CLAIM % ("steps", "in few steps") + 'expected = "fails"\nreason = "it is slow"\n'
    retired = '[retired."fig3.old"]\ntext = "what was claimed"\nreason = "it could not fail"\n'
    paths.CLAIMS.write_text(CLAIM % ("error", "pose converges") + slow + retired)
    return tmp_path


@dataclass
class Source:
    data: dict
    seed: int


def drawing(height=1.0):
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, 1], [0, height])
    return figure


def test_a_figure_lies_beside_its_numbers(folders, capsys):
    save_figure(drawing(), "fig3", {"error_mm": np.float32(7.5)}, {"fig3.error": np.float32(7.5)}, ORIGIN, "quick")
    record = json.loads((folders / "figures/fig3.json").read_text())
    assert set(record) == {"name", "profile", "metrics", "claims", "provenance", "caption"}
    assert record["caption"] == {"paper": "", "title": "a", "shows": "b", "on": "c", "look": "d"}
    assert record["metrics"] == {"error_mm": 7.5} and record["profile"] == "quick"
    assert record["claims"][0] == {
        "id": "fig3.error",
        "claim": "pose converges",
        "paper": "Fig. 3",
        "target": "< 10 mm",
        "value": 7.5,
        "holds": True,
    }
    assert (folders / "figures/fig3.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in (folders / "figures").iterdir()) == ["fig3.json", "fig3.png"]
    assert "figures/fig3.png" in capsys.readouterr().out


def test_the_same_figure_gives_the_same_bytes(folders):
    def saved(height):
        save_figure(drawing(height), "fig3", {}, {}, ORIGIN, "quick")
        return (folders / "figures/fig3.png").read_bytes()

    first, again, other = saved(1.0), saved(1.0), saved(2.0)
    assert first == again
    assert first != other


def gradient(height: int, width: int) -> np.ndarray:
    v, u = np.mgrid[:height, :width] / max(height, width)
    return (255 * np.stack([u, v, 1 - u], -1)).astype(np.uint8)


def test_pictures_are_small_and_look_the_same():
    seen = np.full((400, 600, 3), 255, np.uint8)
    seen[100:300, 100:500] = gradient(200, 400) // 64 * 64
    seen[50, 20:580] = (200, 85, 61)  # a thin line of a rare colour
    picture = Image.open(io.BytesIO(results.small_png(Image.fromarray(seen))))
    assert picture.mode == "P" and picture.size == (600, 400), "few colours: a palette, at full size"
    assert np.abs(np.asarray(picture.convert("RGB"), int) - seen).max() == 0


def test_pictures_that_a_palette_would_spoil_keep_their_colours():
    colours = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    picture = Image.open(io.BytesIO(results.small_png(Image.fromarray(colours))))
    assert picture.mode == "RGB" and (np.asarray(picture) == colours).all()


def test_large_pictures_are_reduced_until_they_are_small(folders, monkeypatch):
    monkeypatch.setattr(results, "MOST_BYTES", 5_000)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(noise).save(folders / "noise.png")
    results.shrink(folders / "noise.png")
    data, picture = (folders / "noise.png").read_bytes(), Image.open(folders / "noise.png")
    assert 2_500 < len(data) <= results.MOST_BYTES and picture.width / picture.height == pytest.approx(4 / 3, rel=0.02)
    results.shrink(folders / "noise.png")
    assert (folders / "noise.png").read_bytes() == data, "small already"


def saved(folders, name="fig3"):
    return json.loads((folders / f"figures/{name}.json").read_text())


def test_a_notebooks_results_know_their_files_seed_and_profile(folders, capsys, monkeypatch):
    monkeypatch.delenv("HRLIB_PROFILE", raising=False)
    for name in ("hand", "frames"):
        (folders / name).write_text(name)
    hashes = {name: content_hash(folders / name) for name in ("hand", "frames")}
    made = Results("quick", {"hand": folders / "hand"}, seed=7)
    assert made.pick(smoke=1, quick=2, full=3) == 2
    made.save(drawing(), "fig3", {"error_mm": 7.5}, {"fig3.error": 7.5}, steps=3)
    record = saved(folders)
    assert record["claims"][0]["value"] == 7.5 and record["metrics"] == {"error_mm": 7.5}
    assert record["provenance"]["parameters"] == {"steps": 3} and record["provenance"]["seed"] == 7
    assert record["provenance"]["data_sha256"] == {"hand": hashes["hand"]}
    for source, files in ((Source({"frames": folders / "frames"}, 8), hashes), (Only({}, 9), {})):
        made.save(drawing(), "fig3", {}, of=source)
        assert (saved(folders)["provenance"]["data_sha256"], saved(folders)["provenance"]["seed"]) == (
            files,
            source.seed,
        )
    made.check()
    assert "fig3.error: 7.5 (wanted < 10 mm) holds" in capsys.readouterr().out
    made.save(drawing(), "fig3", {}, {"fig3.error": 11})
    with pytest.raises(AssertionError, match="fig3.error: does not hold"):
        made.check()


def test_the_environments_profile_comes_first_and_unknown_ones_are_refused(folders, monkeypatch):
    monkeypatch.setenv("HRLIB_PROFILE", "smoke")
    made = Results("full")
    made.save(drawing(), "fig3", {}, {"fig3.error": 11})
    made.check()  # too short to tell: it only prints
    assert (folders / "build/smoke/fig3.json").exists() and not (folders / "figures").exists()
    monkeypatch.delenv("HRLIB_PROFILE")
    with pytest.raises(ValueError, match="profile must be 'smoke', 'quick' or 'full', got 'fast'"):
        Results("fast")


def test_smoke_runs_do_not_touch_the_committed_figures(folders):
    save_figure(drawing(), "fig3", {}, {}, ORIGIN, "smoke")
    assert not (folders / "figures").exists() and (folders / "build/smoke/fig3.png").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float64("nan"), torch.tensor([1.0, float("nan")])])
def test_numbers_that_are_not_finite_are_refused_by_name(folders, bad):
    with pytest.raises(ValueError, match=r"metrics\.user_2\.error_mm.* must be finite"):
        save_figure(drawing(), "fig3", {"user_2": {"error_mm": bad}}, {}, ORIGIN, "quick")
    assert not (folders / "figures").exists()


def test_figures_need_a_provenance_and_values_that_are_asked_for(folders):
    with pytest.raises(ValueError, match="ground truth"):
        save_figure(drawing(), "fig3", {}, {}, {}, "quick")
    with pytest.raises(ValueError, match=r"'fig3\.eror', which claims\.toml does not know"):
        save_figure(drawing(), "fig3", {}, {"fig3.eror": 1.0}, ORIGIN, "quick")
    with pytest.raises(ValueError, match="belongs to the result 'fig3', not to 'fig4'"):
        save_figure(drawing(), "fig4", {}, VALUES, ORIGIN, "quick")
    with pytest.raises(ValueError, match=r"values\.fig3\.steps.* must be finite"):
        save_figure(drawing(), "fig3", {}, {"fig3.steps": float("nan")}, ORIGIN, "quick")
    assert not (folders / "figures").exists()


def test_a_full_disk_keeps_every_old_file(folders, monkeypatch):
    save_figure(drawing(), "fig3", {"run": 1}, {}, ORIGIN, "quick")
    old = {path.name: path.read_bytes() for path in (folders / "figures").iterdir()}

    real, calls = os.fsync, []

    def full_at_the_second_file(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(results.os, "fsync", full_at_the_second_file)
    with pytest.raises(OSError, match=r"fig3\.json: No space left.*free some space.*is kept"):
        save_figure(drawing(3.0), "fig3", {"run": 2}, {}, ORIGIN, "quick")
    assert {path.name: path.read_bytes() for path in (folders / "figures").iterdir()} == old


def test_json_takes_dataclasses_arrays_and_paths_by_name(tmp_path):
    @dataclass(frozen=True)
    class Settings:
        steps: int = 3

    data = {
        "settings": Settings(),
        "curve": np.arange(2),
        "rate": torch.tensor(0.5),
        "file": tmp_path / "a.png",
        1: None,
    }
    write_json(tmp_path / "deep/er/x.json", data)
    read = json.loads((tmp_path / "deep/er/x.json").read_text())
    assert read == {"settings": {"steps": 3}, "curve": [0, 1], "rate": 0.5, "file": "a.png", "1": None}
    with pytest.raises(ValueError, match=r"x\.thing must be .* got object"):
        write_json(tmp_path / "x.json", {"thing": object()})


def test_provenance_says_what_made_the_numbers_and_nothing_about_the_user(tmp_path):
    (tmp_path / "frame.png").write_bytes(b"depth")
    record = provenance({"steps": 70}, 1, {"frame": tmp_path / "frame.png"})
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=paths.ROOT, capture_output=True, text=True).stdout.strip()
    assert record["commit"]["id"] == (head or "unknown")
    assert record["versions"]["torch"].startswith("2.") and record["versions"]["hrlib"]
    assert record["platform"]["threads"] == torch.get_num_threads()
    assert record["data_sha256"] == {"frame": "ded32129b05bfc16ce501e654a169960583352cbc974824ed16ce94855904386"}
    text = json.dumps(record)
    for private in (socket.gethostname(), str(tmp_path), str(paths.ROOT)):
        assert private not in text


def compared(views=5, seed=0, epochs=10, band=False):
    parameters = {"views": views, "recipe": {"paper": {"epochs": epochs}}, "wristband": band}
    return {"provenance": {"parameters": parameters, "seed": seed, "data_sha256": {"net": "1"}}}


def test_what_is_compared_may_differ_in_one_thing_only():
    results.require_alike({"forearm": compared(), "band": compared(band=True)}, but=["wristband"])
    for other, named in (
        (compared(views=1, band=True), "views: 5 and 1"),
        (compared(seed=1, band=True), "seed: 0 and 1"),
        (compared(epochs=20, band=True), r"recipe\.paper\.epochs: 10 and 20"),
    ):
        with pytest.raises(ValueError, match=f"forearm and band cannot be compared.*{named}"):
            results.require_alike({"forearm": compared(), "band": other}, but=["wristband"])
    with pytest.raises(ValueError, match="wristband: False and True"):
        results.require_alike({"forearm": compared(), "band": compared(band=True)})


def test_content_hash_depends_on_names_and_contents_only(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub/a.txt").write_text("a")
        (tmp_path / name / "b.txt").write_text("b")
    first = content_hash(tmp_path / "one")
    assert first == content_hash(tmp_path / "two")
    (tmp_path / "two/b.txt").write_text("changed")
    assert first != content_hash(tmp_path / "two")
    (tmp_path / "one/b.txt").rename(tmp_path / "one/c.txt")
    assert first != content_hash(tmp_path / "one")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        content_hash(tmp_path / "three")


def test_a_benchmark_writes_its_result_and_says_what_is_not_as_expected(folders, capsys):
    file = folders / "results/fig3.json"
    assert write_result(file, "fig3", {"steps": 3}, VALUES, ORIGIN, "quick") == []
    out = capsys.readouterr().out
    assert (
        "fig3.error: 7.5 (wanted < 10 mm) holds" in out and "fig3.steps: 90 (wanted < 10 mm) FAILS, as expected" in out
    )
    (read,) = read_results(folders / "results")
    assert [(row["id"], row["holds"]) for row in read["claims"]] == [("fig3.error", True), ("fig3.steps", False)]
    assert list(read) == ["name", "profile", "metrics", "claims", "provenance"]
    (problem,) = write_result(file, "fig3", {}, {"fig3.error": 11}, ORIGIN, "quick")
    assert problem.startswith("fig3.error: does not hold: got 11, wanted < 10 mm")


def test_records_are_renewed_by_the_file_and_values_stay(folders):
    file = folders / "results/fig3.json"
    write_result(file, "fig3", {"steps": 3}, VALUES, ORIGIN, "quick")
    written = file.read_bytes()
    renew_claims(folders / "results", folders / "none here")
    assert file.read_bytes() == written
    paths.CLAIMS.write_text(paths.CLAIMS.read_text().replace("target = 10", "target = 5"))
    stored = json.loads(written)
    stored["claims"].append(stored["claims"][0] | {"id": "fig3.old"})
    write_json(file, stored)
    renew_claims(folders / "results")
    (read,) = read_results(folders / "results")
    assert [(row["id"], row["target"], row["value"], row["holds"]) for row in read["claims"]] == [
        ("fig3.error", "< 5 mm", 7.5, False),
        ("fig3.steps", "< 5 mm", 90, False),
    ]
    stored["claims"][0]["id"] = "fig3.new"
    write_json(file, stored)
    with pytest.raises(ValueError, match="'fig3.new', which claims.toml does not know"):
        renew_claims(folders / "results")


def test_the_page_shows_figures_with_claims_and_numbers(folders):
    save_figure(drawing(), "fig3", {"error_mm": 7.5, "curve": list(range(20))}, VALUES, ORIGIN, "quick")
    page = write_page(paths.FIGURES, folders / "build/figures.html").read_text()
    assert "1 of 2 claims hold" in page and "does not hold" in page and "data:image/png;base64," in page
    assert "20 values" in page and "http" not in page


def test_a_broken_result_file_is_named(tmp_path):
    (tmp_path / "fig3.json").write_text('{"name": "fig3", "claims": [{"id": 1}]}')
    with pytest.raises(ValueError, match=r"fig3\.json is no result file"):
        read_results(tmp_path)


def test_what_an_unfinished_benchmark_keeps_is_no_result_yet(tmp_path):
    (tmp_path / "refine.AB.partial.json").write_text('{"parameters": {}, "users": {}}')
    assert read_results(tmp_path) == []
