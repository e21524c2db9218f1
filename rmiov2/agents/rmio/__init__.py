"""RMIO, arXiv 2411.19639: RMIOv2 without observation fusion, and with a correction block in place of masked training.

Lost observations are predicted by the world model's prior and corrected by what the other agents saw. The block is
trained alone, in the fine-tuning stage, with the world model and the policy as they are. What its text leaves open is
chosen in conf/agent/rmio.yaml and in correction.py, and said there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rmiov2.acceleration.captured import Inputs, forked
from rmiov2.agents.base import Mask
from rmiov2.agents.optimiser import Adam, Optimiser
from rmiov2.agents.rmio.correction import Correction, correction_loss, unroll
from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.agents.tensors import moved
from rmiov2.config import Config
from rmiov2.execution.completion import Unrolled
from rmiov2.seeding import Generators, derive
from rmiov2.types import EnvSpec


class RMIO(RMIOv2):
    """What RMIOv2 has, the correction block, its optimiser."""

    def __init__(self, config: Config, spec: EnvSpec, seed: int) -> None:
        super().__init__(config, spec, seed)
        with forked(self.device):
            torch.manual_seed(derive(seed, "correction"))
            self.correction = Correction(config.world_model, spec).to(self.device)
        self.correction_optimiser = Optimiser(Adam, self.correction, config.finetune.lr)

    def unroll(self, obs: Tensor, seen: Tensor, act: Tensor, h: Tensor) -> Unrolled:
        """Predicted, corrected, and taken for an observation; see rmiov2.execution.completion.Unroll."""
        said = unroll(self.model, self.correction, obs, seen, act, h)
        return Unrolled(said.features, said.obs)

    def _update_model(
        self, batch: dict[str, Tensor], rngs: Generators, mask: Mask | None, scale: float
    ) -> dict[str, Tensor]:
        """Of the world model; with a mask, of the correction in its place."""
        if mask is None:
            return super()._update_model(batch, rngs, mask, scale)
        seen = moved(torch.from_numpy(mask(*batch["obs"].shape[:2])), self.device).float()
        shown = batch | {"obs": self.model.normalise(batch["obs"]), "seen": seen}
        self.updates += 1
        lr = scale * self.config.finetune.lr
        return self.regions.run("correction", self._learn_correction, rngs.torch, shown, lr=lr)

    def _learn_correction(self, batch: Inputs, lr: float | Tensor) -> dict[str, Tensor]:
        obs, seen = batch["obs"], batch["seen"]
        h = self.model.initial(batch["start"])
        given = unroll(self.model, self.correction, obs, seen, batch["act"], h).given
        loss = correction_loss(self.correction, given, obs, (1 - seen) * batch["row"][..., None])
        norm = self.correction_optimiser.step(loss, self.config.world_model.grad_clip, lr)
        return {"loss_correction": loss, "grad_norm_correction": norm}

    def parts(self) -> dict[str, Any]:
        return super().parts() | {"correction": self.correction, "correction_optimiser": self.correction_optimiser}
