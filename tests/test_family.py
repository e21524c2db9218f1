"""RMIOv2 and its forerunners: each is the others' code, and differs in what it claims to differ in."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning_cases import ROOT, agent_and_replay, of_agent, random_games, settings
from windows import opinionated, record

from pipelines.params import compose_values, flat
from rmiov2.agents.base import Agent
from rmiov2.agents.gawm import GAWM
from rmiov2.agents.registry import agent_class, make_agent
from rmiov2.agents.rmio import RMIO
from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.config import parse
from rmiov2.envs.registry import make_env
from rmiov2.evaluation.episodes import play
from rmiov2.evaluation.modes import modes_played
from rmiov2.execution.window import decide
from rmiov2.replay.buffer import Replay
from rmiov2.seeding import Generators
from rmiov2.types import UserError
from rmiov2.world_model.reward_trend import reward_trend

# How each differs from RMIOv2: settings, parts added, parts lacking, and its answer to a lost observation.
FIXED = {"reward_trend.mode": "fixed", "reward_trend.h_max": 3}
FAMILY: dict[str, tuple[dict[str, Any], set[str], set[str], str]] = {
    "rmiov2": ({}, set(), set(), "completion"),
    "gawm": (FIXED | {"finetune.p_mask": 0.0, "execution.completion": False}, set(), set(), "zeros"),
    "rmio": (
        FIXED | {"world_model.observation_fusion": False}, {"correction", "correction_optimiser"}, set(), "completion",
    ),
}  # fmt: skip


def composed(*overrides: str) -> dict[str, Any]:
    return flat(compose_values(overrides))


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {key: after[key] for key in after if key != "agent.name" and before[key] != after[key]}


def built(name: str) -> Agent:
    values = compose_values([f"agent={name}", "env=toy_lights"])
    return make_agent(parse(values, name), make_env("toy/lights", 1).spec)


def test_each_adds_and_lacks_what_it_says() -> None:
    ours = built("rmiov2").state_dict().keys()
    for name, expected in FAMILY.items():
        agent = built(name)
        differs, theirs = changed(composed(), composed(f"agent={name}")), agent.state_dict().keys()
        added, lacking = set(theirs - ours), set(ours - theirs)
        print(f"\n{name}: settings {differs or 'the defaults'}; adds {sorted(added) or 'nothing'}; "
              f"lacks {sorted(lacking) or 'nothing'}; lost observations become {agent.own_mode}; "
              f"plays {', '.join(modes_played(agent.own_mode))}")  # fmt: skip
        assert (differs, added, lacking, agent.own_mode) == expected


def test_mamba_and_mag_add_and_lack_what_they_say() -> None:
    ours, theirs, theirs_and_more = (set(built(name).state_dict()) for name in ("rmiov2", "mamba", "mag"))
    mamba, mag = composed("agent=mamba"), composed("agent=mag")
    print(f"\nmamba: adds {sorted(theirs - ours)}; lacks {sorted(ours - theirs)}; mag: adds {theirs_and_more - theirs}")
    assert (theirs - ours, ours - theirs) == ({"policy_updates"}, {"return_scale"})
    assert (theirs_and_more - theirs, theirs - theirs_and_more) == ({"predictor", "predictor_optimiser"}, set())
    assert not mamba["world_model.observation_fusion"] and mamba["world_model.action_fusion"]
    assert mamba["reward_trend.mode"] == "off" and not mamba["world_model.mask_bit"]
    assert changed(mamba, {key: mag[key] for key in mamba}) == {}, "all that MAG adds is its own"
    assert {key for key in mag if key not in mamba} == {
        "agent.candidates", "agent.look_ahead", "agent.chosen_by", "agent.lr_predictor",
    }  # fmt: skip
    assert all(built(name).own_mode == "zeros" and built(name).capabilities.talks for name in ("mamba", "mag"))


def test_gawm_becomes_rmiov2_in_three_steps_of_one_thing_each() -> None:
    chain = ["agent=gawm", "ablation=gawm_adaptive", "ablation=no_completion", "ablation=none"]
    steps = [changed(composed(a), composed(b)) for a, b in zip(chain, chain[1:], strict=False)]
    assert [{key.partition(".")[0] for key in step} for step in steps] == [
        {"reward_trend"},
        {"finetune"},
        {"execution"},
    ]
    assert steps[1:] == [{"finetune.p_mask": 0.5}, {"execution.completion": True}]


def test_a_forerunner_brings_no_code_but_what_sets_it_apart() -> None:
    def own(kind: type) -> set[str]:
        return {name for name, value in vars(kind).items() if inspect.isfunction(value)}

    assert agent_class("gawm") is GAWM and agent_class("rmio") is RMIO
    assert GAWM.__bases__ == (RMIOv2,) and all(name.startswith("_") for name in vars(GAWM))
    assert own(GAWM) == set() and own(RMIO) == {"__init__", "unroll", "_update_model", "_learn_correction", "parts"}


def statements(path: Path) -> list[str]:
    """The lines of a file as Python would write them, without words, imports and signatures."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            wordy = (ast.Import, ast.ImportFrom, ast.AnnAssign)
            node.body = [part for part in node.body if not isinstance(part, wordy) and not is_text(part)] or [
                ast.Pass()
            ]
    return [line.strip() for line in ast.unparse(tree).splitlines() if line.strip() and "def " not in line]


