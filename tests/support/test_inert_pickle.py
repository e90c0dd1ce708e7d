"""Pickles that are not trusted: arrays come out, and nothing is ever executed."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from mano_fixtures import write_mano
from scipy import sparse

from hrlib.support.inert_pickle import Record, read_arrays

ARRAYS = {
    "floats": np.arange(12.0).reshape(3, 4),
    "by columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "big-endian": np.arange(5, dtype=">i4"),
    "whole": np.array([[4294967295, 0]], np.uint32),
    "flags": np.array([True, False]),
    "number": np.float32(2.5),
    "empty": np.zeros((0, 3)),
}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_arrays_come_out_as_they_were_put_in(tmp_path, protocol):
    rows = sparse.csr_matrix(np.array([[0.0, 1.5], [2.5, 0.0]]))
    parts = ARRAYS | {"rows": rows, "columns": rows.tocsc(), "text": "lbs", "list": [1, 2]}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(parts, protocol))
    read = read_arrays(tmp_path / "a.pkl")
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype and np.array_equal(read[name], array), name
    assert np.array_equal(read["rows"].toarray(), rows.toarray()) and read["columns"].format == "csc"
    assert (read["text"], read["list"]) == ("lbs", [1, 2])


def test_chumpy_s_arrays_need_no_chumpy(tmp_path):
    shapes = np.arange(24.0).reshape(4, 3, 2)
    read = read_arrays(write_mano(tmp_path / "m.pkl", shapedirs=shapes))
    assert np.array_equal(read["shapedirs"], shapes)


class Calls:
    """An object whose pickle calls something."""

    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


def attacks(mark: str) -> dict[str, bytes]:
    """Pickles that would make the file `mark`, by each way in which a pickle has something called."""
    command = f"touch {mark}".encode()
    write = f"open({mark!r}, 'w')"
    return {
        "os.system": pickle.dumps({"f": Calls(os.system, f"touch {mark}")}, 2),
        "eval": pickle.dumps({"f": Calls(eval, write)}, 4),
        "open": pickle.dumps({"f": Calls(open, mark, "w")}, 0),
        "an inner one": pickle.dumps({"f": [np.eye(2), {"deep": (Calls(os.system, f"touch {mark}"),)}]}, 2),
        "inst": b"(S'" + command + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'" + command + b"'\no.",
        "newobj": b"\x80\x02cos\nsystem\n(S'" + command + b"'\nt\x81.",
        "numpy's own": b"cnumpy.testing._private.utils\nrunstring\n(S'" + write.encode() + b"'\n}tR.",
        "through a kept package": b"\x80\x04\x8c\tchumpy.ch\x8c\tos.system\x93\x8c"
        + bytes([len(command)])
        + command
        + b"\x85R.",
        "getattr": b"c__builtin__\ngetattr\n(cos\nsystem\nS'__call__'\ntR(S'" + command + b"'\ntR.",
        "a dtype of objects": pickle.dumps({"f": np.array([Calls(os.system, f"touch {mark}")], object)}, 2),
        "persistent": b"S'" + command + b"'\nQ.",
        "extension": b"\x82\x01.",
        "a record is called": b"\x80\x02cchumpy.ch\nCh\n)\x81S'" + command + b"'\n\x85R.",
        "state of a name": b"\x80\x02}S'f'\ncchumpy.ch\nCh\n}S'name'\nS'x'\nsbs.",
    }


@pytest.mark.parametrize("name", attacks(""))
def test_nothing_is_executed(tmp_path, name):
    mark, file = tmp_path / "executed", tmp_path / "evil.pkl"
    file.write_bytes(attacks(str(mark))[name])
    with pytest.raises(ValueError, match=r"evil.pkl is no pickle of arrays: "):
        read_arrays(file)
    assert not mark.exists()


def test_the_attacks_are_real(tmp_path):
    """Those that a plain pickle would let through do execute there: the test above would notice."""
    for name in ("os.system", "eval", "open", "an inner one", "inst", "obj"):
        mark = tmp_path / name.replace(" ", "_")
        try:
            pickle.loads(attacks(str(mark))[name])
        except TypeError:  # what came of the call is no class
            pass
        assert mark.exists(), name


def test_what_is_refused_is_named(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"f": Calls(os.system, "true")}, 2))
    with pytest.raises(
        ValueError, match=r"it asks for (posix|nt).system, which no file of arrays needs; nothing of it was"
    ):
        read_arrays(tmp_path / "a.pkl")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(OrderedDict(a=1)))
    with pytest.raises(ValueError, match="it asks for collections.OrderedDict"):
        read_arrays(tmp_path / "b.pkl")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps([1]),
        pickle.dumps({"a": np.eye(3)}, 2)[:-30],
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
    ],
)
def test_damaged_files_are_refused_in_words(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ValueError, match="a.pkl is no pickle of arrays: .*; fetch it again from where it is published"):
        read_arrays(tmp_path / "a.pkl")


def test_indices_beyond_a_sparse_matrix_are_refused(tmp_path):
    matrix = sparse.csc_matrix(np.eye(3))
    matrix.indices[2] = 7
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"J": matrix}, 2))
    with pytest.raises(ValueError, match="a.pkl is no pickle of arrays: .*ind"):
        read_arrays(tmp_path / "a.pkl")


def test_containers_that_are_no_arrays_stay_records(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"s": {1, 2}}, 2))
    assert isinstance(read_arrays(tmp_path / "a.pkl")["s"], Record)
