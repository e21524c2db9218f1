"""A trained team at work: numpy in, numpy out, with or without all its eyes (Algorithm 2, lines 28-39)."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from rmiov2.config import Config
from rmiov2.execution.communication import exchange
from rmiov2.execution.completion import Completion
from rmiov2.execution.history import LARGEST, History, refuse_actions
from rmiov2.types import Actions, Bools, EnvSpec, Floats, UserError

MODES = ("completion", "zeros", "last_seen")


class Player(Protocol):
    """What a team needs of its agent: the policy, and for completion what the world model makes of a history."""

    config: Config
    spec: EnvSpec

    def start(self, num_envs: int) -> Any:
        """An empty memory."""

    def act(
        self, memory: Any, obs: Floats, avail: Bools | None, first: Bools, rng: np.random.Generator, greedy: bool
    ) -> tuple[Actions, Any]:
        """Actions and the memory after them."""

    def did(self, memory: Any, act: Actions) -> Any:
        """The memory of teams that did act instead."""

    def completion(self, history: History) -> Completion:
        """What completes the observations and masks of these teams."""

    def predicted_avail(self, memory: Any, obs: Floats, first: Bools) -> Bools | None:
        """Masks of a method that has its own idea of them."""

    def talk(self) -> tuple[int, int]:
        """Messages and bytes between two steps, whoever sees."""


class Team:
    """num_envs teams of one agent, with the memory that each needs; without greedy they draw their actions.

    mode says what stands in for a lost observation: the world model's reconstruction, zeros, or the last one seen.
    messages, bytes (B,) count what completion, or an agent that talks, cost since each episode began; completed
    (B, N, O) is what was acted on.
    """

    def __init__(
        self,
        agent: Player,
        num_envs: int,
        seed: int,
        mode: str,
        true_availability: bool = False,
        greedy: bool = True,
    ) -> None:
        if mode not in MODES:
            raise UserError(f"got mode {mode!r}, expected one of {', '.join(MODES)}")
        self.agent, self.num_envs, self.mode, self.true_availability = agent, num_envs, mode, true_availability
        self.greedy = greedy
        self.spec: EnvSpec = agent.spec
        n, shape = self.spec.num_agents, (num_envs, self.spec.num_agents, self.spec.obs_dim)
        self._rng = np.random.default_rng(seed)
        self._memory = agent.start(num_envs)
        self._completion: Completion | None = None
        if mode == "completion":
            steps = agent.config.execution.history
            self._completion = agent.completion(History.empty(self.spec, num_envs, steps))
        self._last_obs = np.zeros(shape, np.float32)
        self._last_avail = np.ones((num_envs, n, self.spec.act_dim), bool) if self.spec.discrete else None
        self._begun = False
        self.messages = np.zeros(num_envs, np.int64)
        self.bytes = np.zeros(num_envs, np.int64)
        self.completed = np.zeros(shape, np.float32)

    def act(
        self, obs: Floats, seen: Bools | None = None, avail: Bools | None = None, first: Bools | None = None
    ) -> Actions:
        """Actions (B, N) or (B, N, A) for obs (B, N, O), of which only those of agents in seen (B, N) arrived.

        avail (B, N, A) is needed where actions are discrete; a blind agent's is not looked at, unless
        true_availability, so its choice may be illegal. first (B,) marks rows that begin an episode. One call is one
        step of the games, also where nobody sees. Raises UserError, before anything is remembered, for a wrong shape or
        type, an observation that is not finite, or an agent that sees and can do nothing.
        """
        obs = _array("obs", obs, np.float32)
        seen = np.ones(obs.shape[:2], bool) if seen is None else _array("seen", seen)
        first = np.full(self.num_envs, not self._begun) if first is None else _array("first", first)
        avail = None if avail is None else _array("avail", avail)
        self._check(obs, seen, avail, first)
        self._begun = True
        self._forget(first)
        self._count_talk(first)
        obs = np.where(seen[..., None], obs, np.float32(0))
        if self._completion is not None:
            self._completion.saw(obs, seen, first)
        completed, mask = self._complete(obs, seen, avail, first)
        act, self._memory = self.agent.act(self._memory, completed, mask, first, self._rng, self.greedy)
        if self._completion is not None:
            self._completion.did(act)
        self.completed = completed
        return act

    def did(self, act: Actions) -> None:
        """Say what the agents did, (B, N) or (B, N, A), where that is not what act chose last.

        Reconstruction, and a policy that remembers its actions, go on from it; without this, what was chosen counts as
        done. Raises UserError before the first step, and for a wrong shape or a value that is no action.
        """
        if not self._begun:
            raise UserError("did: got actions before any step, expected them after act")
        act = self._actions(act)
        self._memory = self.agent.did(self._memory, act)
        if self._completion is not None:
            self._completion.did(act)

    def _actions(self, act: Actions) -> Actions:
        discrete, shape = self.spec.discrete, (self.num_envs, self.spec.num_agents)
        act, expected = _array("act", act), shape if discrete else (*shape, self.spec.act_dim)
        if act.shape != expected:
            raise UserError(f"act: got shape {act.shape}, expected {expected} for {shape[0]} teams of {self.spec.name}")
        if act.dtype.kind not in ("iu" if discrete else "iuf"):
            raise UserError(f"act: got dtype {act.dtype}, expected {'whole numbers' if discrete else 'numbers'}")
        act = act.astype(np.int64) if discrete else act.astype(np.float32)  # in which what float64 clips is within 1
        refuse_actions(act, self.spec)
        return act

    def _complete(self, obs: Floats, seen: Bools, avail: Bools | None, first: Bools) -> tuple[Floats, Bools | None]:
        self._remember(obs, seen, avail)
        blind: Bools = np.asarray(~seen.all(1))
        if not blind.any():
            return obs, avail
        said, said_avail = self._stand_in(obs, seen, blind)
        completed = np.where(seen[..., None], obs, said)
        if avail is None or self.true_availability:
            return completed, avail
        if said_avail is None:
            said_avail = self.agent.predicted_avail(self._memory, completed, first)
        return completed, np.where(seen[..., None], avail, True if said_avail is None else said_avail)

    def _stand_in(self, obs: Floats, seen: Bools, blind: Bools) -> tuple[Floats, Bools | None]:
        """For every agent (B, N, .): its observation and what it may do, where its own did not arrive."""
        if self.mode == "last_seen":
            return self._last_obs, self._last_avail
        said = np.zeros_like(obs)
        if self._completion is None:
            return said, None
        said_avail = None if self._last_avail is None else np.ones_like(self._last_avail)
        said[blind], avail = self._completion.present(blind)
        if said_avail is not None and avail is not None:
            said_avail[blind] = avail
        history = self._completion.history
        cost = exchange(seen, history.seen, history.rows, self.spec)
        self.messages, self.bytes = self.messages + cost.messages, self.bytes + cost.bytes
        return said, said_avail

    def _count_talk(self, first: Bools) -> None:
        """What was said on the way to this row; nothing leads to the first."""
        messages, size = self.agent.talk()
        self.messages, self.bytes = self.messages + messages * ~first, self.bytes + size * ~first

    def _remember(self, obs: Floats, seen: Bools, avail: Bools | None) -> None:
        self._last_obs = np.where(seen[..., None], obs, self._last_obs)
        if avail is not None and self._last_avail is not None:
            self._last_avail[seen] = avail[seen]

    def _forget(self, first: Bools) -> None:
        self.messages = np.where(first, 0, self.messages)
        self.bytes = np.where(first, 0, self.bytes)
        self._last_obs[first] = 0
        if self._last_avail is not None:
            self._last_avail[first] = True

    def _check(self, obs: Floats, seen: Bools, avail: Bools | None, first: Bools) -> None:
        n, b = self.spec.num_agents, self.num_envs
        for name, value, shape in (
            ("obs", obs, (b, n, self.spec.obs_dim)),
            ("seen", seen, (b, n)),
            ("first", first, (b,)),
            ("avail", avail, (b, n, self.spec.act_dim)),
        ):
            if value is None and (name != "avail" or self.spec.discrete):
                raise UserError(f"{self.spec.name} has discrete actions: pass avail of shape {shape}")
            if value is not None and value.shape != shape:
                raise UserError(f"{name}: got shape {value.shape}, expected {shape} for {b} teams of {self.spec.name}")
        for name, value in (("seen", seen), ("first", first), ("avail", avail)):
            if value is not None and value.dtype != bool:
                raise UserError(f"{name}: got dtype {value.dtype}, expected bool")
        broken = seen & ~(np.abs(obs) <= LARGEST).all(-1)  # NaN compares as false
        if broken.any():
            raise UserError(
                f"obs: got NaN or a value beyond {LARGEST:g} from {_first_of(broken)}, marked as seen; mark it lost in"
                " `seen` instead"
            )
        idle = np.zeros_like(seen) if avail is None else seen & ~avail.any(-1)
        if idle.any():
            raise UserError(f"avail: {_first_of(idle)} sees and can do nothing, expected one available action at least")


def _array(name: str, values: Any, dtype: Any = None) -> Any:
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused if it was seen
            return np.asarray(values, dtype)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: a tensor with a gradient
        raise UserError(f"{name}: got what is no array of numbers: {error}") from error


def _first_of(found: Bools) -> str:
    """The first of found (B, N), in words."""
    game, agent = np.argwhere(found)[0]
    return f"agent {agent} of game {game}"
