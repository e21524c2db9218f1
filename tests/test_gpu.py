"""A GPU gives the numbers of the CPU, and a captured update those of the same kernels launched one by one.

Where there is no GPU these tests are skipped, and pytest says so; what a capture asks of the code is tested on the CPU.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from learning_cases import random_games

from benchmarks.gpu import launch_one_by_one
from pipelines.params import compose_values
from rmiov2.acceleration.captured import Regions, device_of
from rmiov2.acceleration.deferred_gradients import GRU
from rmiov2.acceleration.fused import attends
from rmiov2.agents.optimiser import Adam
from rmiov2.agents.registry import make_agent
from rmiov2.config import parse
from rmiov2.envs.registry import make_env
from rmiov2.evaluation.episodes import play
from rmiov2.execution.completion import Completion
from rmiov2.execution.history import History
from rmiov2.networks import FusionLayer
from rmiov2.policy.ppo import Pseudo, actor_loss, critic_loss
from rmiov2.replay.buffer import Replay
from rmiov2.seeding import Generators
from rmiov2.training.pretrain import Pretraining
from rmiov2.types import Bools, UserError

AGENTS = ("rmiov2", "rmio", "gawm", "mamba", "mag")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")


SMALL = (
    "world_model.deter=32", "world_model.hidden=32", "world_model.categoricals=4", "world_model.classes=4",
    "world_model.length=10", "policy.hidden=32", "policy.critic_hidden=32", "policy.horizon=4", "policy.starts=32",
)  # fmt: skip


def team(name: str, device: str, env: str = "toy/dials") -> tuple[Any, Replay]:
    """An agent of the toy, without dropout, which no two devices draw alike, and a replay of random play."""
    choices = [f"env={env.replace('/', '_')}", f"agent={name}", f"device={device}", *SMALL]
    choices += ["agent.dropout=0"] if name in ("mamba", "mag") else []
    replay = Replay(make_env(env, 1).spec, 10_000)
    for game in random_games(env, 6):
        replay.add(game, game.rew)
    return make_agent(parse(compose_values(choices), "test"), replay.spec), replay


def half_blind() -> Any:
    """Half of what is seen, the same for everybody who asks in the same order."""
    rng = np.random.default_rng(0)

    def mask(batch: int, length: int) -> Bools:
        return rng.random((batch, length, 3)) < 0.5

    return mask


def told(agent: Any, replay: Replay, rngs: Generators, times: int) -> list[dict[str, float]]:
    """What `times` updates of the model, of the policy and masked ones say."""
    learned = [agent.update(replay, rngs, 1, 1) for _ in range(times)]
    mask = half_blind()
    return learned + [agent.update(replay, rngs, 1, 0, mask) for _ in range(times)]


def furthest(some: list[dict[str, float]], others: list[dict[str, float]]) -> float:
    """The largest relative difference between the losses of two trainings."""
    return max(
        abs(a[name] - b[name]) / max(abs(a[name]), 0.1)
        for a, b in zip(some, others, strict=True)
        for name in a
        if "loss" in name
    )


@gpu
@pytest.mark.parametrize("name", AGENTS)
def test_losses_on_a_gpu_are_those_of_the_cpu(name: str) -> None:
    """The same draws, of a generator on the CPU, kernels launched one by one."""
    (reference, replay), (agent, _) = team(name, "cpu"), team(name, "cuda")
    agent.regions.fixed = False
    gap = furthest(told(reference, replay, Generators(0), 10), told(agent, replay, Generators(0), 10))
    print(f"{name}: {gap:.1e}")
    assert gap < 1e-3


@gpu
@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("env", ["toy/dials", "toy/lights"])
def test_a_captured_update_is_the_update(name: str, env: str) -> None:
    """The same generator on the GPU; captured after the third call, so that of thirteen ten are replayed."""
    (reference, replay), (agent, _) = team(name, "cuda", env), team(name, "cuda", env)
    launch_one_by_one(reference.regions)
    gap = furthest(told(reference, replay, Generators(0, "cuda"), 13), told(agent, replay, Generators(0, "cuda"), 13))
    print(f"{name} on {env}: {gap:.1e}")
    assert len(agent.regions._captured) >= 4
    assert gap < 1e-3


@gpu
def test_a_checkpoint_of_a_gpu_goes_on_on_the_cpu_and_back() -> None:
    (agent, replay), (other, _) = team("rmiov2", "cuda"), team("rmiov2", "cpu")
    told(agent, replay, Generators(0, "cuda"), 5)
    other.load_state_dict(agent.state_dict())
    told(other, replay, Generators(1), 1)
    agent.load_state_dict(other.state_dict())
    told(agent, replay, Generators(1, "cuda"), 5)
    groups = agent.state_dict()["model_optimiser"]["param_groups"]
    assert groups[0].keys() == other.state_dict()["model_optimiser"]["param_groups"][0].keys()
    assert groups[0]["capturable"] is False and isinstance(groups[0]["lr"], float)


def test_a_padded_minibatch_has_the_losses_of_the_bare_one() -> None:
    """Discrete: seven rollouts, then five copies of the first, which weigh nothing."""
    agent, replay = team("rmiov2", "cpu", "toy/lights")
    n, spec = 3, replay.spec
    shape, generator = (7, 4, n), torch.Generator().manual_seed(0)
    features = agent.config.world_model.deter + agent.config.world_model.categoricals * agent.config.world_model.classes
    pseudo = Pseudo(
        obs=torch.randn(*shape, spec.obs_dim, generator=generator),
        avail=torch.ones(*shape, spec.act_dim, dtype=torch.bool),
        act=torch.randint(spec.act_dim, shape, generator=generator),
        logp=-torch.rand(shape, generator=generator),
        memory=torch.zeros(7, n, agent.config.policy.hidden),
        features=torch.randn(*shape, features, generator=generator),
        advantage=torch.randn(7, 4, generator=generator),
        returns=torch.randn(7, 4, generator=generator),
        weight=torch.rand(7, 4, generator=generator),
    )  # fmt: skip
    assert len(pseudo.padded(12).obs) == 12

    def losses(p: Pseudo) -> torch.Tensor:
        value = critic_loss(agent.critic, agent.value_norm, p, 10.0)
        return torch.stack([actor_loss(agent.actor, p, 0.2, 0.01)[0], value])

    torch.testing.assert_close(losses(pseudo.padded(12)), losses(pseudo))
    lighter = replace(pseudo, weight=pseudo.weight.index_fill(0, torch.tensor(0), 0.0))
    assert ((losses(lighter) - losses(pseudo)).abs() > 1e-6).all()  # a weight that should count does


@pytest.mark.parametrize("name", ["rmiov2", "rmio"])
def test_a_whole_window_of_every_team_says_what_that_of_the_blind_says(name: str) -> None:
    """Three teams, one of whom sees, at different steps of their games and past the window's length."""
    agent, replay = team(name, "cpu", "toy/lights")
    rng = np.random.default_rng(0)
    ways = [
        Completion(agent.model, agent.unroll, History.empty(replay.spec, 3, 4), 0.1, captured)
        for captured in (None, agent.unroll)
    ]
    for step in range(7):
        first = np.array([step == 0, step in (0, 2), step in (0, 5)])
        seen = rng.random((3, 3)) < 0.5
        obs = rng.random((3, 3, replay.spec.obs_dim)).astype(np.float32) * seen[..., None]
        blind, act = np.array([True, False, True]), rng.integers(replay.spec.act_dim, size=(3, 3))
        said = []
        for way in ways:
            way.saw(obs, seen, first)
            said.append(way.present(blind))
            way.did(act)
        for some, others in zip(*said, strict=True):
            np.testing.assert_allclose(some, others, atol=1e-5)


