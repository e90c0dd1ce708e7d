"""The commands on what recorders leave: nothing but a name is said, and the joints are those of the plain frames."""

import json
import shutil

import numpy as np
import pytest
from commands import command
from PIL import Image
from real_fixtures import sr305

from hrlib.personal.sources import opened

pytestmark = pytest.mark.mirror  # small real frames: every fourth pixel of an SR305
CAMERA = {"fx": 476.007 / 4, "fy": 476.007 / 4, "cx": 313.683 / 4, "cy": 242.755 / 4}


def joints(path):
    frames = json.loads(path.read_text())["frames"]
    return np.array([frame["joints_mm"] for frame in frames])


def test_predict_and_refine_take_a_tum_folder_by_its_name(tmp_path, capsys):
    plain, take = tmp_path / "plain", tmp_path / "take"
    rows = []
    for number in (1, 4, 7):
        mm = sr305()[number].depth_mm[::4, ::4]
        for folder, counts in ((plain, mm * 5), (take / "depth", mm * 5)):
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.rint(counts).astype(np.uint16)).save(folder / f"{number}.5.png")
        rows.append(f"{number}.5 depth/{number}.5.png")
    (take / "depth.txt").write_text("# timestamp filename\n" + "\n".join(rows))
    (take / "calibration.txt").write_text(" ".join(map(str, CAMERA.values())))
    numbers = ("--camera", *CAMERA.values(), "--unit-mm", 0.2)
    assert command("predict", plain, *numbers, "--out", tmp_path / "p.csv", "--json", tmp_path / "p.json") == 0
    said = capsys.readouterr()
    assert "reads" not in said.out
    assert command("predict", take, "--out", tmp_path / "t.csv", "--json", tmp_path / "t.json") == 0
    said = capsys.readouterr()
    camera = "119.0018 119.0018 78.42075 60.68875"
    line = f"reads 3 frames of a TUM RGB-D folder, 0.2 mm a count, camera {camera} from calibration.txt"
    assert said.out.splitlines()[0] == line and said.out.count("reads") == 1
    assert np.abs(joints(tmp_path / "t.json") - joints(tmp_path / "p.json")).max() < 0.5, "mm: counts of 0.2 mm, not 1"
    assert command("refine", take, "--out", tmp_path / "o", "--check-only") == 0
    assert capsys.readouterr().out.startswith(line)
    assert command("predict", take, "--camera", 60, 60, "--out", tmp_path / "t.csv") in (0, 2)
    assert "--camera says focal lengths of 60 and 60 px" in capsys.readouterr().err
    with opened(take) as source:
        assert source.camera.fx == CAMERA["fx"] and source.unit_mm == 0.2 and len(list(source.images)) == 3
    (take / "calibration.txt").unlink()
    assert command("predict", take, "--out", tmp_path / "t.csv") == 2
    assert "take does not tell its camera: say camera=(fx, fy) in px (--camera FX FY" in capsys.readouterr().err
    shutil.rmtree(take / "depth")
    (take / "depth.txt").unlink()
    assert command("predict", take, *numbers, "--out", tmp_path / "t.csv") == 2
