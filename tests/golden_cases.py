"""What the recorded updates have in common: shapes, gradients; of QMIX and FACMAC also batches and networks' names."""

from collections.abc import Mapping

import torch
from golden import Golden, renamed
from torch import Tensor, nn

from rmiov2.agents.off_policy import Windows, readable
from rmiov2.types import EnvSpec

RECURRENT = {
    "fc1": "body", "fc2": "head", "rnn.weight_ih": "memory.weight_ih_l0", "rnn.weight_hh": "memory.weight_hh_l0",
    "rnn.bias_ih": "memory.bias_ih_l0", "rnn.bias_hh": "memory.bias_hh_l0",
}  # fmt: skip
MIXER = {
    "hyper_w_1": "weight_1", "hyper_b_1": "bias_1", "hyper_w_final": "weight_2", "V": "bias_2",  # pymarl, facmac
    "hyper_w1": "weight_1", "hyper_b1.0": "bias_1", "hyper_w2": "weight_2", "hyper_b2": "bias_2",  # pymarl2
}  # fmt: skip
PERCEPTRON = {"fc1": "0", "fc2": "2", "fc3": "4"}


def weights(case: Golden, module: str, names: Mapping[str, str], inside: str = "") -> dict[str, Tensor]:
    """What lies under `module`, by our names; `inside` is what these begin with."""
    return {inside + name: value for name, value in renamed(case.under(module), names).items()}


def spec_of(case: Golden) -> EnvSpec:
    """An environment of these shapes."""
    agents, width = case["obs"].shape[-2:]
    actions = case["avail" if "avail" in case else "act"].shape[-1]
    return EnvSpec(
        name="golden", num_agents=agents, obs_dim=width, obs_widths=(width,) * agents, act_dim=actions,
        act_widths=(actions,) * agents, discrete="avail" in case, state_dim=case["state"].shape[-1],
        episode_limit=case["rew"].shape[1], measure="step_return",
    )  # fmt: skip


def windows_of(case: Golden) -> Windows:
    """The recorded batch; where there is no row, every action is available, as in a batch of ours."""
    spec, step = spec_of(case), case["step"]
    row = torch.cat([torch.ones_like(step[:, :1]), step], 1)
    avail = case["avail"] | ~row[..., None, None] if spec.discrete else None
    act = readable(case["act"].numpy(), spec)
    return Windows(case["obs"], avail, case["state"], act, case["rew"], case["con"], step.float())


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
