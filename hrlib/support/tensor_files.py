"""Tensors with metadata on disk (safetensors: no pickle), which tell whether they are what was written.

The file carries the SHA-256 of its tensors and metadata. A file without one, as older ones are, is read all the same.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from .files import read_whole

DIGEST = "sha256"  # its key among the metadata
TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
TYPES += (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def tensor_bytes(tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> bytes:
    """The content of a file of tensors and metadata. The same input gives the same bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(tensors, dict(meta) | {DIGEST: _digest(tensors, meta)})
    length = int.from_bytes(content[:8], "little")
    # safetensors writes metadata in any order
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def read_tensors(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file, all numbers finite.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no such file, or not what was written; names the file.
    """
    content = read_whole(path)
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        meta = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except Exception as error:  # safetensors has errors of its own, and passes on torch's
        raise ValueError(f"{path} is no file of tensors ({error}); copy or make it again") from error
    written = meta.pop(DIGEST, None)
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES:
            raise ValueError(f"{path}: {name} has the type {tensor.dtype}, which is not used here; make the file again")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{path}: {name} holds NaN or infinite numbers; make the file again")
    if written is not None and written != _digest(tensors, meta):
        raise ValueError(f"{path} was changed after it was written: its SHA-256 differs; copy or make it again")
    return meta, tensors


def _digest(tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(meta), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
