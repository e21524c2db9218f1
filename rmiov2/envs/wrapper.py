"""An environment around another, whose steps it changes on their way to the players."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from rmiov2.envs.base import Env
from rmiov2.types import Actions, Step

Inside = TypeVar("Inside", bound=Env)


class Wrapper(Env, Generic[Inside]):
    """Hands on all that an Env says of itself; what an heir is for stands in _shown, and in _before and _played."""

    def __init__(self, env: Inside) -> None:
        self.env, self.spec, self.num_envs = env, env.spec, env.num_envs
        self.breakable = env.breakable

    # Both are kept where the games are.

    @property
    def facts(self) -> Mapping[str, Any]:  # type: ignore[override]
        return self.env.facts

    @property
    def lost_episodes(self) -> int:  # type: ignore[override]
        return self.env.lost_episodes

    def reset(self, seed: int | None = None) -> Step:
        """Start a new episode in every row; see Env.reset."""
        self._before(seed)
        return self._shown(self.env.reset(seed))

    def restart(self, seed: int) -> Step:
        """Start a new episode in every row; see Env.restart."""
        self._before(seed)
        return self._shown(self.env.restart(seed))

    def step(self, act: Actions) -> Step:
        """Play act, or what becomes of it; see Env.step."""
        return self._shown(self.env.step(self._played(act)))

    def close(self) -> None:
        """Close the environment inside."""
        self.env.close()

    def _before(self, seed: int | None) -> None:
        """Prepare for new episodes in every row; seed as it was given to reset or restart."""

    def _played(self, act: Actions) -> Actions:
        """What is played in place of act, (B, N) or (B, N, A)."""
        return act

    @abstractmethod
    def _shown(self, step: Step) -> Step:
        """What the players are shown of a step; called once for each."""