@gpu
@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("env", ["toy/dials", "toy/lights"])
def test_a_team_plays_on_a_gpu_as_on_the_cpu(name: str, env: str) -> None:
    """Greedy games under loss, two teams of one agent in turn, captured from the fourth step on."""
    (reference, _), (agent, _) = team(name, "cpu", env), team(name, "cuda", env)
    played = []
    for player in (reference, agent):
        games = make_env(env, 6, 0)
        rates = np.array([0, 0, 0.5, 0.5, 1, 1])
        teams = [player.team(6, 0), player.team(6, 0, mode="zeros")]
        played.append([play(games, who, "independent", rates, 4, 0)["return"] for who in teams])
    for some, others in zip(*played, strict=True):
        np.testing.assert_allclose(some, others, atol=1e-3)


@gpu
@pytest.mark.parametrize("agents, width, heads", [(1, 32, 4), (3, 48, 3), (5, 256, 8), (9, 64, 2), (16, 128, 2)])
def test_attention_among_few_is_attention(agents: int, width: int, heads: int) -> None:
    """One kernel there and one back say what batched products say, and autograd, in float32."""
    torch.manual_seed(0)
    device_of("cuda")
    layer = FusionLayer(width, heads, 0).cuda()
    x, pull = (torch.randn(7, agents, width, device="cuda", requires_grad=True) for _ in range(2))
    assert attends(x, heads)
    weights, values = layer.attention(x)
    said = layer.mixed(x), (weights @ values).transpose(1, 2).reshape(x.shape)
    asked = [x, layer.qkv.weight, layer.qkv.bias]
    mine, torchs = (torch.autograd.grad((out * pull.detach()).sum(), asked, retain_graph=True) for out in said)
    for some, others in zip([said[0], *mine], [said[1], *torchs], strict=True):
        torch.testing.assert_close(some, others, rtol=1e-4, atol=1e-5)


