"""An environment around another, whose steps it changes on their way to the players."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

from rmiov2.envs.base import Env
from rmiov2.types import Actions, Step

Inside = TypeVar("Inside", bound=Env)


class Wrapper(Env, Generic[Inside]):
    """Hands on all that an Env says of itself; what a wrapper is for stands in shown, and in begun and played."""

    def __init__(self, env: Inside) -> None:
        self.env, self.spec, self.num_envs = env, env.spec, env.num_envs
        self.facts, self.breakable = env.facts, env.breakable

    @property
    def lost_episodes(self) -> int:  # type: ignore[override]  # the count is kept where the games are
        return self.env.lost_episodes

    def reset(self, seed: int | None = None) -> Step:
        """Start a new episode in every row; see Env.reset."""
        self.begun(seed)
        return self.shown(self.env.reset(seed))

    def restart(self, seed: int) -> Step:
        """Start a new episode in every row; see Env.restart."""
        self.begun(seed)
        return self.shown(self.env.restart(seed))

    def step(self, act: Actions) -> Step:
        """Play act, or what becomes of it; see Env.step."""
        return self.shown(self.env.step(self.played(act)))

    def close(self) -> None:
        """Close the environment inside."""
        self.env.close()

    def begun(self, seed: int | None) -> None:
        """Before new episodes begin in every row; seed as it was given to reset or restart."""

    def played(self, act: Actions) -> Actions:
        """What becomes of act."""
        return act

    @abstractmethod
    def shown(self, step: Step) -> Step:
        """What becomes of the step, called once for each."""
