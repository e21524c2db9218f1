"""The contract of every method: four verbs, and declared capabilities that are checked before anything is built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from rmiov2.config import Config, Section
from rmiov2.execution.completion import Completion
from rmiov2.execution.history import History
from rmiov2.execution.team import Team
from rmiov2.seeding import Generators
from rmiov2.types import Actions, Batch, Bools, EnvSpec, Floats, Sampler, UserError

Metrics = dict[str, float]
Mask = Callable[[int, int], Bools]  # (B, T) to seen (B, T, N)


@dataclass(frozen=True)
class Capabilities:
    """What a method can be given."""

    discrete: bool
    continuous: bool
    on_policy: bool  # learns only from what its present policy collected
    reconstructs: bool  # can say what a blind agent would have seen
    model_free: bool = False  # has no world model, so there is none to fine-tune
    gpu: bool = False  # its updates run on a GPU too
    talks: bool = False  # its agents tell each other something at every step, whoever sees


class Agent(ABC):
    """One method. `memory` is whatever `start` returned, opaque to the caller, one row per team."""

    Settings: ClassVar[type[Section]] = Section  # what agent.settings of a method outside this package may hold
    capabilities: Capabilities
    config: Config
    spec: EnvSpec
    env_steps = 0  # that it has learned from; exploration that fades reads it
    updates = 0  # gradient updates, of the world model or of whatever stands in its place
    counters: tuple[str, ...] = ("updates",)  # attributes, whole numbers, that are saved beside the parts

    @abstractmethod
    def __init__(self, config: Config, spec: EnvSpec, seed: int) -> None: ...

    @abstractmethod
    def start(self, num_envs: int) -> Any:
        """An empty memory for num_envs teams."""

    @abstractmethod
    def act(
        self, memory: Any, obs: Floats, avail: Bools | None, first: Bools, rng: np.random.Generator, greedy: bool
    ) -> tuple[Actions, Any]:
        """Choose for every agent of every team; rows with `first` begin with an empty memory."""

    def did(self, memory: Any, act: Actions) -> Any:
        """The memory of a team that did act, (B, N) or (B, N, A), whatever it would have chosen."""
        return memory

    @abstractmethod
    def update(
        self,
        replay: Sampler,
        rngs: Generators,
        model_updates: int,
        policy_rounds: int,
        mask: Mask | None = None,
        scale: float = 1.0,
    ) -> Metrics:
        """Learn from the replay: so many world-model updates, then so many policy rounds (Algorithm 1).

        Without a world model: so many updates of Q and actor. On-policy: so many rounds on all that the replay holds.
        scale multiplies learning rates and entropy. With a mask (Algorithm 2), what it hides is blanked in the input.
        """

    def reconstruction_error(self, batch: Batch, seen: Bools) -> float:
        """L_rec on the agents that seen (B, T, N) hides; only of methods that reconstruct."""
        raise UserError(f"{type(self).__name__} does not reconstruct observations")

    def completion(self, history: History) -> Completion:
        """What says what blind agents of these teams would see and could do; only of methods that reconstruct."""
        raise UserError(f"{type(self).__name__} does not reconstruct observations")

    def predicted_avail(self, memory: Any, obs: Floats, first: Bools) -> Bools | None:
        """What the agents may do at this row, (B, N, A), as the method itself has it of what act would be given.

        None where actions are continuous or the method learns nothing of the kind.
        """
        return None

    def talk(self) -> tuple[int, int]:
        """Messages and bytes of a team between one step and the next; of methods that talk."""
        return 0, 0

    @property
    def own_mode(self) -> str:
        """Its own answer to a lost observation: the mode of its teams, and the headline of its evaluation."""
        return "completion" if self.capabilities.reconstructs and self.config.execution.completion else "zeros"

    def team(
        self,
        num_envs: int,
        seed: int,
        mode: str | None = None,
        true_availability: bool = False,
        greedy: bool = True,
    ) -> Team:
        """num_envs teams that act under observation loss; mode None: the agent's own; seed: of what is drawn."""
        mode = self.own_mode if mode is None else mode
        if mode == "completion" and not self.capabilities.reconstructs:
            raise UserError(f"{type(self).__name__} cannot reconstruct observations; choose mode zeros or last_seen")
        return Team(self, num_envs, seed, mode, true_availability, greedy)

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """By name, everything that learning changes and that has a state_dict: networks, optimisers, normalisers."""

    def state_dict(self) -> dict[str, Any]:
        """The state of every part, and the counters."""
        states = {name: part.state_dict() for name, part in self.parts().items()}
        return states | {name: getattr(self, name) for name in self.counters}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what state_dict gave; raises UserError where a name or a shape differs."""
        load_parts(self.parts(), state)
        for name in self.counters:
            setattr(self, name, int(state[name]))


def refuse_mismatch(name: str, capabilities: Capabilities, spec: EnvSpec) -> None:
    """Raise UserError if the method cannot play this environment."""
    if spec.discrete and not capabilities.discrete:
        raise UserError(
            f"{name} plays continuous actions only, {spec.name} has discrete ones; choose another agent or env"
        )
    if not spec.discrete and not capabilities.continuous:
        raise UserError(
            f"{name} plays discrete actions only, {spec.name} has continuous ones; choose another agent or env"
        )


def refuse_device(name: str, capabilities: Capabilities, device: str, precision: str) -> None:
    """Raise UserError if the method learns on the CPU alone and another device is asked for, or what only a GPU has."""
    if device != "cpu" and not capabilities.gpu:
        raise UserError(f"device: got {device}, but {name} learns on the CPU alone; set device=cpu")
    if device == "cpu" and precision != "float32":
        raise UserError(f"precision: got {precision} with device=cpu, which has float32 alone; leave precision out")


def load_parts(parts: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Give every module and optimiser its state; raises UserError where a part or a shape differs."""
    for name, part in parts.items():
        if name not in state:
            raise UserError(f"the checkpoint holds no {name}; it was written by another agent or version")
        if isinstance(part, nn.Module):
            refuse_other_shapes(name, part.state_dict(), state[name])
        part.load_state_dict(state[name])


def refuse_other_shapes(name: str, mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Raise UserError for the first tensor that is missing or has another shape."""
    for key in sorted(mine.keys() | theirs.keys()):
        got = tuple(theirs[key].shape) if key in theirs else "nothing"
        expected = tuple(mine[key].shape) if key in mine else "nothing"
        if got != expected:
            raise UserError(
                f"checkpoint does not fit: {name}.{key} is {got}, these settings make it {expected};"
                " use the settings the checkpoint was trained with"
            )
