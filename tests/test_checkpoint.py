"""Checkpoints: everything comes back exactly, nothing half-written or altered is ever loaded."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from storage_cases import killed_at_every_line

from rmiov2 import config as configuration
from rmiov2.agents.base import load_parts
from rmiov2.agents.optimiser import Optimiser
from rmiov2.files import write_json
from rmiov2.seeding import Generators
from rmiov2.training import checkpoint
from rmiov2.types import EnvSpec, UserError

CONFIG = configuration.load(Path(__file__).parent.parent / "params.yaml")
SPEC = EnvSpec("toy/x", 2, 3, (3, 2), 4, (4, 4), True, 1, 50, "win_rate", (1, 0))


def save(path: Path, state: Any) -> None:
    checkpoint.save(path, state, config=CONFIG, spec=SPEC)


def same(left: Any, right: Any) -> bool:
    """Equal in type, order and value, to the bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and left.shape == right.shape and torch.equal(left, right)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    return bool(left == right)


def test_what_was_written_before_a_setting_was_there_has_what_held_then(tmp_path: Path) -> None:
    values = CONFIG.model_dump(mode="json")
    assert values.pop("device") == "cpu"
    assert values["world_model"].pop("foresight") == 0
    older = SimpleNamespace(model_dump=lambda mode: values)
    checkpoint.save(tmp_path / "c.safetensors", {}, config=older, spec=SPEC)  # type: ignore[arg-type]
    assert checkpoint.load(tmp_path / "c.safetensors").config == CONFIG


def test_every_kind_of_value_comes_back_exactly(tmp_path: Path) -> None:
    weight = torch.randn(3, 4)
    state = {
        "numbers": [1, -0.1, 1e-300, True, None, "é/ü", float("inf"), 2**127 + 1],
        "tuple": (0.9, (0.999, [])),
        "integer keys": {0: {"step": torch.tensor(3.0)}, 7: {}, "0": "text"},
        "tensors": {
            "scalar": torch.tensor(2.5, dtype=torch.float64),
            "empty": torch.zeros(0, 3),
            "half": torch.randn(5).to(torch.bfloat16),
            "transposed": weight.T,
            "the same twice": [weight, weight],
            "bool": torch.tensor([True, False]),
            "whole": torch.arange(4),
        },
        "arrays": {
            "scalar": np.array(1.5),
            "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "u": np.arange(3, dtype=np.uint8),
        },
    }
    save(tmp_path / "c.safetensors", state)
    loaded = checkpoint.load(tmp_path / "c.safetensors")
    assert same(loaded.state, state)
    assert loaded.config == CONFIG and loaded.spec == SPEC
    nan = {"x": float("nan")}
    save(tmp_path / "c.safetensors", nan)
    assert np.isnan(checkpoint.load(tmp_path / "c.safetensors").state["x"])


