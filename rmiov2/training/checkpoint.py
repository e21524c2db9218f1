"""One file per checkpoint: tensors as safetensors, everything else as JSON in its header, sealed with a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from rmiov2 import config as configuration
from rmiov2.config import Config
from rmiov2.files import parse_spec, read_bytes, replace_file
from rmiov2.types import EnvSpec, UserError

FORMAT = 1
# safetensors writes several entries in an order of its own each time, so there is but one
ENTRY = "rmiov2"
NAME = "checkpoint.safetensors"
NO_DIGEST = "0" * 64


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What was saved: the settings, the environment, and the state, all tensors on the CPU."""

    config: Config
    spec: EnvSpec
    state: dict[Any, Any]


def save(path: Path, state: Mapping[str, Any], *, config: Config, spec: EnvSpec) -> None:
    """Write a checkpoint, whole or not at all: the same state gives the same bytes.

    state: dicts (keys str or int), lists and tuples of tensors, numpy arrays, numbers, strings, bools and None.
    Raises UserError if it holds anything else, or if the file cannot be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    header = {
        "format": FORMAT,
        "digest": NO_DIGEST,
        "config": config.model_dump(mode="json"),
        "spec": dataclasses.asdict(spec),
        "state": _encode(state, "", tensors),
    }
    data = safetensors.torch.save(tensors, {ENTRY: json.dumps(header, allow_nan=False)})
    with replace_file(path) as handle:
        handle.write(data.replace(NO_DIGEST.encode(), _digest(data).encode(), 1))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; raises UserError if it is missing, no checkpoint, of another format, truncated or altered."""
    data = read_bytes(path, f"no checkpoint at {path}; train first, or give the path of one")
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is no checkpoint, or a truncated one ({error}); make it again") from error
    header = _header(data, path)
    if header.get("format") != FORMAT:
        raise UserError(f"{path} has checkpoint format {header.get('format')}, expected {FORMAT}; make it again")
    digest = str(header["digest"])
    if _digest(data.replace(digest.encode(), NO_DIGEST.encode(), 1)) != digest:
        raise UserError(f"{path} was altered since it was saved: its digest differs; restore it or make it again")
    try:
        config = configuration.parse(configuration.upgraded(header["config"]), str(path))
    except UserError as error:
        raise UserError(
            f"{error}\n{path} was written by a version with other settings; load it with that one, or train again"
        ) from error
    return Checkpoint(
        config=config,
        spec=parse_spec(header["spec"], path),
        state=_decode(header["state"], tensors),
    )


def find(path: Path) -> Path:
    """The checkpoint file that a path means: itself, or the newest stage's in a folder; raises UserError if none."""
    if path.is_file():
        return path
    for inside in ("", "finetune", "models/finetune", "pretrain", "models/pretrain"):
        if (path / inside / NAME).is_file():
            return path / inside / NAME
    raise UserError(f"no checkpoint at {path}; give a checkpoint.safetensors or a folder that holds one")


def _digest(data: bytes) -> str:
    """Of the whole file, in which the place of the digest is still NO_DIGEST."""
    return hashlib.sha256(data).hexdigest()


def _header(data: bytes, path: Path) -> dict[str, Any]:
    """Our entry of the header of safetensors: 8 bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    if ENTRY not in entries:
        raise UserError(f"{path} is a safetensors file but no checkpoint of rmiov2; give the path of one")
    try:
        header = json.loads(entries[ENTRY])
    except json.JSONDecodeError as error:
        raise UserError(f"{path} was altered since it was saved ({error}); restore it or make it again") from error
    if not isinstance(header, dict) or (header.get("format") == FORMAT and "digest" not in header):
        raise UserError(f"{path} was altered since it was saved: its header lost a part; restore it or make it again")
    return header


def _encode(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """JSON for value; its tensors go to `tensors` by their slashed names."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, torch.Tensor | np.ndarray):
        return _encode_tensor(value, name, tensors)
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, Mapping):
        return {"dict": [[_key(key, name), _encode(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
    raise UserError(f"checkpoint{name} is a {type(value).__name__}, expected tensors, numbers, strings, lists or dicts")


def _encode_tensor(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    if name in tensors:
        raise UserError(
            f"checkpoint{name} names two tensors; rename a key with a slash, or one of a number and its text"
        )
    if isinstance(value, torch.Tensor):
        # a copy of its own, since safetensors refuses tensors that share memory
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if value.dtype.kind not in "biuf":
        raise UserError(f"checkpoint{name} is an array of {value.dtype}, expected numbers or bools")
    tensors[name] = torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
    return {"array": name}


def _key(key: Any, name: str) -> str | int:
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise UserError(f"checkpoint{name} has the key {key!r}, expected a string or an integer")
    return key


def _decode(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """What _encode was given."""
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in content}
    if kind == "tuple":
        return tuple(_decode(item, tensors) for item in content)
    if kind == "float":
        return float(content)
    return tensors[content] if kind == "tensor" else tensors[content].numpy()
