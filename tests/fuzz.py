"""Requests that no client should send, from a seed: how each came about, its headers and its body."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

JSON = {"Content-Type": "application/json"}
ATOMS: list[Any] = [
    None, True, False, 0, -1, 3, 10**30, -(10**400), 1e308, -1e39, 0.5, "", "1.5", "nan", "\ud800", [], {}, [[]],
    [None], {"a": 1}, [[1, 2], [3]], "x" * 3000, float("nan"), float("inf"),
]  # fmt: skip
KEYS = ["obs", "act", "avail", "rows", "start", "inputs", "instances", "dataframe_split", "params", "messages", "", "é"]
TYPES = ["", "text/csv", "text/plain", "application/json; charset=latin-1", "application/json; v=2", "application/x",
         "application/vnd.apache.parquet", "multipart/form-data", ";;;", "application/json" * 40]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every part of a JSON value, lists by a few of their entries."""
    found = [path]
    if isinstance(value, dict):
        found += [place for key in value for place in places(value[key], (*path, key))]
    elif isinstance(value, list):
        found += [place for index in range(min(len(value), 3)) for place in places(value[index], (*path, index))]
    return found


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with `new` at the path."""
    if not path:
        return new
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = new
    return value


def changed_atom(rng: random.Random, valid: dict[str, Any]) -> bytes:
    value = put(copy.deepcopy(valid), rng.choice(places(valid)), rng.choice(ATOMS))
    return json.dumps(value).encode()


def changed_shape(rng: random.Random, valid: dict[str, Any]) -> bytes:
    value = copy.deepcopy(valid)
    path = rng.choice([place for place in places(valid) if place])
    part: Any = value
    for key in path:
        part = part[key]
    return json.dumps(
        put(value, path, rng.choice([[part], [part, part], part * 2 if isinstance(part, list) else []]))
    ).encode()


def changed_keys(rng: random.Random, valid: dict[str, Any]) -> bytes:
    value = copy.deepcopy(valid)
    inside = value if rng.random() < 0.5 else value["inputs"]
    inside[rng.choice(KEYS)] = inside.pop(rng.choice(list(inside))) if rng.random() < 0.6 else rng.choice(ATOMS)
    return json.dumps(value).encode()


def scaled(rng: random.Random, valid: dict[str, Any]) -> bytes:
    """Numbers multiplied beyond every range."""
    value, factor = copy.deepcopy(valid), rng.choice([-1, 1e3, 1e12, 1e38, 1e300])
    name = rng.choice(list(value["inputs"]))

    def scale(part: Any) -> Any:
        return [scale(entry) for entry in part] if isinstance(part, list) else None if part is None else part * factor

    value["inputs"][name] = scale(value["inputs"][name])
    return json.dumps(value).encode()


def truncated(rng: random.Random, valid: dict[str, Any]) -> bytes:
    body = json.dumps(valid).encode()
    return body[: rng.randrange(len(body))]


def broken_bytes(rng: random.Random, valid: dict[str, Any]) -> bytes:
    body = bytearray(json.dumps(valid).encode())
    for _ in range(rng.choice([1, 3, 30])):
        body[rng.randrange(len(body))] = rng.randrange(256)
    return bytes(body)


def noise(rng: random.Random, valid: dict[str, Any]) -> bytes:
    return rng.randbytes(rng.choice([0, 1, 10, 1000]))


def deep(rng: random.Random, valid: dict[str, Any]) -> bytes:
    levels, name = rng.choice([5, 40, 70, 500, 20_000, 200_000]), rng.choice(list(valid["inputs"]))
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    nested = opening * levels + b"1" + closing * levels
    bare = json.dumps(put(copy.deepcopy(valid), ("inputs", name), "HERE")).encode()
    return rng.choice([nested, bare.replace(b'"HERE"', nested)])


def wide(rng: random.Random, valid: dict[str, Any]) -> bytes:
    return b'{"inputs": {"obs": [' + b"[]," * rng.choice([10, 10_000, 100_000]) + b"[]]}}"


WAYS: list[Callable[[random.Random, dict[str, Any]], bytes]] = [
    changed_atom, changed_atom, changed_shape, changed_keys, scaled, truncated, broken_bytes, noise, deep, wide,
]  # fmt: skip


def requests(seed: int, count: int, valid: dict[str, Any]) -> Any:
    """(what was done, headers, body) of `count` requests."""
    rng = random.Random(seed)
    for _ in range(count):
        way = rng.choice(WAYS)
        headers = JSON if rng.random() < 0.9 else {"Content-Type": rng.choice(TYPES)} if rng.random() < 0.8 else {}
        yield way.__name__, headers, way(rng, valid)