def test_what_was_loaded_is_neither_shared_nor_read_only(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save(path, {"t": torch.zeros(2), "a": np.zeros(2)})
    state = checkpoint.load(path).state
    state["t"] += 1
    state["a"] += 1
    assert same(checkpoint.load(path).state, {"t": torch.zeros(2), "a": np.zeros(2)})


def learner(seed: int) -> tuple[torch.nn.Module, Optimiser]:
    torch.manual_seed(seed)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    return module, Optimiser(torch.optim.AdamW, module, 1e-3, betas=(0.9, 0.95))


def learn(module: torch.nn.Module, optimiser: Optimiser, rngs: Generators, updates: int) -> None:
    for _ in range(updates):
        x = torch.randn(16, 4, generator=rngs.torch) + torch.from_numpy(rngs.numpy["replay"].normal(size=4)).float()
        optimiser.step(module(x).square().mean(), 10.0, 1e-3)


@pytest.mark.parametrize("learned", [0, 2])
def test_learning_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(learned: int, tmp_path: Path) -> None:
    """learned: updates of who loads it, whose optimiser is there already or is made later."""
    module, optimiser = learner(0)
    rngs = Generators(0)
    learn(module, optimiser, rngs, 5)
    save(
        tmp_path / "c.safetensors",
        {"module": module.state_dict(), "optimiser": optimiser.state_dict(), "generators": rngs.state_dict()},
    )

    other, other_optimiser = learner(1)
    other_rngs = Generators(1)
    learn(other, other_optimiser, other_rngs, learned)
    state = checkpoint.load(tmp_path / "c.safetensors").state
    load_parts({"module": other, "optimiser": other_optimiser}, state)
    other_rngs.load_state_dict(state["generators"])
    assert same(other_optimiser.state_dict(), optimiser.state_dict())

    learn(module, optimiser, rngs, 5)
    learn(other, other_optimiser, other_rngs, 5)
    assert same(dict(other.state_dict()), dict(module.state_dict()))
    assert same(other_optimiser.state_dict(), optimiser.state_dict())
    assert other_rngs.state_dict() == rngs.state_dict()


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    state = {f"weight {i}": torch.full((i,), float(i)) for i in range(20)} | {"rng": Generators(0).state_dict()}
    for name in "ab":
        save(tmp_path / name, state)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_changed_byte_anywhere_and_any_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save(path, {"weight": torch.randn(50), "step": 12})
    good = path.read_bytes()
    for at in [*range(0, len(good), 29), len(good) - 1]:
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(UserError, match=str(path)):
            checkpoint.load(path)
    for size in (0, 7, 100, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(UserError, match="truncated"):
            checkpoint.load(path)


def test_what_is_no_checkpoint_of_this_format_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(UserError, match="no checkpoint at"):
        checkpoint.load(path)
    with pytest.raises(UserError, match="cannot be read"):
        checkpoint.load(tmp_path)
    path.write_bytes(b"weights, honestly" * 10)
    with pytest.raises(UserError, match="no checkpoint"):
        checkpoint.load(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="no checkpoint of rmiov2"):
        checkpoint.load(path)
    save_file({"weight": torch.zeros(2)}, path, {"rmiov2": json.dumps({"format": 99})})
    with pytest.raises(UserError, match="format 99, expected 1"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({"a": {"b": object()}}, "/a/b is a object"),
        ({"a": {1.5: 1}}, "key 1.5"),
        ({"a": np.array(["text"])}, "/a is an array"),
        ({"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}}, "/a/b names two tensors"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(tmp_path: Path, state: Any, word: str) -> None:
    with pytest.raises(UserError, match=word):
        save(tmp_path / "c.safetensors", state)
    assert list(tmp_path.iterdir()) == []


def test_killed_at_any_line_the_old_checkpoint_or_the_new_one_is_there(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    old, new = {"step": 1, "w": torch.zeros(3)}, {"step": 2, "w": torch.ones(3)}
    found = set()

    def after(_: int) -> None:
        state = checkpoint.load(path).state
        assert same(state, old) or same(state, new)
        found.add(state["step"])
        save(path, old)
        assert [file.name for file in tmp_path.iterdir()] == [path.name]

    save(path, old)
    assert killed_at_every_line(lambda: save(path, new), after) > 30
    assert found == {1, 2}


def test_a_disk_that_takes_no_more_leaves_the_old_checkpoint_and_nothing_half(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save(path, {"w": torch.zeros(3)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(UserError, match="cannot be written: File too large"):
            save(path, {"w": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert same(checkpoint.load(path).state, {"w": torch.zeros(3)})


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        save(tmp_path / "file" / "c.safetensors", {})


def test_weights_of_another_shape_are_refused_by_name() -> None:
    module = torch.nn.Linear(3, 2)
    with pytest.raises(UserError, match=r"actor.weight is \(2, 4\), these settings make it \(2, 3\)"):
        load_parts({"actor": module}, {"actor": torch.nn.Linear(4, 2).state_dict()})
    with pytest.raises(UserError, match="actor.bias is nothing"):
        load_parts({"actor": module}, {"actor": torch.nn.Linear(3, 2, bias=False).state_dict()})
    with pytest.raises(UserError, match="actor.extra is"):
        load_parts({"actor": module}, {"actor": module.state_dict() | {"extra": torch.zeros(1)}})
    with pytest.raises(UserError, match="holds no critic"):
        load_parts({"critic": module}, {"actor": module.state_dict()})


def test_json_keeps_its_order_and_refuses_what_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "m.json"
    write_json(path, {"b": 1, "a": [0.5]})
    assert list(json.loads(path.read_text()).items()) == [("b", 1), ("a", [0.5])]
    with pytest.raises(UserError, match="m.json"):
        write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text())["b"] == 1
