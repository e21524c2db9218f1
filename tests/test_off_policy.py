"""What holds for every method that learns from the replay without a world model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning_cases import random_games
from off_policy_cases import CASES, agent_and_replay, settings, some_windows
from test_training import digests, run, run_with_stops
from windows import record

from rmiov2.agents.facmac import FACMAC
from rmiov2.agents.facmac.losses import actor_loss, critic_loss
from rmiov2.agents.facmac.losses import td_target as facmac_target
from rmiov2.agents.off_policy import Windows, windows
from rmiov2.agents.qmix.losses import td_loss
from rmiov2.agents.registry import make_agent
from rmiov2.config import Config
from rmiov2.envs.registry import make_env
from rmiov2.execution.window import decide
from rmiov2.replay.buffer import Replay
from rmiov2.seeding import Generators
from rmiov2.training import checkpoint
from rmiov2.training.finetune import Finetuning
from rmiov2.types import Trajectory, UserError

BOTH = pytest.mark.parametrize(("name", "env"), CASES)
DISCRETE = ("qmix", "facmac_discrete")


def length_of(agent: Any) -> int:
    return int(agent.spec.episode_limit) + 1 if agent.spec.discrete else 2


def losses(agent: Any, w: Windows) -> list[torch.Tensor]:
    """Every loss of the agent on these windows."""
    if not isinstance(agent, FACMAC):
        return [td_loss(agent.online, agent.target, w, 0.9, 0.7)[0]]
    y = facmac_target(agent.target_actor, agent.target_critic, w, 0.9, 0.7)
    noise = agent.actor.noise(w.act.shape, torch.Generator().manual_seed(0))
    return [critic_loss(agent.critic, y, w)[0], actor_loss(agent.actor, agent.critic, w, noise, 0.1, 4)]


def clutter(w: Windows) -> Windows:
    """The same windows with nonsense in every row and step that there is not."""
    step = w.step.bool()
    row = torch.cat([torch.ones_like(step[:, :1]), step], 1)

    def spoil(values: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        there = there.view(*there.shape, *[1] * (values.dim() - 2))
        return torch.where(there, values, 5 * torch.randn(values.shape))

    one_hot = torch.nn.functional.one_hot(torch.ones(w.act.shape[:-1], dtype=torch.long), w.act.shape[-1]).float()
    return replace(
        w, obs=spoil(w.obs, row), state=spoil(w.state, row), rew=spoil(w.rew, step), con=spoil(w.con, step),
        act=torch.where(step[..., None, None], w.act, one_hot),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["qmix", "facmac_discrete"])
def test_padding_has_no_part_in_any_loss(name: str) -> None:
    agent, replay = agent_and_replay(name, "toy/clock")
    w = some_windows(replay, 8)
    assert (w.step.sum(1) < w.step.shape[1]).any(), "there is padding"
    spoiled = clutter(w)
    assert not torch.equal(spoiled.obs, w.obs)
    for mine, theirs in zip(losses(agent, w), losses(agent, spoiled), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-6)


def test_windows_end_with_the_longest_of_them() -> None:
    _, replay = agent_and_replay("qmix", "toy/clock")
    short = Replay(replay.spec, 1000)
    for game in replay.trajectories(100):
        if len(game) <= 4:
            short.add(game, game.rew)
    w = some_windows(short, 8, batch=64)
    assert w.obs.shape[1] == w.state.shape[1] == w.avail.shape[1] == w.before.shape[1] == 5
    assert w.act.shape[1] == w.rew.shape[1] == w.con.shape[1] == w.step.shape[1] == 4
    assert w.step.sum(1).max() == 4 and torch.equal(w.before[:, 1:], w.act) and not w.before[:, 0].any()


@pytest.mark.parametrize(("name", "env", "steps"), [*((name, "toy/lights", 12) for name in DISCRETE), (*CASES[3], 1)])
def test_an_update_reads_whole_episodes_or_transitions(
    name: str, env: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, replay = agent_and_replay(name, env)
    read: list[Windows] = []

    def learn(w: Windows, *_: Any) -> dict[str, torch.Tensor]:
        read.append(w)
        return {}

    monkeypatch.setattr(agent, "learn", learn)
    agent.update(replay, Generators(0), 1, 0)
    assert read[0].obs.shape[1] == steps + 1 and (read[0].step.sum(1) == steps).all()
    assert steps == 1 or not read[0].con[:, -1].any(), "the game ends there"


@BOTH
def test_no_gradient_reaches_the_targets_and_the_actor_s_loss_does_not_reach_the_critic(name: str, env: str) -> None:
    agent, replay = agent_and_replay(name, env)
    w = some_windows(replay, length_of(agent))
    agent.learn(w, *([agent.actor.noise(w.act.shape, torch.Generator())] if "facmac" in name else []), 1.0)
    targets = [agent.target_actor, agent.target_critic] if "facmac" in name else [agent.target]
    assert all(p.grad is None and not p.requires_grad for target in targets for p in target.parameters())
    if "facmac" in name:
        before = [parameter.grad.clone() for parameter in agent.critic.parameters()]
        loss = losses(agent, w)[1]
        loss.backward(inputs=list(agent.actor.parameters()))
        assert all(torch.equal(b, p.grad) for b, p in zip(before, agent.critic.parameters(), strict=True))


@BOTH
def test_a_mask_changes_observations_where_agents_are_blind_and_nothing_else(name: str, env: str) -> None:
    agent, replay = agent_and_replay(name, env)
    batch = replay.sample(32, length_of(agent), np.random.default_rng(0))
    rows = batch.obs.shape[1]
    seen = np.random.default_rng(1).random(batch.obs.shape[:3]) < 0.5
    clear, blind = windows(batch, agent.spec, rows, None), windows(batch, agent.spec, rows, seen)
    for field in ("avail", "state", "act", "rew", "con", "step"):
        mine, theirs = getattr(clear, field), getattr(blind, field)
        assert mine is theirs is None or torch.equal(mine, theirs), field
    there = torch.from_numpy(seen)
    assert torch.equal(clear.obs[there], blind.obs[there]) and not blind.obs[~there].any()
    assert clear.obs[~there].any()


def dump(agent: Any) -> dict[str, torch.Tensor]:
    """Every tensor of the agent's state by its path."""
    found: dict[str, torch.Tensor] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, torch.Tensor):
            found[path] = value.clone()
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(item, f"{path}/{key}")

    walk(dict(agent.state_dict()), "")
    return found


