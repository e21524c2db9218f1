"""One update of a reference implementation, recorded: its input, weights, gradients and what came out.

tests/golden/CASE.safetensors; repository and commit stand in each file's header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from rmiov2.agents.off_policy import Windows, readable
from rmiov2.types import EnvSpec

FOLDER = Path(__file__).resolve().parent / "golden"
RECURRENT = {
    "fc1.weight": "body.weight", "fc1.bias": "body.bias", "fc2.weight": "head.weight", "fc2.bias": "head.bias",
    "rnn.weight_ih": "memory.weight_ih_l0", "rnn.weight_hh": "memory.weight_hh_l0",
    "rnn.bias_ih": "memory.bias_ih_l0", "rnn.bias_hh": "memory.bias_hh_l0",
}  # fmt: skip
MIXER = {
    f"{theirs}{layer}.{kind}": f"{ours}{layer}.{kind}"
    for theirs, ours, layers in (
        ("hyper_w_1", "weight_1", (".0", ".2")), ("hyper_w1", "weight_1", (".0", ".2")), ("hyper_b_1", "bias_1", ("",)),
        ("hyper_w_final", "weight_2", (".0", ".2")), ("hyper_w2", "weight_2", (".0", ".2")),
        ("V", "bias_2", (".0", ".2")), ("hyper_b2", "bias_2", (".0", ".2")),
    )
    for layer in layers
    for kind in ("weight", "bias")
} | {f"hyper_b1.0.{kind}": f"bias_1.{kind}" for kind in ("weight", "bias")}  # fmt: skip
PERCEPTRON = {f"fc{k}.{kind}": f"{2 * (k - 1)}.{kind}" for k in (1, 2, 3) for kind in ("weight", "bias")}


@dataclass
class Golden:
    """The tensors of a case by name, and the settings it was made with."""

    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def weights(self, module: str, names: Mapping[str, str]) -> dict[str, Tensor]:
        """What lies under `module`, by our names."""
        prefix = f"{module}/"
        found = {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}
        return {names[key]: value for key, value in found.items()}

    def fill(self, net: nn.Module, module: str, names: Mapping[str, str]) -> None:
        """Give net the weights of `module`, every one."""
        net.load_state_dict(self.weights(module, names))

    def spec(self, discrete: bool) -> EnvSpec:
        """An environment of these shapes."""
        agents, width = self["obs"].shape[-2:]
        actions = self["avail"].shape[-1] if discrete else self["act"].shape[-1]
        return EnvSpec(
            name="golden", num_agents=agents, obs_dim=width, obs_widths=(width,) * agents, act_dim=actions,
            act_widths=(actions,) * agents, discrete=discrete, state_dim=self["state"].shape[-1],
            episode_limit=self["rew"].shape[1], measure="step_return",
        )  # fmt: skip

    def windows(self, spec: EnvSpec) -> Windows:
        """The recorded batch; where there is no row, every action is available, as in a batch of ours."""
        step = self["step"]
        row = torch.cat([torch.ones_like(step[:, :1]), step], 1)
        return Windows(
            obs=self["obs"], avail=self["avail"] | ~row[..., None, None] if spec.discrete else None,
            state=self["state"], act=readable(self["act"].numpy(), spec), rew=self["rew"], con=self["con"],
            step=step.float(),
        )  # fmt: skip


def golden(case: str) -> Golden:
    """Read one."""
    with safetensors.safe_open(FOLDER / f"{case}.safetensors", "pt") as file:
        return Golden({name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["settings"]))


def close(mine: Mapping[str, Tensor] | Tensor, theirs: Mapping[str, Tensor] | Tensor) -> bool:
    """Equal to 1e-5, every one of them."""
    if isinstance(mine, Tensor) and isinstance(theirs, Tensor):
        return torch.allclose(mine.detach(), theirs, rtol=1e-5, atol=1e-5)
    assert isinstance(mine, Mapping) and isinstance(theirs, Mapping) and mine.keys() == theirs.keys()
    return all(close(mine[name], theirs[name]) for name in mine)


def gradients(loss: Tensor, net: nn.Module) -> dict[str, Tensor]:
    """Of every weight of net, by name."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, retain_graph=True), strict=True))
