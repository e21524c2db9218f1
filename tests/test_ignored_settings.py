"""What a method is said not to read, it does not read, and everything else of its sections it does."""

from pathlib import Path
from typing import Any, get_args

import pytest
from learning_cases import composed
from test_training import run

from pipelines.params import refuse_without_effect
from rmiov2 import config as configuration
from rmiov2.types import UserError

SHARED = ("world_model", "policy", "pretrain")
METHODS = {
    "rmiov2": ["toy_lights"], "mamba": ["toy_lights"], "mag": ["toy_lights"], "mappo": ["toy_lights", "toy_dials"],
    "qmix": ["toy_lights"], "facmac": ["toy_dials"], "facmac_discrete": ["toy_lights"],
}  # fmt: skip
SHORT = (
    "preset=toy", "collect.num_envs=4", "collect.warmup_steps=60", "pretrain.env_steps=200", "pretrain.segment=24",
    "pretrain.eval_every=100", "pretrain.policy_after=60", "finetune.updates=20",
)  # fmt: skip


def shared(keys: Any) -> set[str]:
    return {key for key in keys if key.partition(".")[0] in SHARED}


@pytest.mark.parametrize("agent", METHODS)
def test_a_method_reads_of_the_shared_sections_what_it_does_not_ignore(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[str] = set()
    sections = {configuration.Config.model_fields[name].annotation: name for name in SHARED}
    get, parse = configuration.Section.__getattribute__, configuration.parse

    def noted(self: Any, name: str) -> Any:
        if type(self) in sections and name in type(self).model_fields:
            read.add(f"{sections[type(self)]}.{name}")
        return get(self, name)

    def parsed(values: Any, source: str) -> Any:
        before = set(read)
        try:
            return parse(values, source)  # which compares settings with each other
        finally:
            read.intersection_update(before)

    configs = [composed(f"agent={agent}", f"env={env}", *SHORT) for env in METHODS[agent]]
    monkeypatch.setattr(configuration.Section, "__getattribute__", noted)
    monkeypatch.setattr(configuration, "parse", parsed)
    for index, config in enumerate(configs):
        run(config, tmp_path / str(index))
    monkeypatch.undo()
    name = str(configs[0].agent.name)
    everything, ignored = shared(configuration.known_keys(name)), set(configuration.ignored_keys(name))
    assert ignored <= everything and read == everything - ignored


def test_no_method_is_left_out() -> None:
    names = {
        name
        for kind in get_args(get_args(configuration.Agent)[0])
        for name in get_args(kind.model_fields["name"].annotation)
    }
    others = {"gawm", "rmio", "own"}  # RMIOv2 by other settings, and what a user's class reads
    assert names == set(METHODS) - {"facmac_discrete"} | others


@pytest.mark.parametrize("override", ["policy.horizon=3", "world_model.lr=1e-3", "ablation=no_fusion"])
def test_what_would_change_nothing_is_refused(override: str) -> None:
    with pytest.raises(UserError, match="changes nothing: qmix does not read"):
        refuse_without_effect(["agent=qmix", override], "qmix")
    refuse_without_effect(["agent=rmiov2", override], "rmiov2")


def test_what_changes_something_is_not() -> None:
    refuse_without_effect(["agent=qmix", "policy.gamma=0.9", "ablation=bursty_loss", "preset=paper"], "qmix")
