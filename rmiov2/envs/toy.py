"""Small games with a known optimum, in which a lost observation costs; all rows are stepped at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from rmiov2.envs.base import Adapter, Env, refuse_unknown
from rmiov2.types import Actions, Bools, EnvSpec, Ints, Step

Array = npt.NDArray[Any]  # numbers, made float32 when they leave


class Toy(Adapter):
    """A game that a secret, drawn once per episode, and the step number t determine entirely."""

    def _begin(self, seed: int) -> Step:
        self._rng = np.random.default_rng(seed)
        self._secret = self._draw()  # (B,)
        self._t = np.zeros(self.num_envs, np.int64)
        self._return = np.zeros(self.num_envs)
        self._act: Actions = np.zeros((self.num_envs, self.spec.num_agents), np.int64)
        return self._row(np.zeros(self.num_envs), np.ones(self.num_envs, bool))

    def _play(self, act: Actions, restart: Bools) -> Step:
        rew = np.where(restart, 0.0, self._reward(act))
        self._act = act
        # A secret is drawn for every row at every step, so that one row's games do not depend on when the others end.
        self._secret = np.where(restart, self._draw(), self._secret)
        self._t = np.where(restart, 0, self._t + 1)
        self._return = np.where(restart, 0.0, self._return + rew)
        return self._row(rew, restart)

    def _row(self, rew: Array, first: Bools) -> Step:
        terminated, truncated = self._ended()
        return Step(
            obs=self._obs(first).astype(np.float32),
            seen=np.ones((self.num_envs, self.spec.num_agents), bool),
            avail=self._avail() if self.spec.discrete else None,
            state=self._state().astype(np.float32),
            rew=rew.astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            won=self._won() & (terminated | truncated),
            first=first.copy(),
        )

    def _won(self) -> Bools:
        return np.zeros(self.num_envs, bool)

    def _ended(self) -> tuple[Bools, Bools]:
        """Terminated, truncated (B,)."""
        over = self._t >= self.spec.episode_limit
        return over, np.zeros_like(over)

    @abstractmethod
    def _draw(self) -> Array:
        """New secrets, (B,)."""

    @abstractmethod
    def _obs(self, first: Bools) -> Array:
        """What the agents see now, (B, N, O)."""

    @abstractmethod
    def _avail(self) -> Bools:
        """What they may do now, (B, N, A)."""

    @abstractmethod
    def _state(self) -> Array:
        """(B, S)."""

    @abstractmethod
    def _reward(self, act: Actions) -> Array:
        """What act (B, N) or (B, N, A) earns now, (B,)."""


def own_slots(values: Array) -> Array:
    """Give each agent a slot of its own: (B, N, W) to (B, N, N*W), zero outside the agent's W columns."""
    agents, width = values.shape[1:]
    slots = np.eye(agents)[:, :, None] * values[:, :, None, :]  # (B, N, N, W)
    return slots.reshape(len(values), agents, agents * width)


class Lights(Toy):
    """Answer a light that moves on: agent i sees light (c + t + i) mod 5 in its own slot, answers 2*light + 1 mod 5.

    c is drawn once per episode, so one agent's observation at one step determines every agent's at every other. The
    answer after the right one is not available; action 5 waits. The reward is the share of right answers; 12 steps,
    then the game ends (terminated). Best return 12, random play 2.4; won: every answer of the episode was right.
    """

    lights, agents, limit = 5, 3, 12

    def __init__(self, num_envs: int, seed: int) -> None:
        n, width = self.agents, self.agents * self.lights
        super().__init__(
            EnvSpec(
                name="toy/lights", num_agents=n, obs_dim=width, obs_widths=(width,) * n, act_dim=self.lights + 1,
                act_widths=(self.lights + 1,) * n, discrete=True, state_dim=self.lights + 1, episode_limit=self.limit,
                measure="win_rate", idle_actions=(self.lights,),
            ),
            num_envs, seed,
        )  # fmt: skip

    def _draw(self) -> Ints:
        return self._rng.integers(self.lights, size=self.num_envs)

    def _light(self) -> Ints:
        """(B, N)."""
        light: Ints = ((self._secret + self._t)[:, None] + np.arange(self.agents)) % self.lights
        return light

    def answers(self) -> Ints:
        """The right actions now, (B, N)."""
        return (2 * self._light() + 1) % self.lights

    def _obs(self, first: Bools) -> Array:
        return own_slots(np.eye(self.lights)[self._light()])

    def _avail(self) -> Bools:
        forbidden = (self.answers() + 1) % self.lights
        avail: Bools = np.arange(self.spec.act_dim) != forbidden[..., None]
        return avail

    def _state(self) -> Array:
        return np.column_stack([np.eye(self.lights)[self._light()[:, 0]], self._t / self.limit])

    def _reward(self, act: Actions) -> Array:
        right: Array = np.mean(act == self.answers(), axis=1)
        return right

    def _won(self) -> Bools:
        won: Bools = self._return > self.limit - 0.5 / self.agents
        return won