@gpu
@pytest.mark.parametrize("pull", ["of each", "one for all"])
def test_a_gru_learns_step_by_step_what_it_learns_on_the_cpu(pull: str) -> None:
    """One for all: a gradient that stands once in memory, however often it counts."""
    device_of("cuda")
    said = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        gru, x, h = (
            part.to(device) for part in (GRU(4, 5, batch_first=True), torch.randn(3, 7, 4), torch.randn(1, 3, 5))
        )
        x.requires_grad_(), h.requires_grad_()
        out, last = gru(x, h)
        apart = torch.arange(105.0, device=device).view_as(out)
        loss = out.sum() if pull == "one for all" else (out * apart).sum()
        loss.backward()
        told = out, last, x.grad, h.grad, *(weight.grad for weight in gru.parameters())
        said.append([part.detach().cpu() for part in told])
    for cpus, gpus in zip(*said, strict=True):
        torch.testing.assert_close(gpus, cpus, rtol=1e-4, atol=1e-5)


@gpu
@pytest.mark.parametrize("agents, width, heads", [(17, 32, 2), (5, 60, 5), (9, 256, 2)])
def test_attention_of_tiles_that_do_not_suit_is_left_to_torch(agents: int, width: int, heads: int) -> None:
    assert not attends(torch.zeros(2, agents, width, device="cuda"), heads)
    assert FusionLayer(width, heads, 0).cuda().mixed(torch.zeros(2, agents, width, device="cuda")).isfinite().all()


def test_rows_are_filled_where_shapes_must_recur() -> None:
    regions, values = Regions(torch.device("cpu")), torch.arange(6.0).view(3, 2)
    assert regions.fill(values, 5) is values
    regions.fixed = True
    torch.testing.assert_close(regions.fill(values, 5), values[[0, 1, 2, 0, 0]])


def test_adam_of_a_cpu_is_torchs() -> None:
    def stepped(kind: Any) -> tuple[torch.Tensor, Any]:
        parameter = torch.ones(3, requires_grad=True)
        optimiser = kind([parameter])
        parameter.grad = torch.arange(3.0)
        optimiser.step()
        return parameter, optimiser.state_dict()["param_groups"]

    (mine, my_groups), (theirs, groups) = (
        stepped(lambda parameters: Adam(parameters, 0.1)),
        stepped(lambda parameters: torch.optim.Adam(parameters, 0.1)),
    )
    assert torch.equal(mine, theirs) and my_groups == groups


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("torch sees a GPU here")
    config = parse(compose_values(["env=toy_lights", "device=cuda"]), "test")
    with pytest.raises(UserError, match="device: got cuda, but torch sees no GPU here; set device=cpu"):
        Pretraining(config, make_env("toy/lights", 1), [])


def test_a_cpu_has_float32_alone() -> None:
    config = parse(compose_values(["env=toy_lights", "precision=tf32"]), "test")
    with pytest.raises(UserError, match="precision: got tf32 with device=cpu, which has float32 alone"):
        Pretraining(config, make_env("toy/lights", 1), [])


@pytest.mark.parametrize("name", ["rmiov2", "mamba"])
def test_a_policy_learns_the_same_where_shapes_must_recur(name: str) -> None:
    """Minibatches of one size, of a buffer with rows that weigh nothing; on the CPU, where nothing is captured."""
    told = []
    for fixed in (False, True):
        agent, replay = team(name, "cpu", "toy/lights")
        launch_one_by_one(agent.regions)
        agent.regions.both = lambda one, other: (one(), other())
        agent.regions.fixed = fixed
        told.append([agent.update(replay, Generators(0), 0, 1) for _ in range(2)])
    for some, others in zip(*told, strict=True):
        assert some == pytest.approx(others, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["mappo", "qmix"])
def test_a_method_that_learns_on_the_cpu_alone_says_so(name: str) -> None:
    config = parse(compose_values(["env=toy_lights", f"agent={name}", "device=cuda"]), "test")
    with pytest.raises(UserError, match=f"device: got cuda, but {name} learns on the CPU alone; set device=cpu"):
        Pretraining(config, make_env("toy/lights", 1), [])


def test_numbers_drawn_on_another_device_are_not_gone_on_with() -> None:
    state = Generators(0).state_dict()
    with pytest.raises(UserError, match="drew its numbers on another device than cpu; go on with the device it had"):
        Generators(0).load_state_dict(state | {"torch": "00" * 16})  # as long as a GPU's
