"""Pre-training, Algorithm 1: collect with pi, train M on what was seen, train pi on what M imagines."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rmiov2.agents.base import Agent
from rmiov2.agents.registry import make_agent
from rmiov2.config import Config
from rmiov2.envs.base import Env
from rmiov2.envs.registry import make_env
from rmiov2.evaluation.episodes import greedy_performance
from rmiov2.progress import Say
from rmiov2.replay import shards
from rmiov2.replay.buffer import Replay
from rmiov2.seeding import Generators, derive
from rmiov2.training import checkpoint
from rmiov2.training.collect import Policy, Rollout, Sweep
from rmiov2.training.curves import Row, facts_in, lost_in, write_csv
from rmiov2.training.resuming import SAVE_SECONDS, kept, resumed, save
from rmiov2.types import Actions, EnvSpec, Step, Trajectory, UserError
from rmiov2.world_model.reward_trend import reward_trend


def policy_of(agent: Agent, num_envs: int, rng: np.random.Generator, greedy: bool) -> Policy:
    """The agent as a policy of its own sight, with the memory of num_envs teams."""
    memory = agent.start(num_envs)

    def choose(step: Step) -> Actions:
        nonlocal memory
        act, memory = agent.act(memory, step.obs, step.avail, step.first, rng, greedy)
        return act

    return choose


def player_of(agent: Agent, segment: int) -> type[Sweep] | type[Rollout]:
    """How the agent collects; raises UserError if an on-policy one would never see an episode's end."""
    if not agent.capabilities.on_policy:
        return Sweep
    if segment < agent.spec.episode_limit:
        raise UserError(
            f"pretrain.segment: got {segment}, expected {agent.spec.episode_limit} at least, an episode of"
            f" {agent.spec.name}, for an on-policy agent; raise pretrain.segment"
        )
    return Rollout


def replay_of(pieces: list[Trajectory], spec: EnvSpec) -> Replay:
    """A replay that holds these alone."""
    replay = Replay(spec, sum(map(len, pieces)))
    for piece in pieces:
        replay.add(piece, piece.rew)
    return replay


def annealed(progress: float, end: float) -> float:
    """1 for the first half of a stage, then linearly down to `end`."""
    return 1.0 - (1.0 - end) * min(1.0, max(0.0, 2 * progress - 1))


