"""States of long runs: tensors come back, and what is no state is named."""

import pickle

import pytest
import torch

from hrlib.support.state_files import cannot_save, read_state, write_state


def test_a_state_comes_back(tmp_path):
    state = {"config": {"steps": 3}, "weights": torch.arange(3.0), "curve": [{"step": 1}]}
    write_state(tmp_path / "state.pt", state)
    stored = read_state(tmp_path / "state.pt", "a training")
    assert stored["config"] == state["config"] and stored["curve"] == state["curve"]
    assert torch.equal(stored["weights"], state["weights"])


@pytest.mark.parametrize("content", [b"", b"half", pickle.dumps({"config": {}}, 2), {"step": 3}, {"config": 3}])
def test_what_is_no_state_is_refused(tmp_path, content):
    path = tmp_path / "state.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write_state(path, content)
    with pytest.raises(ValueError, match=r"state.pt is no state of a training \(.*\); delete it to begin anew"):
        read_state(path, "a training")


def test_an_error_in_saving_says_what_is_kept():
    error = cannot_save(OSError(28, "No space left on device"), "the training to out", "the state of 3 steps")
    assert error.errno == 28
    assert error.strerror == (
        "cannot save the training to out: No space left on device. Free space there and run the same again; "
        "the state of 3 steps is kept and goes on"
    )


def test_the_remedy_is_named_once_and_fits_the_cause(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as raised:
        write_state(tmp_path / "file" / "state.pt", {"config": {}})
    text = str(cannot_save(raised.value, "the training to out", "the state of 3 steps"))
    assert "Mend that" in text and "space" not in text and text.count("kept") == 1
