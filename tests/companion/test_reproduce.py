"""companion.reproduce and the command line: profiles, refused parameters, loud failures, one line for the user's errors."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from hrlib import __main__ as cli
from hrlib.companion import reproduce
from hrlib.companion.profiles import pick, profile
from hrlib.companion.reproduce import find_notebooks, run_notebook
from hrlib.support import paths

SAVE = """
from matplotlib.figure import Figure
from pathlib import Path
from hrlib.companion import results
from hrlib.support import paths
results.caption = lambda record: {{}}
paths.ROOT = Path({root!r}); paths.FIGURES = paths.ROOT / "figures"; paths.BUILD = paths.ROOT / "build"
results.save_figure(Figure(figsize=(1, 1)), "01_level", {{"level": 1}}, {{}}, {{"ground_truth": "none"}}, profile)
"""


@pytest.fixture(autouse=True)
def no_profile_from_outside(monkeypatch):
    monkeypatch.delenv("HRLIB_PROFILE", raising=False)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(paths, "BENCHMARKS", tmp_path / "benchmarks")
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(paths, "EXECUTED", tmp_path / "build/notebooks")
    return tmp_path


def notebook(folder, name, *cells, tagged=True):
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    parameters = nbformat.v4.new_code_cell('profile = "quick"', metadata={"tags": ["parameters"] if tagged else []})
    book.cells = [parameters, *(nbformat.v4.new_code_cell(cell) for cell in cells)]
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(book, path)
    return path


def test_the_environment_overrules_the_notebooks_profile(monkeypatch):
    assert profile("full") == "full" and profile() == "quick"
    monkeypatch.setenv("HRLIB_PROFILE", "smoke")
    assert profile("full") == "smoke"
    with pytest.raises(ValueError, match="profile must be 'smoke', 'quick' or 'full', got 'fast'"):
        profile("fast")
    monkeypatch.setenv("HRLIB_PROFILE", "fast")
    with pytest.raises(ValueError, match="HRLIB_PROFILE must be 'smoke'"):
        profile("full")


def test_pick_takes_the_profiles_setting():
    assert [pick(p, smoke=1, quick=2, full=3) for p in ("smoke", "quick", "full")] == [1, 2, 3]
    with pytest.raises(ValueError, match="got 'fast'"):
        pick("fast", smoke=1, quick=2, full=3)


def test_only_names_notebooks_by_their_first_characters(folders):
    for name in ("03_pose", "00_hand", "04_shape"):
        notebook(folders, name)
    assert [p.stem for p in find_notebooks()] == ["00_hand", "03_pose", "04_shape"]
    assert [p.stem for p in find_notebooks(["04", "03"])] == ["03_pose", "04_shape"]
    with pytest.raises(ValueError, match="got '07'; there are: 00_hand, 03_pose, 04_shape"):
        find_notebooks(["03", "07"])


def test_unknown_parameters_are_refused_before_anything_runs(folders):
    path = notebook(folders, "03_pose", "raise RuntimeError")
    with pytest.raises(ValueError, match=r"03_pose.ipynb has no parameter stepz; .* has: profile"):
        run_notebook(path, {"profile": "smoke", "stepz": 3}, folders / "out.ipynb")
    untagged = notebook(folders, "04_shape", tagged=False)
    with pytest.raises(ValueError, match="no parameter profile; .*is the tag missing"):
        run_notebook(untagged, {"profile": "smoke"}, folders / "out.ipynb")
    assert not (folders / "out.ipynb").exists()


@pytest.mark.slow
def test_a_failing_notebook_is_loud_and_the_others_still_run(folders, capfd, monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setenv("HRLIB_PROFILE", "full")  # the profile asked for counts
    notebook(folders, "01_good", SAVE.format(root=str(folders)), "from pathlib import Path; Path('here').touch()")
    notebook(folders, "02_bad", "import math", "math.sqrt(-1)  # the cell that fails")
    notebook(folders, "03_after", "print(profile)")
    assert reproduce.reproduce("smoke") == 1
    out, err = capfd.readouterr()
    assert "cell 4 of 02_bad.ipynb: ValueError" in err and "the cell that fails" in err and "\x1b[" not in out
    assert "FAILED: 02_bad;" in out, err
    rows = [line.split() for line in out.splitlines() if line.startswith(("01_", "02_", "03_"))]
    assert [(row[0], *row[2:]) for row in rows] == [
        ("01_good", "01_level"),
        ("02_bad", "-", "FAILED"),
        ("03_after", "-"),
    ]
    assert (folders / "notebooks/here").exists()  # notebooks run in their own folder
    executed = nbformat.read(folders / "build/notebooks/03_after.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "smoke\n"
    assert os.environ["HRLIB_PROFILE"] == "full"
    assert "01_level" in (folders / "build/figures.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "at_once, sent, how",
    [
        (1, signal.SIGINT, "Ctrl-C"),
        (2, signal.SIGINT, "Ctrl-C"),
        (1, signal.SIGTERM, "SIGTERM"),
        (1, getattr(signal, "SIGHUP", None), "SIGHUP"),
    ],
)
def test_a_signal_stops_all_that_run_and_the_command_says_what_was_finished(folders, at_once, sent, how):
    if sent is None:
        pytest.skip("this system has no such signal")
    notebook(folders, "20_quick", "pass")
    for number in range(at_once):
        begun = f"import os, time; print(os.getpid(), file=open({str(folders / f'begun{number}')!r}, 'w'))"
        notebook(folders, f"2{1 + number}_long", begun, "time.sleep(120)")
    notebook(folders, "24_never", "pass")
    code = f"""
