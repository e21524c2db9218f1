"""Optimisers without torch's guards are torch's, to the bit; a step moves one module alone, at the rate it is told."""

import pytest
import torch

from rmiov2.agents.optimiser import Adam, Optimiser, RMSprop

KINDS = [
    (Adam, torch.optim.Adam, {"eps": 1e-5}),
    (Adam, torch.optim.Adam, {"eps": 1e-5, "fused": True}),
    (RMSprop, torch.optim.RMSprop, {"alpha": 0.99, "eps": 1e-5}),
]


def trained(kind, options):
    """Weights and state after ten steps at falling rates, the last five by an optimiser that was loaded."""
    module = torch.nn.Linear(3, 2)
    with torch.no_grad():
        module.weight.copy_(torch.linspace(-1, 1, 6).view(2, 3))
        module.bias.fill_(0.5)
    optimiser = Optimiser(kind, module, 1e-2, **options)
    for number in range(10):
        if number == 5:
            state, optimiser = optimiser.state_dict(), Optimiser(kind, module, 1e-2, **options)
            optimiser.load_state_dict(state)
        loss = (module(torch.tensor([[1.0, 2.0, number]])) - 3).square().mean()
        optimiser.step(loss, 1.0, 1e-2 / (1 + number))
    return torch.cat([module.weight.flatten(), module.bias]).detach(), optimiser.state_dict()


@pytest.mark.parametrize(("ours", "theirs", "options"), KINDS)
def test_it_is_torch_s_to_the_bit(ours, theirs, options):
    weights, state = trained(ours, options)
    expected, expected_state = trained(theirs, options)
    assert torch.equal(weights, expected) and state["param_groups"] == expected_state["param_groups"]
    for mine, its in zip(state["state"].values(), expected_state["state"].values(), strict=True):
        assert all(torch.equal(mine[name], its[name]) for name in its) and mine.keys() == its.keys()


@pytest.mark.parametrize(("ours", "_", "options"), KINDS)
def test_a_step_at_rate_zero_moves_nothing_and_leaves_other_modules_without_a_gradient(ours, _, options):
    module, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    before = module.weight.clone()
    Optimiser(ours, module, 1.0, **options).step(other(module(torch.ones(1, 2))).sum(), 1.0, 0.0)
    assert torch.equal(module.weight, before) and other.weight.grad is None and module.weight.grad is not None
