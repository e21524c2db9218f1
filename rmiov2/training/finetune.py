"""Masked fine-tuning, Algorithm 2, lines 20-27: M learns to say what was hidden; pi stays and collects.

A method without a world model learns on, as it did before, with observations that are lost at the same rate. Where
masks are lost with them, only play shows what comes of an illegal choice: such play joins what its replay has.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rmiov2 import config as configuration
from rmiov2.agents.base import Agent, Mask, Metrics
from rmiov2.agents.registry import make_agent
from rmiov2.config import Config
from rmiov2.envs.base import Env
from rmiov2.envs.observation_loss import Blinded, ObservationLoss, draw_seen
from rmiov2.envs.registry import make_env
from rmiov2.progress import Say
from rmiov2.replay import shards
from rmiov2.replay.buffer import Replay
from rmiov2.seeding import Generators, derive
from rmiov2.training import checkpoint
from rmiov2.training.collect import Sweep
from rmiov2.training.curves import Row, facts_in, lost_in, write_csv
from rmiov2.training.pretrain import annealed, player_of, policy_of, replay_of, summary
from rmiov2.training.resuming import SAVE_SECONDS, kept, resumed, save
from rmiov2.types import Batch, Bools, Floats, Trajectory
from rmiov2.world_model.reward_trend import reward_trend

Watch = Callable[[int, float], None]  # how many of the ROUNDS are done, and L_rec after them
ROUNDS = 20
HELD_OUT_P_LOSS = 0.5
HELD_OUT_WINDOWS = 512


def rates_of(settings: configuration.Finetune, batch: int, rng: np.random.Generator) -> Floats:
    """(B,) p_mask for every sequence, or, varied, a rate of its own with that mean."""
    if settings.vary_p_mask:
        low, high = max(0.0, 2 * settings.p_mask - 1), min(1.0, 2 * settings.p_mask)
        return rng.uniform(low, high, batch).astype(np.float32)
    return np.full(batch, settings.p_mask, np.float32)


def mask_of(settings: configuration.Finetune, num_agents: int, rng: np.random.Generator) -> Mask:
    """(B, T) to seen (B, T, N)."""

    def draw(batch: int, length: int) -> Bools:
        return draw_seen(settings.pattern, rates_of(settings, batch, rng), (batch, length, num_agents), rng)

    return draw


def plays_blind(agent: Agent) -> bool:
    """Whether what a policy does without what is lost has to be tried, as no replay of sight tells."""
    return agent.capabilities.on_policy or (agent.capabilities.model_free and agent.spec.discrete)


class HeldOut:
    """Fresh episodes of the trained policy, and what is hidden in them: the same for every measurement of L_rec."""

    def __init__(self, config: Config, agent: Agent) -> None:
        f, rng = config.finetune, np.random.default_rng(derive(config.seed, "held_out"))
        env = make_env(config.env.name, min(f.held_out_episodes, config.evaluate.num_envs), config.seed)
        replay, sweep = Replay(env.spec, 10**7), 0
        while replay.episodes < f.held_out_episodes:
            policy = policy_of(agent, env.num_envs, rng, greedy=True)
            for pieces in Sweep(env, policy, derive(config.seed, "held_out", sweep), 10**6).pieces():
                for piece in pieces:
                    replay.add(piece, piece.rew)
            sweep += 1
        self.lost = env.lost_episodes
        env.close()
        self.batch: Batch = replay.sample(HELD_OUT_WINDOWS, config.execution.history + 1, rng)
        self.seen = draw_seen("independent", HELD_OUT_P_LOSS, self.batch.obs.shape[:3], rng)

    def l_rec(self, agent: Agent) -> float:
        """L_rec on the lost agents: SmoothL1 summed over the observation's features, mean over agents and steps."""
        return agent.reconstruction_error(self.batch, self.seen)