import signal, sys
from pathlib import Path
for number in ({int(sent)}, signal.SIGINT):  # nohup and a shell's background jobs ignore some
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
from hrlib import __main__ as cli
from hrlib.support import paths
paths.NOTEBOOKS = Path({str(folders / "notebooks")!r})
paths.BUILD = Path({str(folders / "build")!r}); paths.EXECUTED = paths.BUILD / "notebooks"
if __name__ == "__main__":
    sys.argv = ["hrlib", "reproduce", "--profile", "smoke"]
    sys.exit(cli.main())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=paths.ROOT,
        env=os.environ | {"OMP_NUM_THREADS": str(at_once)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    begun = [folders / f"begun{number}" for number in range(at_once)]
    until = time.monotonic() + 300
    while not all(file.exists() and file.read_text().strip() for file in begun) and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + sent, out + err
    assert f"stopped by {how} after 1 of {2 + at_once} notebooks" in err and "Traceback" not in err
    names = [line.split()[0] for line in out.splitlines() if "not run to the end" in line]
    assert names == ["21_long", "22_long"][:at_once] + ["24_never"]
    for file in begun:
        with pytest.raises(ProcessLookupError):  # the kernel
            os.kill(int(file.read_text()), 0)


@pytest.mark.slow
def test_notebooks_share_cores_and_those_that_measure_time_run_alone(folders, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for name in ("01_first", "02_second", "08_speed"):
        times = "import os, time; begin = time.time(); time.sleep(1)"
        told = (
            f"open({str(folders / name)!r}, 'w').write(f'{{begin}} {{time.time()}} ' + os.environ['OMP_NUM_THREADS'])"
        )
        notebook(folders, name, times, told)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert reproduce.reproduce("smoke") == 0
    first, second, speed = (
        [float(x) for x in (folders / name).read_text().split()] for name in ("01_first", "02_second", "08_speed")
    )
    assert max(first[0], second[0]) < min(first[1], second[1]), "they run side by side"
    assert speed[0] > max(first[1], second[1]), "a notebook that measures time runs when the others have ended"


def test_progress_bars_leave_the_executed_copy_and_warnings_stay(folders):
    code = """
import sys, warnings
from tqdm import tqdm
for _ in tqdm(range(3), desc="frames", mininterval=0): pass
from hrlib.support.progress import tqdm
for _ in tqdm(iter(range(3)), desc="in a notebook", mininterval=0): pass
print("3 of 4 converge: 75%")
print("a line that counts", file=sys.stderr)
"""
    run_notebook(notebook(folders, "03_pose", code), {}, folders / "out.ipynb")
    outputs = nbformat.read(folders / "out.ipynb", as_version=4).cells[-1].outputs
    assert {o.name: o.text for o in outputs} == {"stderr": "a line that counts\n", "stdout": "3 of 4 converge: 75%\n"}


def test_without_notebooks_there_is_nothing_to_do(folders, capsys):
    assert reproduce.reproduce("smoke") == 0
    assert "no notebooks" in capsys.readouterr().out


def run_cli(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["hrlib", *arguments])
    return cli.main()


def test_the_users_errors_are_one_line(folders, monkeypatch, capsys):
    monkeypatch.delenv("HRLIB_DEBUG", raising=False)
    notebook(folders, "01_good")
    assert run_cli(monkeypatch, "reproduce", "--only", "07") == 2
    out, err = capsys.readouterr()
    assert err.startswith("hrlib: only must name notebooks") and err.count("\n") == 1
    monkeypatch.setenv("HRLIB_DEBUG", "1")
    with pytest.raises(ValueError, match="only must name"):
        run_cli(monkeypatch, "reproduce", "--only", "07")


def test_mistakes_in_the_library_keep_their_traceback(monkeypatch):
    def broken() -> int:
        raise KeyError("bug")

    monkeypatch.setitem(cli.COMMANDS, "claims", broken)
    with pytest.raises(KeyError, match="bug"):
        run_cli(monkeypatch, "claims")


@pytest.mark.parametrize("arguments", [["--profile", "fast"], ["--onyl", "03"]])
def test_unknown_options_are_refused(folders, monkeypatch, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        run_cli(monkeypatch, "reproduce", *arguments)
    assert stop.value.code == 2


def test_the_exit_status_of_claims_says_whether_all_is_as_expected(folders, monkeypatch, capsys):
    form = '[claims.%s]\ntext = "what"\nof = "paper"\nsource = "Fig. 3"\noperator = "<"\ntarget = 1\nunit = "mm"\n'
    form += 'target_from = "ours: a test"\nresult = "a"\n'
    known = form % "low" + form % "high" + 'expected = "fails"\nreason = "why"\n[retired]\n'
    (folders / "claims.toml").write_text(known)
    monkeypatch.setattr(paths, "CLAIMS", folders / "claims.toml")
    paths.FIGURES.mkdir()
    row = '{"id": "%s", "claim": "c", "paper": "-", "target": "-", "value": %s, "holds": true}'

    def status(low, high):
        rows = ", ".join(row % pair for pair in (("low", low), ("high", high)))
        text = f'{{"name": "a", "profile": "quick", "metrics": {{}}, "claims": [{rows}], "provenance": {{}}}}'
        (paths.FIGURES / "a.json").write_text(text)
        return run_cli(monkeypatch, "claims")

    assert status(0.5, 2) == 0 and "1 of 2 claims hold; 0 differ" in capsys.readouterr().out
    assert status(2, 2) == status(0.5, 0.5) == status("NaN", 2) == status(0.5, "NaN") == 1
    (paths.FIGURES / "a.json").unlink()
    capsys.readouterr()
    assert run_cli(monkeypatch, "claims") == 1 and "2 differ" in capsys.readouterr().out


def test_help_does_not_load_the_heavy_parts():
    code = "import sys, hrlib.__main__; sys.argv = ['hrlib', '--help']\ntry: hrlib.__main__.main()\nexcept SystemExit: pass\n"
    code += "sys.exit(', '.join({'torch', 'matplotlib', 'papermill', 'numba'} & set(sys.modules)) or None)"
    subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=True, stdout=subprocess.DEVNULL)


def test_folders_of_data_sets_go_to_the_notebooks_that_take_them(tmp_path):
    from hrlib.companion.reproduce import _wanted, reproduce
    from hrlib.support.paths import NOTEBOOKS

    folders = {"nyu": "/data/nyu", "icvl": "/data/icvl"}
    assert _wanted(NOTEBOOKS / "07_state_of_the_art.ipynb", folders) == folders
    assert _wanted(NOTEBOOKS / "00_hand.ipynb", folders) == {}
    with pytest.raises(FileNotFoundError, match="nyu: .* is no folder; name the one that holds the data set"):
        reproduce("smoke", ["07"], data={"nyu": tmp_path / "nowhere", "icvl": None})
