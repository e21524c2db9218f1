"""What can be had without looking: an open-loop policy made as strong as it cheaply gets, and uniform play."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from rmiov2.envs.base import Env
from rmiov2.evaluation.episodes import Columns, Tally, Team, performances, play, quotas, turns
from rmiov2.seeding import derive
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Ints

RECORDED_EPISODES = 256  # of full sight, from which the candidates are made
REPLAYED = 15  # best recorded action sequences that become candidates
VALIDATION_EPISODES = 64  # per candidate


class Blind:
    """A team that never looks: no messages, and everything may be possible unless it is told otherwise."""

    def __init__(self, spec: EnvSpec, num_envs: int) -> None:
        self.spec = spec
        self.messages = np.zeros(num_envs, dtype=np.int64)
        self.bytes = np.zeros(num_envs, dtype=np.int64)

    def _choose(self, scores: Floats, avail: Bools | None) -> Ints:
        """The highest of scores (B, N, A) among avail (B, N, A)."""
        allowed = scores if avail is None else np.where(avail, scores, -np.inf)
        return cast(Ints, np.argmax(allowed, axis=-1))


class Uniform(Blind):
    """Uniform over the actions it is told are available; continuous: uniform in [-1, 1]."""

    def __init__(self, spec: EnvSpec, num_envs: int, seed: int) -> None:
        super().__init__(spec, num_envs)
        self.rng = np.random.default_rng(derive(seed, "uniform"))

    def act(
        self, obs: Floats, seen: Bools | None = None, avail: Bools | None = None, first: Bools | None = None
    ) -> Actions:
        """(B, N) or (B, N, A): the highest of equally distributed scores is a uniform choice."""
        scores = self.rng.uniform(-1, 1, size=(len(obs), self.spec.num_agents, self.spec.act_dim)).astype(np.float32)
        return self._choose(scores, avail) if self.spec.discrete else scores


class OpenLoop(Blind):
    """Plays by the clock: row b follows tables[choice[b]] (K, T, N, A), and holds the last entry beyond T.

    Discrete entries are preferences, of which the highest is played; continuous ones are the actions. With
    true_availability, the leaking variant, it takes the highest preference that is available.
    """

    def __init__(self, spec: EnvSpec, tables: Floats, choice: Ints, true_availability: bool = False) -> None:
        super().__init__(spec, len(choice))
        self.tables, self.choice, self.true_availability = tables, choice, true_availability
        self.clock = np.zeros_like(choice)

    def act(
        self, obs: Floats, seen: Bools | None = None, avail: Bools | None = None, first: Bools | None = None
    ) -> Actions:
        """(B, N) or (B, N, A); reads nothing but `first` and, if true_availability, avail."""
        if first is not None:
            self.clock = np.where(first, 0, self.clock)
        entries = self.tables[self.choice, np.minimum(self.clock, self.tables.shape[1] - 1)]
        self.clock = self.clock + 1
        return self._choose(entries, avail if self.true_availability else None) if self.spec.discrete else entries


@dataclass(frozen=True)
class Game:
    """What was played in one episode: act (L, N) or (L, N, A), its return, and whether it was won."""

    act: Actions
    total: float
    won: bool


def candidates_of(env: Env, team: Team, episodes: int, seed: int) -> Floats:
    """(up to 1 + REPLAYED, T, N, A) open-loop candidates read off `team` with full sight, on seeds of their own.

    They are the usual action of every agent at every time step and the best recorded sequences; see candidates.
    """
    games = record_games(env, team, min(episodes, RECORDED_EPISODES), derive(seed, "open_loop/record"))
    return candidates(games, env.spec)


def fit_open_loop(env: Env, tables: Floats, episodes: int, seed: int, true_availability: bool = False) -> OpenLoop:
    """The candidate that is best on validation games, which neither made the candidates nor are reported."""
    validation, each = derive(seed, "open_loop/validate"), min(episodes, VALIDATION_EPISODES)
    scores = validate(env, tables, each, validation, true_availability)
    best = tables[int(np.argmax(scores))][None]
    return OpenLoop(env.spec, best, np.zeros(env.num_envs, dtype=np.int64), true_availability)


def record_games(env: Env, team: Team, episodes: int, seed: int) -> list[Game]:
    """Play `episodes` episodes with full sight, an even share in every row, and keep the actions."""
    one_group = np.zeros(env.num_envs, dtype=np.int64)
    tally = Tally(one_group, quotas(one_group, episodes))
    played: list[Actions] = []
    games = []
    for turn in turns(env, team, derive(seed, "env")):
        played.append(turn.act)
        for row in np.flatnonzero(tally.add(turn.after, team)):
            length = tally.lengths[row]
            act = np.stack([step[row] for step in played[-length:]])
            games.append(Game(act, float(tally.returns[row]), bool(turn.after.won[row])))
        if tally.finished == tally.wanted:
            break
    return games


def candidates(games: list[Game], spec: EnvSpec) -> Floats:
    """(up to 1 + REPLAYED, T, N, A) tables for OpenLoop: the usual actions of good games, then the best as played."""
    by_return = sorted(games, key=lambda game: -game.total)
    good = [game for game in games if game.won] or by_return[: -(-len(games) // 2)]
    longest = max(len(game.act) for game in games)
    usual = _usual(good, spec, longest)
    replays = [_replay(game, usual, spec) for game in by_return[:REPLAYED]]
    return np.stack([usual, *replays]).astype(np.float32)


def _usual(games: list[Game], spec: EnvSpec, longest: int) -> Floats:
    """(T, N, A) share of each action (continuous: mean action) over the games that lasted so long, then held."""
    total = np.zeros((longest, spec.num_agents, spec.act_dim), dtype=np.float32)
    count = np.zeros((longest, 1, 1), dtype=np.float32)
    for game in games:
        total[: len(game.act)] += _as_vectors(game.act, spec)
        count[: len(game.act)] += 1
    last = int(np.flatnonzero(count)[-1])
    usual = total[: last + 1] / count[: last + 1]
    return np.concatenate([usual, np.repeat(usual[-1:], longest - last - 1, axis=0)])


def _replay(game: Game, usual: Floats, spec: EnvSpec) -> Floats:
    """The game as played; where it cannot be (unavailable, or over), the usual action."""
    table = usual.copy()
    vectors = _as_vectors(game.act, spec)
    table[: len(vectors)] = vectors + 0.5 * table[: len(vectors)] if spec.discrete else vectors
    return table


def _as_vectors(act: Actions, spec: EnvSpec) -> Floats:
    """(L, N, A): one-hot where actions are discrete."""
    if spec.discrete:
        return np.eye(spec.act_dim, dtype=np.float32)[act]
    return act.astype(np.float32)


def validate(env: Env, tables: Floats, episodes: int, seed: int, true_availability: bool) -> Floats:
    """(K,) the performance of each candidate over `episodes` games; as many play side by side as there are rows."""
    scores = []
    for start in range(0, len(tables), env.num_envs):
        some = tables[start : start + env.num_envs]
        choice = np.arange(env.num_envs) % len(some)
        team = OpenLoop(env.spec, some, choice, true_availability)
        columns = play(
            env, team, "independent", 0.0, episodes, derive(seed, start), groups=choice,
            true_availability=true_availability,
        )  # fmt: skip
        values = performances(columns, env.spec.measure)
        scores += [values[columns["group"] == group].mean() for group in range(len(some))]
    return np.asarray(scores, dtype=np.float32)


def random_performance(env: Env, episodes: int, seed: int) -> float:
    """Mean performance of uniform play over the available actions."""
    return float(performances(play_random(env, episodes, seed), env.spec.measure).mean())


def play_random(env: Env, episodes: int, seed: int) -> Columns:
    """The episodes of uniform play: it is told what is available, and nothing is ever lost."""
    return play(env, Uniform(env.spec, env.num_envs, seed), "independent", 0.0, episodes, seed)
