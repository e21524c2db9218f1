"""What the world model made of an episode: at whom each agent looked, and how sure it was of what it said."""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from rmiov2.config import Config
from rmiov2.envs.base import blank
from rmiov2.execution.completion import Unrolled
from rmiov2.execution.history import History
from rmiov2.networks import FusionLayer
from rmiov2.types import Actions, Bools, EnvSpec, Floats
from rmiov2.world_model.rollout import observe
from rmiov2.world_model.rssm import WorldModel


@runtime_checkable
class Modelled(Protocol):
    """An agent with a world model that completes what is lost."""

    model: WorldModel
    config: Config
    spec: EnvSpec

    def unroll(self, obs: Tensor, seen: Tensor, act: Tensor, h: Tensor) -> Unrolled:
        """See rmiov2.execution.completion.Unroll."""


class Insight:
    """Of one episode of L rows: obs (L, N, O), seen (L, N), act (L, N) or (L, N, A) as the team chose them.

    Every row is looked at as completion does when it is the present, over the window that ends there; also where all
    saw, and completion would not have asked.
    """

    def __init__(self, agent: Modelled, obs: Floats, seen: Bools, act: Actions) -> None:
        self.agent, self.model = agent, agent.model
        self.windows = windows(agent.spec, agent.config.execution.history, obs, seen, act)

    @torch.no_grad()
    def attention(self) -> Floats | None:
        """(L, N, N) weights, rows sum to one: how much of i's new token is j's, in the first layer of the observation
        fusion, eq. (5), mean over its heads; None without such a fusion."""
        layers = [part for part in self.model.observation_fusion.modules() if isinstance(part, FusionLayer)]
        if not layers:
            return None
        maps: list[Tensor] = []

        def note(layer: FusionLayer, inputs: tuple[Tensor], output: Tensor) -> None:
            maps.append(layer.attention(inputs[0])[0].mean(1))

        hook = layers[0].register_forward_hook(cast(Any, note))
        try:
            self.agent.unroll(*self._tensors())
        finally:
            hook.remove()
        return self._present(torch.stack(maps, 1)).cpu().numpy()

    @torch.no_grad()
    def samples(self, count: int, seed: int) -> Floats | None:
        """(count, L, N, O) observations with z drawn from the semi-posterior instead of its mode, all along the window;
        None for a method that says observations by other means than M's decoder."""
        tensors = self._tensors()
        if self.agent.unroll(*(part[:1] for part in tensors)).obs is not None:
            return None
        generator = torch.Generator(self.model.obs_mean.device).manual_seed(seed)
        drawn = []
        for _ in range(count):
            features = self._present(observe(self.model, *tensors, generator).features)
            drawn.append(self.model.denormalise(self.model.predict.obs(features)) * self.model.width_mask)
        return torch.stack(drawn).cpu().numpy()

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        kept, device = self.windows, self.model.obs_mean.device
        obs, seen, act, start = (
            torch.from_numpy(part).to(device) for part in (kept.obs, kept.seen, kept.act, kept.start)
        )
        return self.model.normalise(obs), seen.float(), act, self.model.initial(start.float())

    def _present(self, along: Tensor) -> Tensor:
        """(L, ...) at each window's present, of along (L, rows, ...)."""
        rows = torch.from_numpy(self.windows.rows - 1).to(along.device)
        return along[torch.arange(len(rows), device=along.device), rows]


def windows(spec: EnvSpec, steps: int, obs: Floats, seen: Bools, act: Actions) -> History:
    """The window of `steps` steps that ends at each of L rows, as L teams; what was not seen is blanked."""
    team, kept = History.empty(spec, 1, steps), History.empty(spec, len(obs), steps)
    blanked = blank(obs, seen)
    for present in range(len(obs)):
        team.saw(blanked[[present]], seen[[present]], np.array([present == 0]))
        for part, value in vars(team).items():
            getattr(kept, part)[present] = value[0]
        team.did(act[[present]])
    return kept
