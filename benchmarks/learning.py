"""What learning costs beside its floor: world-model updates, imagination, policy rounds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.cases import SMAX, composed, spec_of, synthetic_replay, untrained
from benchmarks.clock import Effort, Work, against_floor
from benchmarks.methods import update
from benchmarks.table import Row
from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.policy.actor import playable
from rmiov2.replay.buffer import Replay
from rmiov2.seeding import Generators
from rmiov2.types import EnvSpec
from rmiov2.world_model.rollout import imagine

LIMITS = {"paper": 3.0, "small": 8.0}  # times the floor; small products cannot come as near


def world_model(presets: Sequence[str], effort: Effort) -> list[Row]:
    """Updates per second, sampling from the replay included."""
    spec, rows = spec_of(SMAX), []
    for preset in presets:
        agent, replay, rngs = _learner(preset, spec)
        work = update(agent, replay, rngs, 1, 0)
        rows.append(against_floor(f"world-model update, {SMAX}, {preset}", "updates", work, LIMITS[preset], effort))
    return rows


def imagination(presets: Sequence[str], effort: Effort) -> list[Row]:
    """Imagined steps of a team per second, and whole policy rounds."""
    spec, rows = spec_of(SMAX), []
    for preset in presets:
        agent, replay, rngs = _learner(preset, spec)
        work = imagined_steps(agent, rngs.torch)
        rows.append(against_floor(f"imagination, {SMAX}, {preset}", "team steps", work, LIMITS[preset], effort))
        work = update(agent, replay, rngs, 0, 1)
        rows.append(against_floor(f"policy round, {SMAX}, {preset}", "rounds", work, None, effort))
    return rows


def _learner(preset: str, spec: EnvSpec) -> tuple[RMIOv2, Replay, Generators]:
    config = composed(preset=preset, env=SMAX)
    return untrained(config, spec), synthetic_replay(spec, config.world_model.length), Generators(config.seed)


def imagined_steps(agent: RMIOv2, generator: torch.Generator) -> Work:
    """What a policy round imagines, from as many states, with the agent's own actor."""
    w, p, discrete = agent.config.world_model, agent.config.policy, agent.spec.discrete
    starts = min(p.starts, w.batch * (w.length - 1))
    with torch.no_grad():
        h = agent.model.initial(torch.ones(starts))
        z = agent.model.sample(agent.model.prior_probs(h), None)

    def work() -> float:
        memory = agent.actor.initial(starts)

        def choose(obs: Tensor, avail: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
            nonlocal memory
            out, after = agent.actor.unroll(obs[:, None], memory)
            memory = after[:, 0]
            act, logp = agent.actor.choose(out[:, 0], avail, generator)
            return act, playable(act, discrete), logp

        imagine(agent.model, h, z, choose, p.horizon, generator)
        return float(starts * p.horizon)

    return work
