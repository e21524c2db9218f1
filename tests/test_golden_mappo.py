"""One actor and one critic update equal those of the authors' own code, whose outputs stand in tests/golden."""

from typing import Any

import pytest
import torch
from golden import Golden, renamed
from golden_cases import gradients, spec_of
from torch import Tensor

from rmiov2 import config as configuration
from rmiov2.agents.mappo.chunks import Chunks, Rollouts, advantages
from rmiov2.agents.mappo.losses import actor_loss, critic_loss, standardise
from rmiov2.agents.mappo.networks import MAPPOActor, MAPPOCritic
from rmiov2.agents.optimiser import Optimiser
from rmiov2.policy.critic import ValueNorm
from rmiov2.types import EnvSpec

NAMES = {
    "base.feature_norm": "body.layers.0", "base.mlp.fc1.0": "body.layers.1", "base.mlp.fc1.2": "body.layers.3",
    "base.mlp.fc2.0.0": "body.layers.4", "base.mlp.fc2.0.2": "body.layers.6", "rnn.rnn": "body.memory",
    "rnn.norm": "body.norm", "act.action_out.linear": "head", "v_out": "value",
    "act.action_out.fc_mean": "head", "act.action_out.logstd._bias": "log_std",
}  # fmt: skip
NORM = {"mean": "mean", "mean_sq": "square", "debias": "debias"}
CHUNK = 10
PERCEPTRONS = ("mappo_feedforward", "mappo_continuous")


