"""MAPPO: its data are cut right, its losses see what they should, it finds known optima, and it resumes exactly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from learning_cases import SEEDS, composed, random_games
from test_training import digests, quiet, run, run_with_stops

import rmiov2
from rmiov2.agents.mappo import MAPPO, Memory
from rmiov2.agents.mappo.chunks import Chunks, Rollouts, active_of, advantages, side_by_side
from rmiov2.agents.mappo.losses import actor_loss, critic_loss, standardise
from rmiov2.agents.tensors import Averages
from rmiov2.config import Config
from rmiov2.envs.observation_loss import Blinded, ObservationLoss
from rmiov2.envs.registry import make_env
from rmiov2.evaluation.episodes import play
from rmiov2.policy.critic import ValueNorm
from rmiov2.policy.returns import gae
from rmiov2.seeding import Generators
from rmiov2.training.collect import Rollout, random_policy
from rmiov2.training.finetune import finetune
from rmiov2.training.pretrain import Pretraining, replay_of
from rmiov2.types import Trajectory, UserError

TOY = ("agent=mappo", "preset=toy", "collect.num_envs=16", "collect.warmup_steps=96", "pretrain.segment=36")


def toy(game: str, *overrides: str) -> Config:
    return composed(f"env=toy_{game}", *TOY, *overrides)


def games(game: str = "clock", steps: int = 30) -> list[Trajectory]:
    """One rollout of random play in four rows."""
    env = make_env(f"toy/{game}", 4)
    (pieces,) = Rollout(env, random_policy(env.spec, np.random.default_rng(0)), 0, steps).pieces()
    return pieces


# What is collected.


def test_a_rollout_plays_on_in_every_row_and_each_trajectory_begins_an_episode() -> None:
    env = make_env("toy/clock", 4)
    game = Rollout(env, random_policy(env.spec, np.random.default_rng(0)), 0, 30)
    (pieces,) = game.pieces()
    for piece in pieces:
        rows = piece.obs[:, 0, :8].argmax(-1)
        assert piece.start and rows.tolist() == list(range(len(piece) + 1))
        assert piece.rew.tolist() == [(t + 1) / 8 for t in range(len(piece))]
    restarts = 4 * 30 - game.steps()
    assert len(game.ended) <= len(pieces) <= len(game.ended) + 4 and restarts in (len(game.ended), len(game.ended) - 1)
    assert sum(map(len, pieces)) == game.steps()
    assert game.episode_returns().tolist() == [piece.rew.sum() for piece in game.ended]
    assert all(len(piece) % 2 == 1 or piece.con[-1] == 0 for piece in game.ended)  # even lengths end the game


def test_what_is_lost_arrives_as_zeros_and_a_blind_choice_that_is_illegal_idles() -> None:
    inside = make_env("toy/lights", 8)
    env = Blinded(ObservationLoss(inside, "independent", 0.5))
    step = env.reset(0)
    blind = ~step.seen
    assert blind.any() and step.seen.any()
    assert (step.obs[blind] == 0).all() and (step.obs[step.seen] != 0).any()
    assert step.avail is not None and step.avail[blind].all() and not step.avail[step.seen].all()
    forbidden = (inside.answers() + 1) % 5  # type: ignore[attr-defined]
    env.step(np.where(blind, forbidden, inside.answers()))  # type: ignore[attr-defined]  # raises if one got through


def test_a_dead_agent_s_choice_counts_as_none_though_it_is_blind() -> None:
    # Three rows as test_smax and test_envs have: what one of them compiles, the others load.
    inside, rng = make_env("smax/3m", 3), np.random.default_rng(0)
    env, random, dead = Blinded(ObservationLoss(inside, "independent", 0.5)), random_policy(inside.spec, rng), 0
    step = env.restart(0)
    for _ in range(200):
        true = inside._last.avail
        assert step.avail is not None and true is not None
        told, one = step.avail, true.sum(-1) == 1
        dead += int((one & ~step.seen).sum())
        assert np.array_equal(told[one | step.seen], true[one | step.seen]) and told[~one & ~step.seen].all()
        rows = torch.ones(3, 1, dtype=torch.bool)
        mine, theirs = (active_of(torch.from_numpy(avail)[:, None], rows, 3) for avail in (told, true))
        assert torch.equal(mine, theirs)
        step = env.step(random(step))
    assert dead > 50


# What is learned from.


def test_advantages_of_padded_trajectories_are_those_of_each_alone() -> None:
    pieces, spec = games(), make_env("toy/clock", 1).spec
    rollouts = side_by_side(pieces, spec, chunk=4)
    value = torch.randn(len(pieces), rollouts.step.shape[1] + 1, 2, generator=torch.Generator().manual_seed(0))
    together = advantages(rollouts, value * rollouts.row[..., None], 0.9, 0.8)
    assert {float(piece.con[-1]) for piece in pieces} == {0.0, 1.0}
    for m, piece in enumerate(pieces):
        for k in range(2):
            rew, con = torch.from_numpy(piece.rew)[None], torch.from_numpy(piece.con)[None]
            alone = gae(rew, con, value[m : m + 1, : len(piece) + 1, k], 0.9, 0.8)
            assert torch.allclose(together[m, : len(piece), k], alone[0], atol=1e-6)


@pytest.mark.parametrize("recurrent", [True, False])
def test_chunks_say_what_whole_trajectories_said(recurrent: bool) -> None:
    """So the ratio of the first step is one, and the memory at the head of each chunk is the right one."""
    agent, chunks = agent_and_chunks(f"agent.recurrent={recurrent}", "agent.chunk=5")
    out, _ = agent.actor.unroll(chunks.obs, chunks.actor_memory)
    value, _ = agent.critic.unroll(chunks.state, chunks.obs, chunks.active, chunks.critic_memory)
    played = chunks.step
    logp = agent.actor.log_prob(out, chunks.act, chunks.avail)
    assert torch.allclose(logp[played], chunks.logp[played], atol=1e-6)
    assert torch.allclose(value[played], chunks.value[played], atol=1e-6)
    assert chunks.step.any(1).all() and not chunks.step.all()


def agent_and_chunks(*overrides: str) -> tuple[MAPPO, Chunks]:
    pieces, config = games("lights"), toy("lights", *overrides)
    agent = MAPPO(config, make_env("toy/lights", 1).spec, 0)
    with torch.no_grad():
        for parameter in agent.actor.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return agent, agent._chunks(side_by_side(pieces, agent.spec, agent.settings.chunk), Averages())


def test_padding_and_the_dead_have_no_part_in_the_losses_they_should_not_have() -> None:
    agent, chunks = agent_and_chunks()
    before = losses(agent, chunks)
    padding = ~chunks.step
    assert padding.any()
    for name in ("obs", "advantage", "returns", "value", "logp"):
        getattr(chunks, name)[padding] = 7.0
    assert losses(agent, chunks) == before
    chunks.active[:, :, 1] = 0
    chunks.advantage[:, :, 1] = 50.0
    dead = losses(agent, chunks)
    chunks.advantage[:, :, 1] = -50.0
    assert losses(agent, chunks)[0] == dead[0] != before[0]
    chunks.returns[:, :, 1] += 1
    assert losses(agent, chunks)[1] != dead[1]  # the value of the dead is still learned


def losses(agent: MAPPO, chunks: Chunks) -> tuple[float, float]:
    loss, _ = actor_loss(agent.actor, chunks, 0.2, 0.01)
    return loss.item(), critic_loss(agent.critic, ValueNorm(False), chunks, 10.0, 0.2).item()


def test_a_critic_without_own_observations_gives_the_team_one_value() -> None:
    agent, chunks = agent_and_chunks("agent.own_obs=false")
    assert chunks.value.shape[-1] == 1 and chunks.advantage.shape[-1] == 3
    assert np.isfinite(losses(agent, chunks)).all()


def test_continuous_actions_begin_with_the_deviation_that_is_set() -> None:
    agent = MAPPO(toy("dials", "agent.std=0.2"), make_env("toy/dials", 1).spec, 0)
    out = torch.zeros(4000, agent.spec.num_agents, agent.spec.act_dim)
    act = agent.actor.draw(out, None, agent.actor.noise_from(np.random.default_rng(0), out.shape))
    assert act[:, agent.actor.width_mask.bool()].std().item() == pytest.approx(0.2, rel=0.05)


def test_only_agents_with_a_choice_are_active() -> None:
    spec = make_env("toy/lights", 1).spec
    (piece, *_) = random_games("toy/lights", 1)
    piece.avail[3:, 2] = False
    piece.avail[3:, 2, spec.idle_actions[0]] = True
    rollouts = side_by_side([piece], spec, 10)
    assert rollouts.active[0, :3].all() and not rollouts.active[0, 3:13, 2].any() and rollouts.active[0, 3:13, :2].all()
    assert not rollouts.active[0, 13:].any() and isinstance(rollouts, Rollouts)


def test_standardised_over_the_active_alone() -> None:
    advantage, weight = torch.randn(3, 4, 2), (torch.rand(3, 4, 2) < 0.6).float()
    scaled = standardise(advantage, weight)[weight.bool()]
    assert scaled.mean().abs() < 1e-5 and scaled.std(unbiased=False) == pytest.approx(1.0, abs=1e-3)


def test_value_norm_keeps_the_debiased_running_moments() -> None:
    norm, decay, batches = ValueNorm(True, 0.9), 0.9, [torch.randn(50) * k + k for k in (1, 2, 3)]
    for batch in batches:
        norm.update(batch)
    weights = torch.tensor([decay**2, decay, 1.0]) / (decay**2 + decay + 1)
    mean = sum(w * b.mean() for w, b in zip(weights, batches, strict=True))
    square = sum(w * (b**2).mean() for w, b in zip(weights, batches, strict=True))
    assert norm.moments()[0].item() == pytest.approx(mean.item(), rel=1e-5)
    assert norm.moments()[1].item() == pytest.approx((square - mean**2).sqrt().item(), rel=1e-5)
    assert torch.allclose(norm.denormalise(norm.normalise(batches[0])), batches[0], atol=1e-5)


def test_rows_that_begin_an_episode_remember_nothing() -> None:
    agent, _ = agent_and_chunks()
    step, rng, empty = make_env("toy/lights", 2).reset(0), np.random.default_rng(0), agent.start(2)
    full, first = Memory(torch.ones_like(empty.actor)), np.array([True, False])
    (_, after), (_, fresh) = (agent.act(m, step.obs, step.avail, first, rng, greedy=True) for m in (full, empty))
    assert torch.equal(after.actor[0], fresh.actor[0]) and not torch.equal(after.actor[1], fresh.actor[1])


def test_advantages_are_standardised_over_those_who_had_a_choice() -> None:
    agent, pieces = agent_and_chunks()[0], games("lights")
    idle = agent.spec.idle_actions[0]
    for piece in pieces:
        assert piece.avail is not None
        piece.avail[2:, 1], piece.avail[2:, 1, idle], piece.act[2:, 1] = False, True, idle  # dead from row 2 on
    chunks = agent._chunks(side_by_side(pieces, agent.spec, agent.settings.chunk), Averages())
    mine = chunks.advantage[chunks.active.bool()]
    assert 0 < len(mine) < 3 * chunks.step.sum()
    assert mine.mean().abs() < 1e-5 and mine.std(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_the_critic_s_units_follow_the_returns_that_it_learns() -> None:
    agent, chunks = agent_and_chunks("policy.e_sample=2", "policy.minibatches=1")
    returns = chunks.returns[chunks.step]
    agent.update(replay_of(games("lights"), agent.spec), Generators(0), 0, 1)
    mean, std = agent.value_norm.moments()
    assert mean.item() == pytest.approx(returns.mean().item(), abs=1e-4)
    assert std.item() == pytest.approx(returns.std(correction=0).item(), abs=1e-3)


# As a whole.


def learned(game: str, seed: int, *overrides: str) -> float:
    """Greedy performance after a short training."""
    config = toy(game, f"seed={seed}", "pretrain.eval_episodes=64", *overrides)
    env = make_env(config.env.name, config.collect.num_envs, config.seed)
    run = Pretraining(config, env, [])
    while run.env_steps < config.pretrain.env_steps:
        run.sweep()
    run.examine(make_env(config.env.name, 64, 1))
    return float(run.learning[-1]["performance"])


FAST = ("policy.lr_actor=3e-3", "policy.lr_critic=1e-3", "policy.e_sample=10", "pretrain.anneal=0.1")


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_it_finds_the_optimum_of_the_toy_game(seed: int) -> None:
    assert learned("lights", seed, "pretrain.env_steps=10000", *FAST) == 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_it_finds_the_optimum_of_the_continuous_toy_game(seed: int) -> None:
    better = ("agent.recurrent=false", "policy.entropy=0", "policy.minibatches=2", "pretrain.env_steps=16000")
    assert learned("dials", seed, *better, *FAST) > 0.98


def test_a_stopped_run_goes_on_to_the_bit(tmp_path: Path) -> None:
    config = toy("lights", "pretrain.env_steps=4000", "finetune.updates=60", "policy.e_sample=3")
    run(config, tmp_path / "straight")
    run_with_stops(config, tmp_path / "stopped")
    assert len(digests(tmp_path / "straight")) > 5
    assert digests(tmp_path / "stopped") == digests(tmp_path / "straight")


def test_it_makes_the_masked_updates_that_are_asked_for_and_says_how_many(tmp_path: Path) -> None:
    """A rollout is worth 3 passes of so many minibatches, more than a twentieth of what is asked for."""
    config = toy("lights", "pretrain.env_steps=1000", "finetune.updates=50", "policy.e_sample=3")
    run(config, tmp_path)
    before, after = (rmiov2.load(tmp_path / name, config).updates for name in ("pretrain", "finetune"))
    told = finetune(
        config, tmp_path / "pretrain", tmp_path / "replay", tmp_path / "again", tmp_path, tmp_path / "r3", quiet
    )  # fmt: skip
    worth = config.policy.e_sample * config.policy.minibatches
    assert 50 // 20 < worth and told["updates"] == after - before
    assert 50 <= after - before < 50 + worth


def test_it_finds_the_optimum_and_masked_fine_tuning_makes_it_better_at_playing_blind(tmp_path: Path) -> None:
    """The light moves on as it did, so a memory is as good as an eye, for a team that has learned to use it."""
    config = toy("lights", "pretrain.env_steps=10000", "finetune.updates=400", "finetune.p_mask=0.5", *FAST)
    run(config, tmp_path)
    assert right_answers(tmp_path / "pretrain", config, p_loss=0) == 1.0
    before, after = (right_answers(tmp_path / name, config, p_loss=0.5) for name in ("pretrain", "finetune"))
    assert after > before + 0.1


def right_answers(folder: Path, config: Config, p_loss: float) -> float:
    """Their share, where lost observations arrive as zeros."""
    env = make_env(config.env.name, 64, 1)
    team = rmiov2.load(folder, config).team(64, 0, mode="zeros")
    played = play(env, team, "independent", p_loss, 128, 3)
    return float(played["return"].mean()) / 12


def test_a_rollout_shorter_than_an_episode_is_refused() -> None:
    config = toy("lights", "pretrain.segment=5")
    with pytest.raises(UserError, match=r"pretrain\.segment: got 5, expected 12 at least"):
        Pretraining(config, make_env("toy/lights", 4), [])


def test_a_replay_of_a_rollout_holds_it_whole() -> None:
    pieces, spec = games(), make_env("toy/clock", 1).spec
    held = replay_of(pieces, spec).trajectories(10**6)
    assert [len(piece) for piece in held] == [len(piece) for piece in pieces]
    assert all((a.obs == b.obs).all() and (a.act == b.act).all() for a, b in zip(held, pieces, strict=True))
