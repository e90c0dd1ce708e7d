"""Networks in ONNX files, run by ONNX Runtime on the CPU: a frame at a time in half of torch's time, whose calls cost more."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class Session:
    """An `InferenceSession` that can be copied and pickled, which ONNX Runtime's own cannot: the copy begins anew."""

    def __init__(self, runs: "InferenceSession", begun_with: tuple[bytes, int]):
        self._runs, self._begun_with = runs, begun_with

    def __reduce__(self) -> tuple:
        return session, self._begun_with

    def __getattr__(self, name: str) -> object:
        return getattr(self._runs, name)


def session(model: bytes, threads: int) -> Session:
    """Runs a model's bytes. Raises ValueError if they are none."""
    import onnxruntime  # when it is needed: importing it takes a tenth of a second

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # idle threads leave the core to others
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only
    try:
        runs = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common class of its errors
        raise ValueError(f"no ONNX model ({type(error).__name__})") from error
    return Session(runs, (model, threads))