class StateCritic(MAPPOCritic):
    """The reference's critic reads a state for each agent, (M, T, N, S), and nothing else."""

    def __init__(self, policy: configuration.Policy, settings: configuration.MAPPO, spec: EnvSpec) -> None:
        super().__init__(policy, settings.model_copy(update={"own_obs": False}), spec)
        self.values = spec.num_agents

    def unroll(self, state: Tensor, obs: Tensor, active: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        features, after = self.body(state, memory)
        return self.value(features).squeeze(-1), after


def networks(golden: Golden, recurrent: bool) -> tuple[MAPPOActor, StateCritic]:
    """Ours, with the reference's weights."""
    hidden, spec = golden["actor/base.mlp.fc1.0.weight"].shape[0], spec_of(golden)
    policy = golden.policy(hidden=hidden, critic_hidden=hidden, agent_ids=False)
    settings = configuration.MAPPO(
        name="mappo", recurrent=recurrent, layers=1, gain=0.01, std=0.6, chunk=CHUNK, own_obs=True,
        value_clip=True, value_norm_decay=0.99999,
    )  # fmt: skip
    actor, critic = MAPPOActor(policy, settings, spec), StateCritic(policy, settings, spec)
    if not spec.discrete:
        actor.log_std = torch.nn.Parameter(torch.zeros(1, spec.act_dim))  # of all agents, where ours has each its own
    actor.load_state_dict(named(golden.under("actor")))
    critic.load_state_dict(renamed(golden.under("critic"), NAMES))
    return actor, critic


def named(actor: dict[str, Tensor]) -> dict[str, Tensor]:
    """An actor's weights by our names; the reference's deviation is a column."""
    return {name: value.T if name == "log_std" else value for name, value in renamed(actor, NAMES).items()}


def value_norm(golden: Golden, where: str) -> ValueNorm:
    norm = ValueNorm(True, 0.99999, least=1e-2)
    norm.load_state_dict(renamed(golden.under(where), NORM))
    return norm


def state_of(golden: Golden) -> Tensor:
    """(B, L+1, N, S)."""
    state, n = golden["state"], golden["obs"].shape[2]
    return state if state.ndim == 4 else state[:, :, None].expand(-1, -1, n, -1)


def spans(first: Tensor) -> list[tuple[int, int, int]]:
    """Row of the batch, begin and end of every chunk, cut also where an episode begins."""
    found = []
    for b, row in enumerate(first[:, :-1].tolist()):
        cuts = sorted({*range(0, len(row), CHUNK), *(t for t, begins in enumerate(row) if begins), len(row)})
        found += [(b, begin, end) for begin, end in zip(cuts, cuts[1:], strict=False)]
    return found


def chunks_of(golden: Golden, returns: Tensor, advantage: Tensor) -> Chunks:
    """The reference's minibatch. It resets memories inside a chunk, ours begin a chunk there; both stop gradients."""
    pieces: dict[str, list[Tensor]] = {}
    whole = {
        "obs": golden["obs"], "state": state_of(golden), "act": golden["act"], "active": golden["active"],
        "logp": golden["logp"], "value": golden["value"], "returns": returns, "advantage": advantage,
    }  # fmt: skip
    whole |= {"avail": golden["avail"].bool()} if "avail" in golden else {}
    for b, begin, end in spans(golden["first"]):
        rows = {name: value[b, begin:end] for name, value in whole.items()} | {"step": torch.ones(end - begin).bool()}
        for name, value in rows.items():
            padding = torch.full((CHUNK - len(value), *value.shape[1:]), name == "avail", dtype=value.dtype)
            pieces.setdefault(name, []).append(torch.cat([value, padding]))
        for name in ("actor", "critic"):
            pieces.setdefault(f"{name}_memory", []).append(memory_of(golden, name, b, begin))
    stacked: dict[str, Any] = {name: torch.stack(values) for name, values in pieces.items()}
    return Chunks(**{"avail": None} | stacked)


def memory_of(golden: Golden, name: str, b: int, begin: int) -> Tensor:
    n, hidden = golden["obs"].shape[2], golden[f"{name}/base.mlp.fc1.0.weight"].shape[0]
    if f"memory/{name}" not in golden or begin % CHUNK or golden["first"][b, begin]:
        return torch.zeros(n, hidden)
    return golden[f"memory/{name}"][b, begin // CHUNK]


@pytest.mark.parametrize("case", ["mappo_recurrent", "mappo_agent_state", "mappo_continuous"])
def test_returns_and_advantages(case: str) -> None:
    """Not of mappo_feedforward: there the normaliser is fresh, where the reference scales by 0.1 and ours by 1."""
    golden = Golden(case)
    norm = value_norm(golden, "norm")
    b, rows, _ = golden["value"].shape
    row, step = torch.ones(b, rows).bool(), torch.ones(b, rows - 1).bool()
    rollouts = Rollouts(
        golden["obs"], golden["state"], None, golden["act"], golden["rew"], golden["con"], row, step, golden["active"]
    )
    worth = norm.denormalise(golden["value"])
    advantage = advantages(rollouts, worth, 0.99, 0.95)
    close(advantage + worth[:, :-1], golden["out/returns"])
    close(standardise(advantage, golden["active"][:, :-1]), golden["out/advantage_normalised"])


@pytest.mark.parametrize("case", ["mappo_recurrent", "mappo_agent_state", *PERCEPTRONS])
def test_one_update(case: str) -> None:
    """Continuous actions are inside the box here: at its bounds ours counts the tail, the reference a density."""
    golden = Golden(case)
    actor, critic = networks(golden, recurrent=case not in PERCEPTRONS)
    norm = value_norm(golden, "norm")
    chunks = chunks_of(golden, golden["out/returns"], golden["out/advantage_normalised"])
    loss, metrics = actor_loss(actor, chunks, 0.2, 0.01)
    close(loss + 0.01 * metrics["entropy"], golden["out/policy_loss"])
    close(metrics["entropy"], golden["out/entropy"])
    clip = golden.settings["max_grad_norm"]
    optimisers = [Optimiser(torch.optim.Adam, module, 5e-4, eps=1e-5) for module in (actor, critic)]
    same_gradients(actor, loss, golden, "actor")
    norm_actor = optimisers[0].step(actor_loss(actor, chunks, 0.2, 0.01)[0], clip, 5e-4)
    close(norm_actor, golden["out/actor_grad_norm"])
    norm.update(chunks.returns[chunks.step])
    value_loss = critic_loss(critic, norm, chunks, 10.0, 0.2)
    close(value_loss, golden["out/value_loss"])
    same_gradients(critic, value_loss, golden, "critic")
    norm_critic = optimisers[1].step(critic_loss(critic, norm, chunks, 10.0, 0.2), clip, 5e-4)
    close(norm_critic, golden["out/critic_grad_norm"])
    for name, module in (("actor", actor), ("critic", critic)):
        for parameter, value in named(golden.under(f"after/{name}")).items():
            close(module.state_dict()[parameter], value)
    for name, value in renamed(golden.under("after/norm"), NORM).items():
        close(norm.state_dict()[name], value)


def same_gradients(module: Any, loss: Tensor, golden: Golden, name: str) -> None:
    expected = named(golden.under(f"grad/{name}"))
    found = gradients(loss, module)
    assert expected.keys() == found.keys()
    for key, gradient in found.items():
        close(gradient, expected[key])


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
