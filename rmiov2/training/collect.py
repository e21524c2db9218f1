"""Playing the real environment: sweeps, in which every row plays one episode from a fresh reset.

A sweep leaves nothing inside the environment, so a run can be saved between two sweeps and go on exactly there, on
simulators that cannot be saved too. All rows' episodes are kept whole: none is dropped for being long. A rollout, what
on-policy methods learn from, begins afresh as well, and plays on in every row until its steps are over.

An episode that got lost, because its game broke, is never handed out: a sweep plays another in its row, and where that
can happen nothing is learned from an episode before it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from rmiov2.envs.base import Env
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Step, Trajectory, UserError

Policy = Callable[[Step], Actions]


def random_policy(spec: EnvSpec, rng: np.random.Generator) -> Policy:
    """Uniform over the available actions, or over [-1, 1]."""

    def choose(step: Step) -> Actions:
        if step.avail is None:
            return rng.uniform(-1, 1, (len(step.obs), spec.num_agents, spec.act_dim)).astype(np.float32)
        return np.asarray((rng.random(step.avail.shape) * step.avail).argmax(-1))

    return choose


@dataclass
class Played:
    """What a sweep and a rollout have in common: their numbers, once pieces() is through."""

    env: Env
    policy: Policy
    seed: int
    segment: int
    rewards: list[Floats] = field(default_factory=list)
    playing: list[Bools] = field(default_factory=list)
    lost: int = 0  # episodes

    def steps(self) -> int:
        """Environment steps played, idle rows not counted."""
        return int(np.stack(self.playing).sum())

    def returns_to_go(self, gamma: float) -> float:
        """The mean discounted return from every state played to its episode's end."""
        rew, playing = np.stack(self.rewards), np.stack(self.playing)
        to_go, total = np.zeros(rew.shape[1]), 0.0
        for k in reversed(range(len(rew))):
            to_go = np.where(playing[k], rew[k] + gamma * to_go, 0.0)
            total += float(to_go.sum())
        return total / int(playing.sum())


@dataclass
class Sweep(Played):
    """One episode in every row of env; iterate over pieces(), then read what was played."""

    won: Bools = field(init=False)

    def pieces(self) -> Iterator[list[Trajectory]]:
        """Trajectories, each time `segment` steps have passed or all episodes have ended."""
        step = self.env.restart(self.seed)
        self.won = np.zeros(self.env.num_envs, bool)
        playing, begins = np.ones(self.env.num_envs, bool), True
        while playing.any():
            rows: list[Step] = [step]
            acts: list[Actions] = []
            alive: list[Bools] = []
            broke: list[Bools] = [np.zeros_like(playing)]
            while playing.any() and (len(acts) < self.segment or self.env.breakable):
                alive.append(playing)
                acts.append(self.policy(step))
                step = self.env.step(acts[-1])
                rows.append(step)
                self.rewards.append(step.rew)
                self.won |= step.won & playing
                broke.append(step.lost & playing)
                playing = playing & (~step.done | step.lost)
            counted = np.stack(alive) & ~broken_off(np.stack(broke))
            self.playing += list(counted)
            self.lost += int(np.stack(broke).sum())
            for offset in range(0, int(counted.sum(0).max()), self.segment):
                spans = [span for b in range(len(playing)) for span in _part(b, counted[:, b], offset, self.segment)]
                yield cut(rows, acts, spans, begins)
                begins = False

    def episode_returns(self) -> Floats:
        """(B,) undiscounted."""
        return (np.stack(self.rewards) * np.stack(self.playing)).sum(0)  # type: ignore[no-any-return]


@dataclass
class Rollout(Played):
    """segment steps in every row, a new episode wherever one ends; the last of each row is cut short."""

    ended: list[Trajectory] = field(default_factory=list)

    def pieces(self) -> Iterator[list[Trajectory]]:
        """All trajectories at once; each begins an episode. Raises UserError if every one of them got lost."""
        rows: list[Step] = [self.env.restart(self.seed)]
        acts: list[Actions] = []
        for _ in range(self.segment):
            acts.append(self.policy(rows[-1]))
            rows.append(self.env.step(acts[-1]))
        self.rewards = [row.rew for row in rows[1:]]
        done, lost = np.stack([row.done for row in rows]), np.stack([row.lost for row in rows])
        every = [(b, *span) for b in range(self.env.num_envs) for span in episodes_in(done[:, b])]
        spans = [(b, begin, end) for b, begin, end in every if not lost[end, b]]
        self.lost = len(every) - len(spans)
        if not spans:
            raise UserError(
                f"{self.env.spec.name}: all {len(every)} episodes of a rollout got lost, as their games broke; see what"
                " ails the games, or play longer rollouts (pretrain.segment)"
            )
        playing = np.zeros_like(done[1:])
        for b, begin, end in spans:
            playing[begin:end, b] = True
        self.playing = list(playing)
        pieces = cut(rows, acts, spans, True)
        self.ended = [piece for piece, (b, _, end) in zip(pieces, spans, strict=True) if done[end, b]]
        yield pieces

    @property
    def won(self) -> Bools:
        """(episodes,) of those that ended."""
        return np.array([piece.won for piece in self.ended], bool)

    def episode_returns(self) -> Floats:
        """(episodes,) undiscounted, of those that ended."""
        return np.array([piece.rew.sum() for piece in self.ended], np.float32)


def episodes_in(done: Bools) -> Iterator[tuple[int, int]]:
    """First and last row of every episode of at least one step; done (L+1,), and after such a row a new one begins."""
    begin = 0
    for end in [*np.flatnonzero(done).tolist(), len(done) - 1]:
        if end > begin:
            yield begin, end
        begin = end + 1


def broken_off(broke: Bools) -> Bools:
    """(L, B) the steps up to the last row (L+1, B) in which a game broke, and the one that begins a new episode."""
    return np.asarray(np.logical_or.accumulate(broke[::-1])[::-1][:-1])


def _part(b: int, counted: Bools, offset: int, segment: int) -> Iterator[tuple[int, int, int]]:
    """(b, begin, end) of the next `segment` steps of row b's episode from its `offset`-th; nothing beyond its end."""
    begin = int(counted.argmax()) + offset
    end = min(begin + segment, int(counted.argmax() + counted.sum()))
    if begin < end:
        yield b, begin, end


def stacked(acts: list[Actions]) -> Actions:
    """(T, B, N) or (T, B, N, A)."""
    return cast(Actions, np.stack(acts))


def cut(rows: list[Step], acts: list[Actions], spans: list[tuple[int, int, int]], begins: bool) -> list[Trajectory]:
    """The trajectories that go in row b from row `begin` to row `end`, for spans of (b, begin, end)."""
    obs, state, act = np.stack([r.obs for r in rows]), np.stack([r.state for r in rows]), stacked(acts)
    avail = None if rows[0].avail is None else np.stack([r.avail for r in rows])  # type: ignore[misc]
    rew = np.stack([r.rew for r in rows[1:]])
    con = 1 - np.stack([r.terminated for r in rows[1:]]).astype(np.float32)
    won = np.stack([r.won for r in rows[1:]])
    return [
        Trajectory(
            obs[begin : end + 1, b],
            None if avail is None else avail[begin : end + 1, b],
            state[begin : end + 1, b],
            act[begin:end, b],
            rew[begin:end, b],
            con[begin:end, b],
            begins,
            bool(won[end - 1, b]),
        )
        for b, begin, end in spans
    ]