def is_text(part: ast.stmt) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)


def test_no_logic_is_copied_between_them() -> None:
    """No four lines of code in a row stand in two files of what the family is made of."""
    agents = ROOT / "rmiov2" / "agents"
    files = [path for part in (*FAMILY, "../world_model", "../policy") for path in (agents / part).glob("*.py")]
    assert len(files) > 12
    found: dict[tuple[str, ...], Path] = {}
    copied = []
    for path in files:
        code = statements(path)
        windows = [tuple(code[k : k + 4]) for k in range(len(code) - 3)]
        copied += [(path.name, lines) for lines in windows if found.setdefault(lines, path) != path]
    assert copied == []


@pytest.mark.parametrize("name", ["gawm", "rmio"])
def test_weights_of_another_method_are_refused_in_one_sentence(name: str) -> None:
    ours, other = built("rmiov2"), built(name)
    if name == "rmio":
        with pytest.raises(UserError, match=r"does not fit: model\.observation_fusion.* use the settings"):
            other.load_state_dict(ours.state_dict())
        state = other.state_dict()
        with pytest.raises(UserError, match="holds no correction; it was written by another agent or version"):
            other.load_state_dict({part: value for part, value in state.items() if part != "correction"})
    else:
        other.load_state_dict(ours.state_dict())  # the same networks: what differs is how they are trained and used


def test_gawm_acts_on_zeros_talks_to_nobody_and_claims_nothing() -> None:
    agent, _ = agent_and_replay(settings("toy/lights", **of_agent("gawm"), execution__history=6), sweeps=1)
    opinionated(agent)
    team = agent.team(4, 0)
    assert team.mode == "zeros" and modes_played(agent.own_mode)[0] == "zeros"
    recorded = record(agent, 4, 6, 0.5)
    lost = np.isnan(recorded.windows.obs[np.arange(24), recorded.windows.rows - 1])
    assert lost.any() and (recorded.completed[lost] == 0).all() and not team.messages.any()
    act, obs = decide(agent, recorded.windows)
    assert np.array_equal(act, recorded.act) and np.array_equal(np.isnan(obs), lost)


@pytest.mark.long
@pytest.mark.parametrize("name", ["rmio", "gawm"])
@pytest.mark.parametrize("env", ["toy/lights", "toy/dials"])
def test_it_solves_the_toy_game(name: str, env: str) -> None:
    """From random play alone, and from the reward as a fixed window has it.

    Of one step: their three drown a game in which each step is paid for itself, and are not learned from so shortly.
    """
    learns = {f"policy__{key}": 3e-3 for key in ("lr_actor", "lr_critic")} | {"policy__entropy": 0.001}
    learns |= {"policy__e_sample": 4, "world_model__lr": 3e-3, "reward_trend__h_max": 1}
    learns |= {"world_model__categoricals": 8, "world_model__classes": 8}
    config = settings(env, **(of_agent(name) | learns))
    agent, _ = agent_and_replay(config, sweeps=1)
    replay = Replay(agent.spec, 100_000)
    for game in random_games(env, 40):
        replay.add(game, reward_trend(game.rew, config.reward_trend, 1.0)[0])
    agent.update(replay, Generators(0), 400, 0)
    agent.update(replay, Generators(1), 0, 120)
    columns = play(make_env(env, 16), agent.team(16, 0), "independent", 0.0, 32, 5)
    assert float(np.mean(columns["return"] / columns["length"])) > 0.9
