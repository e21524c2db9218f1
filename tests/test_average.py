"""policy.average: the mean of recent actors plays where the likeliest actions are taken; nothing is learned from it."""

from typing import Any

import numpy as np
import pytest
import torch
from learning_cases import composed, random_games
from test_checkpoint import same

from rmiov2 import config as configuration
from rmiov2.agents.base import Agent
from rmiov2.agents.imagined_ppo import average_of
from rmiov2.agents.registry import make_agent
from rmiov2.envs.registry import make_env
from rmiov2.seeding import Generators
from rmiov2.training.pretrain import replay_of

METHODS = ("rmiov2", "rmio", "mamba", "mag")


def learned(name: str, average: float) -> Agent:
    """After three policy rounds on random games."""
    env = make_env("toy/lights", 1, 0)
    config = composed(f"agent={name}", "env=toy_lights", "preset=toy", f"policy.average={average}")
    agent = make_agent(config, env.spec)
    agent.update(replay_of(random_games("toy/lights", 4), env.spec), Generators(0), 2, 3)
    return agent


def choices(agent: Agent, greedy: bool) -> Any:
    """What 64 teams do in a first step, each with observations of its own."""
    spec, rng = agent.spec, np.random.default_rng(0)
    obs = rng.normal(size=(64, spec.num_agents, spec.obs_dim)).astype(np.float32)
    avail = np.ones((64, spec.num_agents, spec.act_dim), bool)
    return agent.act(agent.start(64), obs, avail, np.ones(64, bool), rng, greedy)[0]


@pytest.mark.parametrize("decay", [0.3, 0.9])
def test_the_mean_is_that_of_the_weights_after_every_round(decay: float) -> None:
    actor = torch.nn.Linear(2, 2)
    mean, expected = average_of(actor, decay), torch.zeros(2, 2)  # type: ignore[arg-type]
    assert mean is not None
    for n in range(30):
        torch.nn.init.normal_(actor.weight)
        mean.update_parameters(actor)
        kept = min(decay, (1 + n) / (10 + n)) if n else 0.0  # nothing of the weights that nothing was learned by
        expected = kept * expected + (1 - kept) * actor.weight.detach()
        torch.testing.assert_close(mean.module.weight, expected)


def test_a_mean_forgets_soon_what_the_first_rounds_were() -> None:
    actor = torch.nn.Linear(1, 1, bias=False)
    mean = average_of(actor, 0.99)  # type: ignore[arg-type]
    assert mean is not None
    for n in range(100):
        torch.nn.init.constant_(actor.weight, float(n < 20))
        mean.update_parameters(actor)
    assert mean.module.weight.item() < 1e-4  # a mean that kept 0.99 from the first round on would have 0.45 of them


@pytest.mark.parametrize("name", METHODS)
def test_the_mean_plays_the_likeliest_actions_and_the_actor_draws_its_own(name: str) -> None:
    agent, twin = learned(name, 0.9), learned(name, 0.9)
    with torch.no_grad():
        for weights in agent.parts()["actor"].parameters():
            weights.zero_()
    assert (choices(agent, greedy=True) == choices(twin, greedy=True)).all()
    assert (choices(agent, greedy=False) != choices(twin, greedy=False)).any()
    with torch.no_grad():
        for weights in agent.parts()["actor_mean"].parameters():
            weights.zero_()
    assert (choices(agent, greedy=True) == 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_learned_from_the_mean(name: str) -> None:
    state, without = learned(name, 0.9).state_dict(), learned(name, 0.0).state_dict()
    del state["actor_mean"]
    assert same(state, without)


def test_a_team_of_before_there_was_a_mean_plays_as_it_did() -> None:
    agent = learned("rmiov2", 0.0)
    values = agent.config.model_dump(mode="json")
    del values["policy"]["average"]
    again = make_agent(configuration.parse(configuration.upgraded(values), "a checkpoint"), agent.spec)
    again.load_state_dict(agent.state_dict())
    assert (choices(again, greedy=True) == choices(agent, greedy=True)).all()


def test_the_mean_is_kept_with_the_team() -> None:
    agent = learned("rmiov2", 0.9)
    again = make_agent(agent.config, agent.spec)
    assert (choices(again, greedy=True) != choices(agent, greedy=True)).any()
    again.load_state_dict(agent.state_dict())
    assert same(again.state_dict(), agent.state_dict())
    assert (choices(again, greedy=True) == choices(agent, greedy=True)).all()
