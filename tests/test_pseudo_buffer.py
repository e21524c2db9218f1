"""What RMIOv2's policy learns from: the timeline of the pseudo buffer (eqs. (13), (14)), and how often it is read."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from learning_cases import agent_and_replay, settings

from rmiov2.agents.imagined_ppo import branches
from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.agents.tensors import to_torch
from rmiov2.policy.ppo import Pseudo
from rmiov2.seeding import Generators
from rmiov2.world_model.rollout import Imagined

GAMMA, LAM = 0.9, 0.5
ENVS = pytest.mark.parametrize("case", ["toy/lights", "toy/dials"], indirect=True)


class Case(NamedTuple):
    """What was imagined, the buffer made of it, and the critic's value (M, H+1) of every state, in units of reward."""

    agent: RMIOv2
    imagined: Imagined
    pseudo: Pseudo
    value: torch.Tensor


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    """Of an agent whose model expects this and that, and whose critic's units are not those of the reward."""
    agent, replay = agent_and_replay(settings(request.param, policy__gamma=GAMMA, policy__lam=LAM))
    generator, rngs = torch.Generator().manual_seed(0), Generators(0)
    batch = to_torch(replay.sample(8, 8, np.random.default_rng(0)), agent.device)
    with torch.no_grad():
        for head in (agent.model.predict.rew, agent.model.predict.con):
            list(head.parameters())[-2].normal_(generator=generator)  # a new one says the same of every state
        agent.value_norm.update(5 + 3 * torch.randn(100, generator=generator))
        mean, std = agent.value_norm.moments()
        imagined, pseudo = agent._imagine(*agent._branches(batch, rngs), rngs)
        value = mean + std * torch.stack([agent.critic(state) for state in imagined.features.unbind(1)], 1)
    return Case(agent, imagined, pseudo, value)


@ENVS
@torch.no_grad()
def test_reward_and_end_of_a_step_are_read_off_the_state_that_it_led_to(case: Case) -> None:
    predict, features = case.agent.model.predict, case.imagined.features
    for told, says in ((case.imagined.rew, predict.reward), (case.imagined.con, predict.continuation)):
        assert torch.allclose(told, says(features[:, 1:]), atol=1e-5)
        assert not torch.allclose(told, says(features[:, :-1]), atol=0.01)


@ENVS
@torch.no_grad()
def test_the_actor_is_shown_what_the_model_decodes_of_the_state_in_which_it_acts(case: Case) -> None:
    agent, features = case.agent, case.imagined.features[:, :-1]
    padding = ~torch.from_numpy(agent.spec.obs_mask)
    decoded = agent.model.predict.obs(features)
    assert decoded[..., padding].any() or not padding.any()
    decoded[..., padding] = 0  # as the environment has it
    assert torch.allclose(case.pseudo.obs, decoded, atol=1e-5)
    out, _ = agent.actor.unroll(case.pseudo.obs, case.pseudo.memory)
    logp = agent.actor.log_prob(out, case.pseudo.act, case.pseudo.avail)
    assert torch.allclose(case.pseudo.logp, logp, atol=1e-5)


@ENVS
@torch.no_grad()
def test_the_critic_learns_the_lambda_return_of_the_state_in_which_the_step_began(case: Case) -> None:
    rew, con, value, pseudo = case.imagined.rew, case.imagined.con, case.value, case.pseudo
    returns = [value[:, -1]]
    for k in reversed(range(rew.shape[1])):
        ahead = (1 - LAM) * value[:, k + 1] + LAM * returns[0]
        returns.insert(0, rew[:, k] + GAMMA * con[:, k] * ahead)
    expected = torch.stack(returns[:-1], 1)
    assert torch.allclose(pseudo.returns, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(pseudo.features, case.imagined.features[:, :-1])
    better = (expected - value[:, :-1]).numpy()
    spread = np.quantile(expected.numpy(), 0.95) - np.quantile(expected.numpy(), 0.05)
    np.testing.assert_allclose(pseudo.advantage, better / spread, rtol=1e-3, atol=1e-3)
    assert spread > case.agent.config.policy.return_floor


def test_what_was_imagined_moves_the_units_of_the_critic() -> None:
    agent, replay = agent_and_replay(settings("toy/lights"))
    batch, rngs = to_torch(replay.sample(8, 8, np.random.default_rng(0)), agent.device), Generators(0)
    _, pseudo = agent._imagine(*agent._branches(batch, rngs), rngs)
    mean, std = agent.value_norm.moments()
    assert mean.item() == pytest.approx(pseudo.returns.mean().item(), abs=1e-4)
    assert std.item() == pytest.approx(pseudo.returns.std(correction=0).clamp(min=1e-2).item(), abs=1e-4)


def test_the_model_is_told_continuous_actions_as_they_would_be_played(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, replay = agent_and_replay(settings("toy/dials"))
    torch.nn.init.constant_(agent.actor.get_parameter("log_std"), 0.5)
    batch, rngs = to_torch(replay.sample(8, 8, np.random.default_rng(0)), agent.device), Generators(0)
    start, embed = agent._branches(batch, rngs), agent.model.embed_action
    told: list[torch.Tensor] = []

    def spy(act: torch.Tensor) -> torch.Tensor:
        told.append(act)
        return embed(act)

    monkeypatch.setattr(agent.model, "embed_action", spy)
    _, pseudo = agent._imagine(*start, rngs)
    assert (pseudo.act.abs() > 1).any()
    assert torch.equal(torch.stack(told, 1), pseudo.act.clamp(-1, 1))


def test_imagination_begins_at_steps_that_were_played_as_many_as_are_asked_for_and_none_twice() -> None:
    step = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert branches(step, 10, torch.Generator()).sort().values.tolist() == [0, 1, 3]
    drawn = [branches(step, 2, torch.Generator().manual_seed(seed)).tolist() for seed in range(50)]
    assert {tuple(sorted(two)) for two in drawn} == {(0, 1), (0, 3), (1, 3)}


def test_a_buffer_is_gone_over_e_sample_times_in_so_many_minibatches() -> None:
    agent, replay = agent_and_replay(settings("toy/lights", policy__e_sample=3, policy__minibatches=2))
    agent.update(replay, Generators(0), 0, 1)
    for optimiser in (agent.ppo.actor_optimiser, agent.ppo.critic_optimiser):
        assert optimiser.state_dict()["state"][0]["step"] == 3 * 2


def test_neither_actor_nor_critic_follows_a_gradient_beyond_the_clip() -> None:
    """Adam forgets how long a gradient is, unless it is clipped to far below Adam's epsilon: then nothing moves."""

    def moved(**changes: float) -> list[float]:
        agent, replay = agent_and_replay(settings("toy/lights", **changes), sweeps=2)
        parts = (agent.actor, agent.critic)
        before = [torch.nn.utils.parameters_to_vector(part.parameters()).clone() for part in parts]
        agent.update(replay, Generators(0), 0, 1)
        after = [torch.nn.utils.parameters_to_vector(part.parameters()) for part in parts]
        return [(new - old).abs().max().item() for old, new in zip(before, after, strict=True)]

    assert max(moved(policy__grad_clip=1e-12)) < 1e-6 < 1e-4 < min(moved())