class Finetuning:
    """A run of Algorithm 2's training: everything that a checkpoint must hold, and the loop over rounds."""

    def __init__(self, config: Config, env: Env, pretrained: checkpoint.Checkpoint, replayed: list[Trajectory]) -> None:
        torch.set_num_threads(config.threads)
        self.config, self.env = config, env
        self.agent = make_agent(config, env.spec)
        self.rngs = Generators(derive(config.seed, "finetune"), config.device)
        self.mask = mask_of(config.finetune, env.spec.num_agents, self.rngs.numpy["observation_loss"])
        self.agent.load_state_dict(pretrained.state["agent"])
        self.pretrained_updates = self.agent.updates
        self.play = player_of(self.agent, config.pretrain.segment)
        self.replay = Replay(env.spec, config.collect.capacity)
        self.held_out = HeldOut(config, self.agent) if self.agent.capabilities.reconstructs else None
        self.rounds, self.sweeps, self.env_steps, self.collected, self.wall_s = 0, 0, 0, 0, 0.0
        self.curve: list[Row] = [self._row(0) | lost_in(env, self.held_out.lost if self.held_out else 0)]
        self.keep(replayed)

    def keep(self, pieces: list[Trajectory]) -> None:
        """Take trajectories into the replay."""
        for piece in pieces:
            self.replay.add(piece, reward_trend(piece.rew, self.config.reward_trend, self.replay.reward_variance())[0])

    def round(self) -> list[Trajectory]:
        """A share of the collecting, then a share of the masked updates; returns what was collected to keep."""
        f = self.config.finetune
        done, due = (f.updates * k // ROUNDS for k in (self.rounds, self.rounds + 1))
        scale = annealed(self.rounds / ROUNDS, f.anneal)
        collected: list[Trajectory] = []
        lost = self.env.lost_episodes
        if self.agent.capabilities.on_policy:
            metrics = self._play_rounds(due, scale)
        elif plays_blind(self.agent):
            collected = self._collect(due / self.config.pretrain.e_m)
            metrics = self.agent.update(self.replay, self.rngs, due - done, 0, scale=scale)
        else:
            collected = self._collect(f.env_steps * (self.rounds + 1) / ROUNDS)
            metrics = self.agent.update(self.replay, self.rngs, due - done, 0, self.mask, scale)
        self.rounds += 1
        self.curve.append(self._row(due) | lost_in(self.env, self.env.lost_episodes - lost) | metrics)
        return collected

    def _row(self, update: int) -> dict[str, float]:
        l_rec = {"l_rec": self.held_out.l_rec(self.agent)} if self.held_out else {}
        return {"update": update, **l_rec}

    @property
    def updates(self) -> int:
        """Masked updates so far; a rollout's come all at once, so that the last may bring more than were asked for."""
        return self.agent.updates - self.pretrained_updates

    def _play_rounds(self, due: int, scale: float) -> Metrics:
        """Rollouts, until all of them have been worth so many updates."""
        metrics = Metrics()
        while self.updates < due:
            metrics = self.agent.update(replay_of(self._played(), self.env.spec), self.rngs, 0, 1, scale=scale)
        return metrics

    def _collect(self, env_steps: float) -> list[Trajectory]:
        """Play until so many steps were played in all; returns what is new."""
        collected: list[Trajectory] = []
        while self.env_steps < env_steps:
            collected += self._played()
        self.keep(collected)
        self.collected += len(collected)
        return collected

    def _played(self) -> list[Trajectory]:
        """One game in every environment, without what is lost for those who learn from such play."""
        f, rngs, env = self.config.finetune, self.rngs, self.env
        if plays_blind(self.agent):
            rates = rates_of(f, env.num_envs, rngs.numpy["observation_loss"])
            env = Blinded(ObservationLoss(env, f.pattern, rates))
        policy = policy_of(self.agent, env.num_envs, rngs.numpy["exploration"], greedy=False)
        game = self.play(env, policy, rngs.env_seed(self.sweeps), self.config.pretrain.segment)
        pieces = [piece for some in game.pieces() for piece in some]
        self.env_steps, self.sweeps = self.env_steps + game.steps(), self.sweeps + 1
        return pieces

    def state_dict(self) -> dict[str, Any]:
        """Everything but the replay and the held-out episodes, which come again by themselves."""
        return {
            "agent": dict(self.agent.state_dict()),
            "generators": self.rngs.state_dict(),
            "counters": {
                "rounds": self.rounds,
                "sweeps": self.sweeps,
                "env_steps": self.env_steps,
                "wall_s": self.wall_s,
            },
            "trajectories": self.collected,
            "curve": [dict(row) for row in self.curve],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where state_dict was taken."""
        self.agent.load_state_dict(state["agent"])
        self.rngs.load_state_dict(state["generators"])
        for name, value in state["counters"].items():
            setattr(self, name, value)
        self.collected, self.curve = state["trajectories"], state["curve"]


def finetune(
    config: Config, pretrained: Path, replay: Path, out: Path, plots: Path, resume: Path, say: Say,
    save_seconds: float = SAVE_SECONDS, watch: Watch = lambda done, l_rec: None,
) -> dict[str, Any]:  # fmt: skip
    """Run the masked fine-tuning to its end, from the beginning or from `resume`; writes checkpoint and curve.

    watch is called once for every round, those before a stop included; what it raises ends the run.
    """
    env = make_env(config.env.name, config.collect.num_envs, config.seed)
    before = checkpoint.load(pretrained / "checkpoint.safetensors")
    run = Finetuning(config, env, before, shards.read(replay, env.spec))
    state = resumed(resume)
    if state:
        run.keep(kept(resume, env.spec, state["trajectories"]))
        run.load_state_dict(state)
    else:
        kept(resume, env.spec, 0)
    with closing(env):
        _rounds(run, resume, say, save_seconds, watch)
    checkpoint.save(out / "checkpoint.safetensors", {"agent": run.state_dict()["agent"]}, config=config, spec=env.spec)
    write_csv(plots / "finetune.csv", run.curve)
    told: dict[str, Any] = summary(config, run.env_steps, run.updates, run.wall_s)
    if run.held_out:
        told["l_rec"] = {"before": run.curve[0]["l_rec"], "after": run.curve[-1]["l_rec"]}
    return told | facts_in(env, run.curve)


def _rounds(run: Finetuning, resume: Path, say: Say, save_seconds: float, watch: Watch) -> None:
    if run.held_out:
        for done, row in enumerate(run.curve):
            watch(done, row["l_rec"])
    pending: list[Trajectory] = []
    saved = time.monotonic()
    while run.rounds < ROUNDS:
        began = time.monotonic()
        pending += run.round()
        run.wall_s += time.monotonic() - began
        row = run.curve[-1]
        told = f": L_rec {row['l_rec']:.3f}" if run.held_out else ""
        say(f"update {row['update']}{told}", run.rounds / ROUNDS)
        if run.held_out:
            watch(run.rounds, row["l_rec"])
        if time.monotonic() - saved >= save_seconds and run.rounds < ROUNDS:
            save(run, pending, resume)
            pending, saved = [], time.monotonic()
