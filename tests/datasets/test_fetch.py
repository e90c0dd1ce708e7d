"""`hrlib fetch`: from the mirror, from a server, whole and right or not at all."""

import gzip
import hashlib
import http.server
import threading
from functools import partial

import pytest

from hrlib import __main__ as cli
from hrlib.datasets.fetch import DataSet, Entry, dataset_folder, fetch, registry
from hrlib.support import paths

CONTENT = b"1 2 3\n" * 1000


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A data set of two files on a local server, and how often the server was asked."""
    monkeypatch.delenv(paths.MIRROR_VARIABLE, raising=False)
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "table.txt").write_bytes(CONTENT)
    (tmp_path / "www" / "frame.bin").write_bytes(CONTENT[:100])
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "www")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    files = tuple(
        Entry(f"toy/{stored}", f"{address}/{name}", hashlib.sha256(content).hexdigest(), len(content))
        for stored, name, content in (("table.txt.gz", "table.txt", CONTENT), ("frame.bin", "frame.bin", CONTENT[:100]))
    )
    yield {"toy": DataSet("toy", "nobody", "none", 0, files)}, asked, tmp_path / "www"
    server.shutdown()


def test_files_are_fetched_once_checked_and_tables_kept_compressed(served, tmp_path):
    known, asked, _ = served
    folder = fetch("toy", tmp_path / "out", False, known)
    assert folder == tmp_path / "out" / "toy"
    assert gzip.decompress((folder / "table.txt.gz").read_bytes()) == CONTENT
    assert (folder / "frame.bin").read_bytes() == CONTENT[:100]
    fetch("toy", tmp_path / "out", False, known)
    assert asked == ["/table.txt", "/frame.bin"]
    (folder / "frame.bin").write_bytes(b"damaged")
    fetch("toy", tmp_path / "out", False, known)
    assert asked[2:] == ["/frame.bin"] and (folder / "frame.bin").read_bytes() == CONTENT[:100]


def test_the_mirror_comes_first(served, tmp_path, monkeypatch):
    known, asked, _ = served
    (tmp_path / "mirror" / "toy").mkdir(parents=True)
    (tmp_path / "mirror" / "toy" / "table.txt.gz").write_bytes(gzip.compress(CONTENT))
    (tmp_path / "mirror" / "toy" / "frame.bin").write_bytes(b"not what the registry says")
    monkeypatch.setenv(paths.MIRROR_VARIABLE, str(tmp_path / "mirror"))
    fetch("toy", tmp_path / "out", False, known)
    assert asked == ["/frame.bin"]


def test_changed_content_is_refused_and_what_was_finished_stays(served, tmp_path):
    known, _, www = served
    (www / "frame.bin").write_bytes(b"something else")
    with pytest.raises(
        ValueError, match="frame.bin is not the file of the registry .SHA-256 .*: it was changed or cut"
    ):
        fetch("toy", tmp_path / "out", False, known)
    assert [f.name for f in (tmp_path / "out" / "toy").iterdir()] == ["table.txt.gz"]
    (www / "frame.bin").unlink()
    with pytest.raises(OSError, match="cannot fetch .*frame.bin: .*404.*run it again"):
        fetch("toy", tmp_path / "out", False, known)


def test_the_registry_knows_every_data_set_and_how_to_get_it(capsys):
    known = registry()
    assert {"published", "sr305", "poses", "asl_fingerspelling", "nyu", "icvl", "msra15"} <= set(known)
    for data in known.values():
        assert data.citation and data.licence and data.bytes > 0
        assert data.files or (data.page.startswith("https://") and data.put)
        for entry in data.files:
            assert (
                entry.url.startswith("https://") and len(entry.sha256) == 64 and entry.path.startswith(data.name + "/")
            )
    with pytest.raises(ValueError, match="nyu cannot be fetched by a program: get it at https://.*unpack"):
        fetch("nyu")
    with pytest.raises(ValueError, match="unknown data set 'imagenet'; there are: published"):
        fetch("imagenet")
    assert cli.fetch() == 0
    assert "hrlib fetch sr305" in capsys.readouterr().out


def test_names_come_right_after_the_command(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["hrlib", "fetch", "imagenet", "mnist"])
    assert cli.main() == 2 and "unknown data set 'imagenet'" in capsys.readouterr().err


@pytest.mark.mirror
@pytest.mark.slow
def test_the_mirror_has_what_the_registry_says(tmp_path):
    for name in ("published", "sr305", "poses"):
        fetch(name, tmp_path, False)
    assert len(list((tmp_path / "sr305").rglob("*.png"))) == 19


def test_fetched_data_are_found(tmp_path, monkeypatch):
    monkeypatch.delenv(paths.MIRROR_VARIABLE, raising=False)
    monkeypatch.setattr(paths, "FETCHED", tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="`hrlib fetch sr305` has not fetched it"):
        dataset_folder("sr305")
    (tmp_path / "cache" / "sr305").mkdir(parents=True)
    assert dataset_folder("sr305") == tmp_path / "cache" / "sr305"


def test_what_cannot_be_fetched_is_not_said_to_be_fetchable(tmp_path, monkeypatch):
    monkeypatch.delenv(paths.MIRROR_VARIABLE, raising=False)
    monkeypatch.setattr(paths, "FETCHED", tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="data set nyu not found: .* comes by hand from https://"):
        dataset_folder("nyu")
