"""Between numpy and torch, and the named averages of an update."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from rmiov2.types import Batch, Bools, Floats, UserError


def to_torch(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """The arrays of a batch as tensors, by name; avail and masks become floats where losses multiply with them."""
    tensors = {name: moved(torch.from_numpy(value), device) for name, value in vars(batch).items() if value is not None}
    for name in ("row", "step", "start", "avail"):
        if name in tensors:
            tensors[name] = tensors[name].float()
    return tensors


def moved(values: Tensor, device: torch.device) -> Tensor:
    """On the device; to a GPU by way of pinned memory, so that nobody waits for what it has still to do."""
    return values.to(device) if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)


def of_play(obs: Floats, avail: Bools | None, first: Bools, device: torch.device, **noise: Tensor) -> dict[str, Tensor]:
    """What an agent acts on, by name: obs, avail where there is one, goes_on (B,) where no episode begins, noise."""
    given = {"obs": torch.from_numpy(obs), "goes_on": torch.from_numpy(~first)}
    if avail is not None:
        given["avail"] = torch.from_numpy(avail)
    return {name: value.to(device) for name, value in (given | noise).items()}


class Averages:
    """Means of named scalars, kept on the device until they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Take one scalar per name."""
        for name, value in values.items():
            value = value.detach()  # and never the tensor itself: a captured region will write to it again
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
            self._counts[name] += 1

    def result(self) -> dict[str, float]:
        """The means; raises UserError if any of them is not finite, so that no checkpoint of it is written."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        broken = [name for name, value in means.items() if value != value or abs(value) == float("inf")]
        if broken:
            raise UserError(
                f"training broke: {', '.join(broken)} is not finite; the last good checkpoint is kept;"
                " lower world_model.lr or policy.lr_actor and run the stage again"
            )
        return means