class Pretraining:
    """A run of Algorithm 1: everything that a checkpoint must hold, and the loop over sweeps."""

    def __init__(self, config: Config, env: Env, warm: list[Trajectory]) -> None:
        torch.set_num_threads(config.threads)
        self.config, self.env = config, env
        self.agent = make_agent(config, env.spec)
        self.rngs = Generators(config.seed, config.device)
        self.play = player_of(self.agent, config.pretrain.segment)
        self.replay = Replay(env.spec, config.collect.capacity)
        self.sweeps, self.env_steps, self.owed = 0, 0, {"model": 0.0, "policy": 0.0}
        self.trajectories = 0
        self.curve: list[Row] = []
        self.learning: list[Row] = []
        self.wall_s = 0.0
        self.keep(warm)

    def keep(self, pieces: list[Trajectory]) -> None:
        """Take trajectories into the replay, with the reward trend they are learned by; eqs. (10)-(12)."""
        for piece in pieces:
            trend, _ = reward_trend(piece.rew, self.config.reward_trend, self.replay.reward_variance())
            self.replay.add(piece, trend)
            self.env_steps += len(piece)
        self.trajectories += len(pieces)
        self.agent.env_steps = self.env_steps

    def sweep(self) -> list[Trajectory]:
        """One episode in every environment, or one rollout, learning on the way; returns what was collected."""
        policy = policy_of(self.agent, self.env.num_envs, self.rngs.numpy["exploration"], False)
        game = self.play(self.env, policy, self.rngs.env_seed(self.sweeps), self.config.pretrain.segment)
        collected: list[Trajectory] = []
        metrics: dict[str, float] = {}
        for pieces in game.pieces():
            before = self.env_steps
            self.keep(pieces)
            collected += pieces
            metrics = self.learn(pieces, self.env_steps - before)
        self.sweeps += 1
        self.curve.append(self._row(game, metrics))
        return collected

    def learn(self, pieces: list[Trajectory], steps: int) -> dict[str, float]:
        """The updates that `steps` new environment steps have earned; on-policy, one round on the pieces alone."""
        p = self.config.pretrain
        scale = annealed(self.env_steps / p.env_steps, p.anneal)
        if self.agent.capabilities.on_policy:
            return self.agent.update(replay_of(pieces, self.env.spec), self.rngs, 0, 1, scale=scale)
        self.owed["model"] += p.e_m * steps
        self.owed["policy"] += p.e_pi * steps if self.env_steps >= p.policy_after else 0.0
        models, policies = int(self.owed["model"]), int(self.owed["policy"])
        self.owed["model"] -= models
        self.owed["policy"] -= policies
        return self.agent.update(self.replay, self.rngs, models, policies, scale=scale)

    def _row(self, game: Sweep | Rollout, metrics: dict[str, float]) -> Row:
        returns = game.episode_returns()
        return {
            "env_steps": self.env_steps,
            "sweep": self.sweeps,
            "real_return": game.returns_to_go(self.config.policy.gamma),
            "real_reward": float(returns.sum()) / game.steps(),
            "episode_return": float(returns.mean()),
            "won": float(game.won.mean()),
            **lost_in(self.env, game.lost),
            **metrics,
        }

    def examine(self, env: Env) -> None:
        """One point of the learning curve: greedy, on its own environments and seeds."""
        p = self.config.pretrain
        team = partial(self.agent.team, mode="zeros")  # nobody is blind here, so nothing is ever filled in
        lost = env.lost_episodes
        value, lo, hi = greedy_performance(env, team, p.eval_episodes, derive(self.config.seed, "learning"))
        point = {"env_steps": self.env_steps, "performance": value, "lo": lo, "hi": hi, "episodes": p.eval_episodes}
        self.learning.append(point | lost_in(env, env.lost_episodes - lost))

    def examination_due(self) -> bool:
        """Whether eval_every steps have passed since the last point, or none was taken yet."""
        every = self.config.pretrain.eval_every
        return not self.learning or self.env_steps // every > int(self.learning[-1]["env_steps"]) // every

    def state_dict(self) -> dict[str, Any]:
        """Everything but the replay, which ends after `trajectories`."""
        return {
            "agent": dict(self.agent.state_dict()),
            "generators": self.rngs.state_dict(),
            "counters": {"sweeps": self.sweeps, "env_steps": self.env_steps, "owed": self.owed, "wall_s": self.wall_s},
            "trajectories": self.trajectories,
            "curve": [dict(row) for row in self.curve],
            "learning": [dict(row) for row in self.learning],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where state_dict was taken; the replay must already hold what it held then."""
        self.agent.load_state_dict(state["agent"])
        self.rngs.load_state_dict(state["generators"])
        counters = state["counters"]
        self.sweeps, self.env_steps, self.owed = counters["sweeps"], counters["env_steps"], counters["owed"]
        self.wall_s, self.curve, self.learning = counters["wall_s"], state["curve"], state["learning"]
        self.trajectories = state["trajectories"]


def pretrain(
    config: Config, collected: Path, out: Path, replay_out: Path, plots: Path, resume: Path, say: Say,
    save_seconds: float = SAVE_SECONDS,
) -> dict[str, Any]:  # fmt: skip
    """Run Algorithm 1 to its end, from the beginning or from `resume`; writes checkpoint, replay and curves."""
    env = make_env(config.env.name, config.collect.num_envs, config.seed)
    examiner = make_env(config.env.name, min(config.pretrain.eval_episodes, config.evaluate.num_envs), config.seed)
    run = _begin(config, env, collected, resume)
    if run.env_steps >= config.pretrain.env_steps and not run.learning:
        raise UserError(
            f"pretrain.env_steps: got {config.pretrain.env_steps}, expected more than the {run.env_steps} steps of"
            " random play before it; raise it, or lower collect.warmup_steps"
        )
    pending: list[Trajectory] = []
    saved = time.monotonic()
    while run.env_steps < config.pretrain.env_steps:
        began = time.monotonic()
        pending += run.sweep()
        if run.examination_due():
            run.examine(examiner)
        run.wall_s += time.monotonic() - began
        say(_status(run), run.env_steps / config.pretrain.env_steps)
        if time.monotonic() - saved >= save_seconds:
            save(run, pending, resume)
            pending, saved = [], time.monotonic()
    save(run, pending, resume)
    env.close(), examiner.close()
    return _finish(run, out, replay_out, plots)


def _begin(config: Config, env: Env, collected: Path, resume: Path) -> Pretraining:
    warm = shards.read(collected, env.spec)
    run = Pretraining(config, env, warm)
    saved = resumed(resume)
    run.keep(kept(resume, env.spec, saved["trajectories"] - len(warm) if saved else 0))
    if saved:
        run.load_state_dict(saved)
    return run


def _finish(run: Pretraining, out: Path, replay_out: Path, plots: Path) -> dict[str, Any]:
    config, spec = run.config, run.env.spec
    shards.replace(replay_out, run.replay.trajectories(run.replay.episodes), spec)
    checkpoint.save(out / "checkpoint.safetensors", portable(run), config=config, spec=spec)
    write_csv(plots / "pretrain.csv", run.curve)
    write_csv(plots / "learning.csv", run.learning)
    return summary(config, run.env_steps, run.agent.updates, run.wall_s) | {
        "performance": run.learning[-1]["performance"],
        **facts_in(run.env, run.curve, run.learning),
    }


def portable(run: Pretraining) -> dict[str, Any]:
    """The state without what two equal runs may differ in: the time they took."""
    state = run.state_dict()
    return state | {"counters": {name: value for name, value in state["counters"].items() if name != "wall_s"}}


def summary(config: Config, env_steps: int, updates: int, wall_s: float) -> dict[str, Any]:
    """What every training stage's metrics say."""
    return {
        "env": config.env.name,
        "agent": config.agent.label,
        "preset": config.preset,
        "device": config.device,
        "precision": config.precision,
        "seeds": [config.seed],
        "env_steps": env_steps,
        "updates": updates,
        "wall_s": round(wall_s, 1),
    }


def _status(run: Pretraining) -> str:
    row, point = run.curve[-1], run.learning[-1]
    told = {
        name: row[name]
        for name in ("episode_return", "imagined_return", "real_return", "loss_model", "value_loss", "td_loss")
        if name in row
    }
    numbers = " ".join(f"{name} {value:.2f}" for name, value in told.items())
    return f"{run.env_steps} steps: greedy {point['performance']:.2f} {numbers}"
