"""One step down a loss: torch's optimisers, made when they are first needed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn


class Optimiser:
    """The optimiser of one module, made by its first step: play can spare it."""

    def __init__(
        self, kind: Callable[..., torch.optim.Optimizer], module: nn.Module, lr: float, **options: Any
    ) -> None:
        self.kind, self.module, self.lr, self.options = kind, module, lr, options
        self._given: dict[str, Any] | None = None  # what it is to begin with

    @cached_property
    def made(self) -> torch.optim.Optimizer:
        made = self.kind(self.module.parameters(), self.lr, **self.options)
        if self._given is not None:
            made.load_state_dict(self._given)
            self._given = None
        return made

    def step(self, loss: Tensor, clip: float, lr: float | Tensor) -> Tensor:
        """One step of this module alone down the loss at rate lr, the gradient's norm clipped; the norm before."""
        _set_rate(self.made, lr)
        self.made.zero_grad(set_to_none=True)
        parameters = list(self.module.parameters())
        loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(parameters, clip)
        self.made.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """As torch's."""
        return self.made.state_dict() if self._given is None else self._given

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As torch's."""
        if "made" in vars(self):
            self.made.load_state_dict(state)
        else:
            self._given = state


class Uncompiled(torch.optim.Optimizer):
    """What torch guards against its own compiler without that guard, which loads the compiler, two seconds of a core.

    No step of ours is compiled, as none could be that is captured. Stands before the optimiser that it is for.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """As the optimiser's, if it is not to be differentiated through."""
        inspect.unwrap(super().step.__func__)(self)  # type: ignore[attr-defined]


class RMSprop(Uncompiled, torch.optim.RMSprop):
    """torch's."""


class Adam(Uncompiled, torch.optim.Adam):
    """torch's Adam, which on a GPU reads its rate from a tensor, so that a captured step can be told another.

    Its state is the same on either device: what says how it is computed is not kept.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, **options: Any) -> None:
        parameters = list(parameters)
        device = parameters[0].device
        if device.type == "cuda":
            rate = torch.tensor(lr, device=device)
            super().__init__(parameters, rate, fused=True, capturable=True, **options)
            self._warned_capturable_if_run_uncaptured = True  # the first steps are not captured, on purpose
        else:
            super().__init__(parameters, lr, **options)

    def state_dict(self) -> dict[str, Any]:
        """As the CPU's."""
        state: dict[str, Any] = super().state_dict()
        if self.param_groups[0]["capturable"]:
            as_cpu = {"fused": None, "capturable": False}
            groups = [group | as_cpu | {"lr": float(group["lr"])} for group in state["param_groups"]]
            state = state | {"param_groups": groups}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Moments and steps, and on the CPU the last rate; every step is told its own."""
        if self.param_groups[0]["capturable"]:
            state_dict = state_dict | {"param_groups": super().state_dict()["param_groups"]}
        super().load_state_dict(state_dict)


def _set_rate(optimiser: torch.optim.Optimizer, lr: float | Tensor) -> None:
    """The rate of the next step."""
    group = optimiser.param_groups[0]
    if isinstance(group["lr"], Tensor):
        group["lr"].copy_(torch.as_tensor(lr))
    else:
        group["lr"] = lr