def same(mine: Any, theirs: Any) -> bool:
    a, b = dump(mine), dump(theirs)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@BOTH
def test_nobody_blind_is_no_mask_and_a_scale_of_nothing_moves_nothing(name: str, env: str) -> None:
    agents = [agent_and_replay(name, env)[0] for _ in range(3)]
    _, replay = agent_and_replay(name, env)
    n = agents[0].spec.num_agents
    agents[0].update(replay, Generators(0), 3, 0)
    agents[1].update(replay, Generators(0), 3, 0, mask=lambda b, t: np.ones((b, t, n), bool))
    agents[2].update(replay, Generators(0), 3, 0, mask=lambda b, t: np.zeros((b, t, n), bool))
    assert same(agents[0], agents[1]) and not same(agents[0], agents[2])
    before = {key: value for key, value in dump(agents[0]).items() if "optimiser" not in key}
    agents[0].update(replay, Generators(1), 3, 0, scale=0.0)
    frozen = dump(agents[0])
    assert all(torch.allclose(value, frozen[key]) for key, value in before.items() if "target" not in key)


@BOTH
def test_it_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(name: str, env: str, tmp_path: Path) -> None:
    straight, replay = agent_and_replay(name, env, "agent.target_every=2")
    straight.env_steps = 77
    rngs = Generators(0)
    straight.update(replay, rngs, 3, 0)
    path = tmp_path / "c.safetensors"
    state = {"agent": dict(straight.state_dict()), "generators": rngs.state_dict()}
    checkpoint.save(path, state, config=straight.config, spec=straight.spec)
    told = straight.update(replay, rngs, 4, 0)

    saved = checkpoint.load(path)
    stopped, other = make_agent(saved.config, saved.spec), Generators(9)
    stopped.load_state_dict(saved.state["agent"])
    other.load_state_dict(saved.state["generators"])
    assert stopped.updates == 3 and stopped.env_steps == 77
    assert stopped.update(replay, other, 4, 0) == told
    assert same(straight, stopped) and stopped.updates == straight.updates == 7
    assert other.state_dict() == rngs.state_dict()


SHORT = (
    "collect.num_envs=4", "collect.warmup_steps=50", "collect.capacity=5000", "pretrain.env_steps=250",
    "pretrain.segment=20", "pretrain.e_m=0.05", "pretrain.eval_every=100", "finetune.updates=20",
    "finetune.env_steps=50", "agent.target_every=3",
)  # fmt: skip


@BOTH
def test_every_training_stage_runs_and_gives_the_same_files_again(name: str, env: str, tmp_path: Path) -> None:
    config = settings(name, env, *SHORT)
    for folder in (tmp_path / "one", tmp_path / "other"):
        run(config, folder)
    assert digests(tmp_path / "one") == digests(tmp_path / "other")
    before, after = (
        checkpoint.load(tmp_path / "one" / stage / "checkpoint.safetensors").state["agent"]
        for stage in ("pretrain", "finetune")
    )
    assert after["updates"] == before["updates"] + 20 and before["updates"] > 5
    assert after["env_steps"] == before["env_steps"] >= 250
    told = (tmp_path / "one" / "finetune.csv").read_text().splitlines()[0]
    assert "td_loss" in told and "l_rec" not in told


