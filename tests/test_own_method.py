"""agent=own: a class outside the package is trained, kept, resumed and refused as those inside are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from learning_cases import SEEDS, composed, random_games
from off_policy_cases import greedy, trained
from test_checkpoint import same
from test_training import digests, run, run_with_stops

import rmiov2
from pipelines import params
from pipelines.params import compose_config
from pipelines.refusals import refuse_impossible
from pipelines.studies.cells import folder_name
from pipelines.studies.records import refuse_unnamed
from rmiov2.agents.base import Agent
from rmiov2.agents.registry import make_agent
from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.config import Config, Section
from rmiov2.envs.registry import make_env
from rmiov2.seeding import Generators
from rmiov2.training.pretrain import replay_of
from rmiov2.types import UserError

EXAMPLE = ("agent=own", "agent.method=own_method:Independent")
TOY = ("env=toy_lights", "preset=toy")
SHORT = (*EXAMPLE, *TOY, "collect.warmup_steps=96", "pretrain.env_steps=480", "finetune.updates=40", "pretrain.e_m=0.1")


class Inherited(RMIOv2):
    """Nothing of its own."""

    class Settings(Section):
        share: float
        layers: tuple[int, ...] = ()


class Half(Agent):
    """Does not keep the contract."""


class Incapable(RMIOv2):
    capabilities: Any = None


def own(name: str, *overrides: str) -> Config:
    """The settings of a class of this file."""
    return composed("agent=own", f"agent.method={__name__}:{name}", *TOY, *overrides)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_example_learns_the_toy_game_to_its_optimum(seed: int) -> None:
    config = composed(*EXAMPLE, "env=toy_lights", "pretrain.env_steps=8000", "pretrain.e_m=0.1", f"seed={seed}")
    columns = greedy(trained(config))
    assert columns["won"].mean() == 1 and columns["return"].mean() == pytest.approx(12)


def test_stopped_and_started_again_it_is_the_straight_run(tmp_path: Path) -> None:
    config = composed(*SHORT)
    run(config, tmp_path / "straight")
    run_with_stops(config, tmp_path / "stopped")
    assert digests(tmp_path / "stopped") == digests(tmp_path / "straight")
    team = rmiov2.load(tmp_path / "straight" / "finetune")
    assert type(team).__name__ == "Independent" and team.config.agent.label == "Independent"


def test_a_class_that_inherits_all_of_a_method_is_that_method_to_the_bit() -> None:
    env = make_env("toy/lights", 1)
    states = []
    for config in (own("Inherited", "agent.settings.share=0.5"), composed("agent=rmiov2", *TOY)):
        agent = make_agent(config, env.spec)
        agent.update(replay_of(random_games("toy/lights", 4), env.spec), Generators(0), 2, 2)
        states.append(dict(agent.state_dict()))
    assert same(*states)


def test_settings_of_its_own_come_as_its_class_declares_them() -> None:
    config = compose_config([*EXAMPLE, *TOY, "agent.settings.epsilon=0.5", "agent.settings.hidden=8"])
    settings = make_agent(config, make_env("toy/lights", 1).spec).settings  # type: ignore[attr-defined]
    assert (settings.epsilon, settings.hidden, settings.batch) == (0.5, 8, 32)
    refuse_impossible(own("Inherited", "agent.settings.share=1", "agent.settings.layers=[3,4]"))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("agent=own",), "agent.method = '???': expected MODULE:CLASS"),
        (("agent=own", "agent.method=own_method"), "agent.method = 'own_method': expected MODULE:CLASS"),
        (("agent=own_method:Independent",), "say agent=own agent.method=own_method:Independent"),
        (("agent=own", "agent.method=no_such_module:Mine"), "no module no_such_module"),
        (("agent=own", "agent.method=own_method:Dependent"), "own_method has no Dependent"),
        (("agent=own", "agent.method=own_env:Meeting"), "expected a subclass of rmiov2.agents.base.Agent"),
        (("agent=own", f"agent.method={__name__}:Half"), "Half lacks __init__, act, parts, start, update"),
        (("agent=own", f"agent.method={__name__}:Incapable"), "Incapable lacks capabilities"),
        ((*EXAMPLE, "agent.settings.size=3"), "unknown key agent.settings.size; the method has hidden, lr, "),
        ((*EXAMPLE, "agent.settings.hidden=wide"), "agent.settings.hidden = 'wide': Input should be a valid integer"),
        (("agent=own", f"agent.method={__name__}:Inherited"), "agent.settings.share is missing"),
        (("agent.settings.hidden=3",), "agent.settings is a setting of own alone"),
        ((*EXAMPLE, "env=toy_dials"), "Independent plays discrete actions only, toy/dials has continuous ones"),
        ((*EXAMPLE, "device=cuda"), "Independent learns on the CPU alone"),
    ],
)
def test_what_cannot_be_is_a_sentence_before_params_yaml_is_written(
    overrides: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(params.paths, "PARAMS", tmp_path / "params.yaml")
    assert params.main(overrides) == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "params.yaml").exists()


def test_results_are_kept_under_the_name_of_its_class() -> None:
    values = compose_config(SHORT).model_dump(mode="json")
    assert folder_name(values) == "toy-lights-Independent@toy"
    refuse_unnamed(values)
    values["execution"]["completion"] = False
    with pytest.raises(UserError, match="kept as Independent; say ablation=gawm_adaptive or no_completion"):
        refuse_unnamed(values)