class Dials(Toy):
    """The continuous twin of Lights: agent i sees sin and cos of its angle in its own slot, and sets dials to them.

    The angle is phase + 0.7 t + 2 pi i / 3, the phase drawn once per episode. Every agent has a dial for the sine, the
    last one a second for the cosine. The reward is 1 - mean squared distance over the dials; 12 steps, then time is up
    (truncated). Best reward a step 1; all dials at zero 0.5; uniformly random 1/6.
    """

    agents, limit, speed = 3, 12, 0.7
    has_dial = np.array([[True, False], [True, False], [True, True]])

    def __init__(self, num_envs: int, seed: int) -> None:
        super().__init__(
            EnvSpec(
                name="toy/dials", num_agents=self.agents, obs_dim=6, obs_widths=(2, 4, 6), act_dim=2,
                act_widths=(1, 1, 2), discrete=False, state_dim=3, episode_limit=self.limit, measure="step_return",
            ),
            num_envs, seed,
        )  # fmt: skip

    def _draw(self) -> Array:
        return self._rng.uniform(0, 2 * np.pi, self.num_envs)

    def targets(self) -> Array:
        """Sine and cosine of every agent's angle now, (B, N, 2): the right actions, where there is a dial."""
        phase = (self._secret + self.speed * self._t)[:, None] + 2 * np.pi * np.arange(self.agents) / self.agents
        return np.stack([np.sin(phase), np.cos(phase)], axis=-1)

    def _obs(self, first: Bools) -> Array:
        return own_slots(self.targets())

    def _avail(self) -> Bools:
        raise NotImplementedError("dials have no discrete actions")

    def _state(self) -> Array:
        return np.column_stack([self.targets()[:, 0], self._t / self.limit])

    def _reward(self, act: Actions) -> Array:
        squares: Array = (act - self.targets()) ** 2
        loss: Array = squares[:, self.has_dial].mean(axis=1)
        return 1 - loss

    def _ended(self) -> tuple[Bools, Bools]:
        over = self._t >= self.spec.episode_limit
        return np.zeros_like(over), over


class Clock(Toy):
    """Step t earns (t + 1) / 8, whatever is done, and the observations name their row: made for tests of alignment.

    Observation: one-hot of the row 0..7, one-hot of the action that led here (zero in a first row), the game's number
    (b + 1) / B. Length 3 to 7, drawn once per episode; even lengths terminate, odd ones are truncated. Nothing is won.
    """

    agents, rows, actions = 2, 8, 2

    def __init__(self, num_envs: int, seed: int) -> None:
        n, width = self.agents, self.rows + self.actions + 1
        super().__init__(
            EnvSpec(
                name="toy/clock", num_agents=n, obs_dim=width, obs_widths=(width,) * n, act_dim=self.actions,
                act_widths=(self.actions,) * n, discrete=True, state_dim=2, episode_limit=self.rows - 1,
                measure="step_return", idle_actions=(0,),
            ),
            num_envs, seed,
        )  # fmt: skip

    def _draw(self) -> Ints:
        return self._rng.integers(3, self.rows, size=self.num_envs)

    def _obs(self, first: Bools) -> Array:
        shape = (self.num_envs, self.agents)
        row = np.broadcast_to(np.eye(self.rows)[self._t][:, None], (*shape, self.rows))
        act = np.eye(self.actions)[self._act] * ~first[:, None, None]
        game = np.broadcast_to(((np.arange(self.num_envs) + 1) / self.num_envs)[:, None, None], (*shape, 1))
        return np.concatenate([row, act, game], axis=-1)

    def _avail(self) -> Bools:
        return np.ones((self.num_envs, self.agents, self.actions), bool)

    def _state(self) -> Array:
        return np.column_stack([self._t, self._secret]) / self.rows

    def _reward(self, act: Actions) -> Array:
        return (self._t + 1) / self.rows

    def _ended(self) -> tuple[Bools, Bools]:
        over = self._t >= self._secret
        even = self._secret % 2 == 0
        return over & even, over & ~even


GAMES: dict[str, Callable[[int, int], Env]] = {"lights": Lights, "dials": Dials, "clock": Clock}


def make(game: str, num_envs: int, seed: int = 0) -> Env:
    """toy/GAME; raises UserError for a game that is not there."""
    refuse_unknown("toy game", game, GAMES)
    return GAMES[game](num_envs, seed)