def finetuning(config: Config) -> tuple[Finetuning, list[Trajectory]]:
    """A fine-tuning of a new agent that could learn from random play, and that play."""
    env = make_env(config.env.name, config.collect.num_envs)
    play = random_games(config.env.name, 8)
    agent = make_agent(config, env.spec)
    before = checkpoint.Checkpoint(config, env.spec, {"agent": dict(agent.state_dict())})
    return Finetuning(config, env, before, play), play


@pytest.mark.parametrize("name", ["qmix", "facmac_discrete"])
def test_where_masks_are_lost_blind_play_joins_the_replay_as_it_was(name: str) -> None:
    run, play = finetuning(settings(name, "toy/lights", *SHORT, "finetune.vary_p_mask=false"))
    while run.rounds < 20:
        run.round()
    assert run.agent.updates == 20 and run.env_steps >= 20 / run.config.pretrain.e_m
    every = run.replay.trajectories(10**6)
    kept = every[len(play) :]
    assert sum(map(len, kept)) == run.env_steps
    assert all(np.array_equal(mine.obs, theirs.obs) for mine, theirs in zip(every, play, strict=False))
    blank = np.concatenate([~piece.obs[:-1].any(-1) for piece in kept])
    free = np.concatenate([piece.avail[:-1].all(-1) for piece in kept if piece.avail is not None])
    assert np.array_equal(blank, free) and 0.4 < blank.mean() < 0.6, "a light is lit or it is not seen"


def test_where_no_masks_are_lost_it_learns_from_all_there_is_with_what_a_mask_hides() -> None:
    run, play = finetuning(settings("facmac", "toy/dials", *SHORT))
    run.round()
    assert run.replay.episodes > len(play) and all(piece.obs.any(-1).all() for piece in run.replay.trajectories(10**6))


@pytest.mark.parametrize(("name", "env"), [("qmix", "toy/lights"), ("facmac_discrete", "toy/lights"), CASES[3]])
def test_a_window_is_decided_as_by_the_team_that_did_what_the_window_says(name: str, env: str) -> None:
    agent, _ = agent_and_replay(name, env, "execution.history=30")
    network = agent.online if name == "qmix" else agent.actor
    for parameter in network.parameters():
        parameter.data *= 3  # so that it answers differently to whatever it sees
    recorded = record(agent, 4, 40, 0.5)
    act, _ = decide(agent, recorded.windows)
    assert recorded.windows.start.all() and np.allclose(act, recorded.act, atol=1e-5) and np.ptp(act) > 0


@pytest.mark.parametrize("name", ["qmix", "facmac_discrete"])
def test_stopped_in_either_stage_it_goes_on_to_the_bit(name: str, tmp_path: Path) -> None:
    config = settings(name, "toy/lights", *SHORT)
    run(config, tmp_path / "straight")
    run_with_stops(config, tmp_path / "stopped")
    assert len(digests(tmp_path / "straight")) > 5
    assert digests(tmp_path / "stopped") == digests(tmp_path / "straight")


@BOTH
def test_what_is_told_of_an_update_has_the_names_of_the_field(name: str, env: str) -> None:
    agent, replay = agent_and_replay(name, env)
    told = agent.update(replay, Generators(0), 2, 5)
    common = {"td_loss", "q_tot", "target"}
    more = {"actor_loss", "grad_norm_critic", "grad_norm_actor"} if "facmac" in name else {"grad_norm_q"}
    assert told.keys() == common | more | ({"epsilon"} if agent.spec.discrete else set())
    assert agent.updates == 2
    assert agent.update(replay, Generators(0), 0, 0).keys() <= {"epsilon"}


@BOTH
def test_it_learns_from_what_was_lost_and_cannot_reconstruct(name: str, env: str) -> None:
    agent, _ = agent_and_replay(name, env)
    with pytest.raises(UserError, match="cannot reconstruct observations; choose mode zeros or last_seen"):
        agent.team(2, 0, "completion")
    assert not agent.capabilities.on_policy


@pytest.mark.parametrize("name", ["qmix", "qmix_classic", "facmac", "facmac_discrete"])
def test_a_preset_cites_its_source_and_collects_whole_episodes_or_transitions(name: str) -> None:
    config = settings(name, "toy/lights")
    assert config.reward_trend.mode == "off" and config.pretrain.anneal == 1 and config.pretrain.policy_after == 0
    text = (Path(__file__).resolve().parent.parent / "conf" / "agent" / f"{name}.yaml").read_text()
    assert " at " in text.splitlines()[1] and "github.com/" in text.splitlines()[1]
    assert config.pretrain.e_m == 1 if name == "facmac" else config.pretrain.segment >= 1000
