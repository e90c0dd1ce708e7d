"""Networks in ONNX files, run by ONNX Runtime on the CPU: a frame at a time in half of torch's time, whose calls cost more."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def session(model: bytes, threads: int) -> "InferenceSession":
    """Runs a model's bytes. Raises ValueError if they are none."""
    import onnxruntime  # when it is needed: importing it takes a tenth of a second

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # idle threads leave the core to others
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common class of its errors
        raise ValueError(f"no ONNX model ({type(error).__name__})") from error
