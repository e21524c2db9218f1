"""Which observations arrive: the one source of `seen`, in training sequences and in environments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rmiov2.config import loss_pattern
from rmiov2.envs.base import Env, blank, legalise
from rmiov2.envs.wrapper import Wrapper
from rmiov2.seeding import derive
from rmiov2.types import Actions, Bools, Floats, Ints, Step, UserError

BURST = 5  # steps that an interruption lasts on average, where bursty says no number


class LossPattern:
    """Draws, step by step, whose observation arrives.

    independent: each agent's is lost at each step with probability p_loss (the paper's). bursty: each agent alternates
    between seeing and not, as a two-state Markov chain with stationary loss p_loss and interruptions of BURST steps on
    average, or as many as bursty:STEPS says (longer where p_loss > STEPS / (STEPS + 1) leaves no other way). one_agent:
    per episode, with probability p_loss, one agent is lost for all of it, drawn uniformly, or the one of that index
    with one_agent:AGENT. whole_team: per step, all are lost with probability p_loss.

    p_loss is a number, or one per row (B,). Raises UserError for an unknown pattern, an agent that there is not, or a
    p_loss outside [0, 1].
    """

    def __init__(
        self, pattern: str, p_loss: float | Floats, num_envs: int, num_agents: int, rng: np.random.Generator
    ) -> None:
        name, number = read_pattern(pattern)
        p = np.broadcast_to(np.asarray(p_loss, np.float64), (num_envs,))
        if not ((p >= 0) & (p <= 1)).all():
            raise UserError(f"got p_loss = {p_loss}, expected a probability from 0 to 1")
        self._p, self._rng, self._shape = p[:, None], rng, (num_envs, num_agents)
        self._burst, self._agent = number or BURST, number
        if name == "one_agent" and (number or 0) >= num_agents:
            raise UserError(f"loss pattern {pattern}: expected one of the {num_agents} agents, 0 to {num_agents - 1}")
        self._draw = getattr(self, f"_{name}")
        self._lost: Bools | None = None

    def draw(self, first: Bools) -> Bools:
        """seen (B, N) of the next step; rows with first (B,) begin an episode, and at the first call every row does.

        Each call draws the same amount from the generator, whatever `first` says.
        """
        fresh = first if self._lost is not None else np.ones_like(first)
        previous = self._lost if self._lost is not None else np.zeros(self._shape, bool)
        self._lost = np.array(self._draw(fresh[:, None], previous))
        return ~self._lost

    def _independent(self, fresh: Bools, previous: Bools) -> Bools:
        return self._rng.random(self._shape) < self._p

    def _whole_team(self, fresh: Bools, previous: Bools) -> Bools:
        return np.broadcast_to(self._rng.random((self._shape[0], 1)) < self._p, self._shape)

    def _one_agent(self, fresh: Bools, previous: Bools) -> Bools:
        victim: Ints | int = self._rng.integers(self._shape[1], size=(self._shape[0], 1))
        victim = victim if self._agent is None else self._agent
        gone = (self._rng.random((self._shape[0], 1)) < self._p) & (np.arange(self._shape[1]) == victim)
        return np.where(fresh, gone, previous)

    def _bursty(self, fresh: Bools, previous: Bools) -> Bools:
        # Stationary: enter / (enter + leave) = p. Where enter would exceed 1, it is 1 and leave gives way.
        odds = self._p / np.maximum(1 - self._p, np.finfo(float).tiny)
        leave = np.minimum(1 / self._burst, 1 / np.maximum(odds, np.finfo(float).tiny))
        enter = np.minimum(1.0, leave * odds)
        chance = np.where(fresh, self._p, np.where(previous, 1 - np.where(self._p == 1, 0, leave), enter))
        return self._rng.random(self._shape) < chance


def read_pattern(pattern: str) -> tuple[str, int | None]:
    """The name and the number of a pattern; raises UserError if LossPattern does not know it."""
    try:
        return loss_pattern(pattern)
    except ValueError as error:
        raise UserError(f"unknown loss pattern {pattern!r}, {error}") from error


def draw_seen(pattern: str, p_loss: float | Floats, shape: tuple[int, int, int], rng: np.random.Generator) -> Bools:
    """seen (B, T, N) of training sequences, shape = (B, T, N), each row an episode of its own; p_loss may be (B,)."""
    rows, steps, agents = shape
    losses = LossPattern(pattern, p_loss, rows, agents, rng)
    return np.stack([losses.draw(np.full(rows, t == 0)) for t in range(steps)], axis=1)


class ObservationLoss(Wrapper[Env]):
    """An environment whose steps say whose observation arrived.

    Only `seen` changes: obs and avail stay true, for whoever acts on them to blank (base.blank), so p_loss = 0 is the
    identity to the bit. The losses have a generator of their own, begun anew by a reset or restart with a seed: the
    same seed gives the same losses.
    """

    def __init__(self, env: Env, pattern: str, p_loss: float | Floats, seed: int = 0) -> None:
        super().__init__(env)
        self._pattern, self._p_loss, self._seed = pattern, p_loss, seed
        self._losses = self._drawn_by(derive(seed, "observation_loss"))

    def _before(self, seed: int | None) -> None:
        if seed is not None:
            self._losses = self._drawn_by(derive(self._seed, "observation_loss", seed))

    def _shown(self, step: Step) -> Step:
        return replace(step, seen=step.seen & self._losses.draw(step.first))

    def _drawn_by(self, seed: int) -> LossPattern:
        rng = np.random.default_rng(seed)
        return LossPattern(self._pattern, self._p_loss, self.num_envs, self.spec.num_agents, rng)


class Blinded(Wrapper[ObservationLoss]):
    """An environment whose players cannot look behind the loss, as a team at work cannot: what a policy learns from.

    Lost observations are zeros, masks that were lost with them all true, and an illegal choice becomes an idle one. An
    agent with one action left, a dead one, keeps its mask: it plays that action whatever it is told, and who learns
    must not take what it says for a choice.
    """

    _avail: Bools | None = None

    def _played(self, act: Actions) -> Actions:
        return act if self._avail is None else legalise(act.astype(np.int64), self._avail, self.spec)

    def _shown(self, step: Step) -> Step:
        self._avail = step.avail
        told = None
        if step.avail is not None:
            chooses = step.avail.sum(-1, keepdims=True) > 1
            told = step.avail | (chooses & ~step.seen[..., None])
        return replace(step, obs=blank(step.obs, step.seen), avail=told)
