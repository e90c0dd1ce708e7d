"""Files: what writers destroy, leave and share, on real processes; what readers refuse."""

import gzip
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hrlib.support.files import printable, read_whole, unzipped, whole_files, write_bytes_atomically
from hrlib.support.parallel import alone_in

WRITE = """
import sys, time
from pathlib import Path
from hrlib.support.files import whole_files
with whole_files(Path(sys.argv[1])) as (file,):
    file.write(b"half")
    print("open", flush=True)
    time.sleep(60)
"""
HOLD = """
import sys, time
from hrlib.support.parallel import alone_in
with alone_in(sys.argv[1]):
    print("open", flush=True)
    time.sleep(60)
"""


def started(code: str, path: Path) -> subprocess.Popen:
    """A process that has come to its "open"."""
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "open\n"
    return process


def test_links_are_followed_and_permissions_kept(tmp_path):
    write_bytes_atomically(tmp_path / "real", b"old")
    os.chmod(tmp_path / "real", 0o600)
    (tmp_path / "link").symlink_to("real")
    write_bytes_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o600


def test_devices_pipes_and_folders_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "pipe"), (Path("/dev/null"), "device"), (tmp_path, "folder")):
        with pytest.raises(OSError, match=f"cannot write .*that is a {kind}; name a file"):
            write_bytes_atomically(path, b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and Path("/dev/null").is_char_device()


def test_pipes_devices_and_giants_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match="is no regular file but a (pipe|device)"):
            read_whole(path)
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("a")
    assert read_whole(tmp_path / "link", 5) == b"12345"
    with pytest.raises(ValueError, match="has more than 4 bytes"):
        read_whole(tmp_path / "a", 4)


def test_gzip_bombs_and_damaged_streams_are_refused():
    with pytest.raises(ValueError, match="bomb unpacks to more than 1,000 bytes"):
        unzipped(gzip.compress(bytes(10**6)), 1000, "bomb")
    content = bytearray(gzip.compress(os.urandom(1000)))
    content[12] ^= 0xFF
    with pytest.raises(ValueError, match="a.gz is no whole gzip file"):
        unzipped(bytes(content), 10**6, "a.gz")


def test_two_processes_share_no_temporary_file_and_the_dead_leave_none(tmp_path):
    write_bytes_atomically(tmp_path / "a", b"old")
    (tmp_path / ".a.1234.partial").write_bytes(b"as older versions left it")
    process = started(WRITE, tmp_path / "a")
    try:
        with whole_files(tmp_path / "a") as (file,):
            file.write(b"ours")
            assert len(list(tmp_path.glob(".a.*.partial"))) == 2, "the older one is gone, that in use is not"
        assert (tmp_path / "a").read_bytes() == b"ours"
    finally:
        process.kill()
        process.wait()
    write_bytes_atomically(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_has_one_run_and_is_free_when_that_was_killed(tmp_path):
    process = started(HOLD, tmp_path / "out")
    try:
        with pytest.raises(OSError, match="another run is writing into .*out; wait for its end"):
            with alone_in(tmp_path / "out"):
                raise AssertionError("the block must not start")
    finally:
        process.kill()
        process.wait()
    with alone_in(tmp_path / "out"), alone_in(tmp_path / "out"):
        pass


@pytest.mark.parametrize("command", ["record", "live", "fetch"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_every_signal_stops_as_ctrl_c_does(number, command):
    code = """
import sys, time
from hrlib import __main__ as cli
from hrlib.support.stops import finish_the_step
def record():
    \"\"\"Wait.\"\"\"
    print("open", flush=True)
    time.sleep(60)
def live():
    \"\"\"Learn, and end after a step.\"\"\"
    with finish_the_step() as interrupted:
        print("open", flush=True)
        while not interrupted:
            time.sleep(0.01)
    raise KeyboardInterrupt
def fetch():
    \"\"\"Call a library that swallows what interrupts it.\"\"\"
    try:
        record()
    except KeyboardInterrupt:
        raise RuntimeError("not compiled") from None
cli.COMMANDS |= {"record": record, "live": live, "fetch": fetch}
sys.argv = ["hrlib", sys.argv[1]]
sys.exit(cli.main())
"""
    words = [sys.executable, "-c", code, command]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "open\n"
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number and said.startswith("hrlib: stopped by ") and "Traceback" not in said


def test_twenty_writers_killed_at_random_moments_lose_nothing(tmp_path):
    code = """
import sys
from pathlib import Path
from hrlib.support.files import write_together
print("open", flush=True)
for i in range(10**6):
    write_together({Path(sys.argv[1]) / name: bytes([i % 251]) * 300_000 for name in "ab"})
"""
    for kill in range(20):
        process = started(code, tmp_path)
        time.sleep(0.02 + 0.1 * ((kill * 7919) % 20) / 20)
        process.kill()
        process.wait()
        for path in tmp_path.glob("[ab]"):
            content = path.read_bytes()
            assert len(content) == 300_000 and content == content[:1] * 300_000
    assert len(list(tmp_path.glob("[ab]"))) == 2 and len(list(tmp_path.glob(".*"))) <= 2


def test_names_do_not_act_on_a_terminal():
    assert printable("a\x1b[31m\nb\udcff ü $") == "a\\x1b[31m\\nb\\xff ü $"
