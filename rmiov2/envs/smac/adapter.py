"""smac/MAP as an Env: every row a game in a process of its own, all of them asked at once, then all answered."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from rmiov2.envs.base import Adapter, refuse_not_finite
from rmiov2.envs.smac.battle import NO_OP, STOP, row_type
from rmiov2.envs.smac.game import Game
from rmiov2.envs.smac.process import Program
from rmiov2.seeding import derive
from rmiov2.types import Actions, Bools, EnvSpec, Step

SOURCE = "rmiov2.envs.smac.starcraft:StarCraft"
PATIENCE = 60  # seconds for an answer, or to listen at all; pysc2's own are 360


class Smac(Adapter):
    """num_envs battles of SMAC; observations, state, availability and reward are StarCraft2Env's own.

    A dead agent sees zeros and has only the no-op, which no living one has. Time running out is a truncation. A battle
    whose game broke, hung or was killed is lost (Step.lost): its process is killed and another begins with the next
    battle. `reset` launches every game anew with a seed of its own, since a running game cannot be told its dice;
    `restart` does not, and begins another battle instead. Games are launched by the first of either.

    source: what makes a StarCraft2Env, module:Class, see battle.Source; patience: seconds that a game may be silent.
    Raises UserError for an unknown map, for whatever of smac, pysc2, the game and its maps is missing, and when a game
    breaks too often; says on standard error if its build is not the usual one.
    """

    breakable = True

    def __init__(
        self, map_name: str, num_envs: int, seed: int = 0, source: str = SOURCE, patience: int = PATIENCE
    ) -> None:
        program = Program(source, map_name, patience)
        self._games = [Game(program) for _ in range(max(num_envs, 1))]
        try:
            about = self._games[0].about()
            super().__init__(_describe(map_name, about["info"]), num_envs, seed)
        except BaseException:
            self.close()
            raise
        self.facts = about["facts"]
        if about["note"]:
            print(f"{self.spec.name}: {about['note']}", file=sys.stderr)
        self._type = row_type(about["info"])
        for game in self._games:
            game.expect(self._type)

    def restart(self, seed: int) -> Step:
        """Begin another battle in every row, and launch no game that runs; at first as reset."""
        if self._last is None:
            return self.reset(seed)
        anew = np.ones(self.num_envs, bool)
        act = np.zeros((self.num_envs, self.spec.num_agents), np.int64)
        self._last = refuse_not_finite(self._play(act, anew), self.spec)
        return self._last

    def _begin(self, seed: int) -> Step:
        return self._asked(lambda b, game: game.begin(derive(seed, b)), np.ones(self.num_envs, bool))

    def _play(self, act: Actions, restart: Bools) -> Step:
        def ask(b: int, game: Game) -> None:
            if restart[b]:
                game.next()
            else:
                game.play(act[b])

        return self._asked(ask, restart.copy())

    def _asked(self, ask: Callable[[int, Game], None], first: Bools) -> Step:
        rows = np.zeros(self.num_envs, self._type)
        rows["lost"], rows["avail"][..., NO_OP] = True, True  # until there is an answer
        try:
            for b, game in enumerate(self._games):
                ask(b, game)
            for b, game in enumerate(self._games):
                answer = game.answer()
                if answer is not None:
                    rows[b] = answer
        except BaseException:  # an answer that nobody fetched would be taken for the next one's
            self.close()
            raise
        names: Any = self._type.names
        fields = {name: np.ascontiguousarray(rows[name]) for name in names}
        return Step(seen=np.ones((self.num_envs, self.spec.num_agents), bool), first=first, **fields)

    def close(self) -> None:
        """End every game and its process; a reset begins anew."""
        self._last = None
        for game in self._games:
            game.close()


def _describe(map_name: str, info: dict[str, Any]) -> EnvSpec:
    n, width, actions = info["n_agents"], info["obs_shape"], info["n_actions"]
    return EnvSpec(
        name=f"smac/{map_name}", num_agents=n, obs_dim=width, obs_widths=(width,) * n, act_dim=actions,
        act_widths=(actions,) * n, discrete=True, state_dim=info["state_shape"], episode_limit=info["episode_limit"],
        measure="win_rate", idle_actions=(NO_OP, STOP),
    )  # fmt: skip
