"""Weights whose gradients are taken once for all steps, and small functions that a GPU runs compiled, say what torch's
own say; here on the CPU, where neither is in use, and on a GPU by test_gpu."""

import gc
from contextlib import nullcontext
from weakref import ref

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.cases import composed, spec_of, synthetic_replay
from rmiov2.acceleration import fused as fusing
from rmiov2.acceleration.captured import Regions, _Captured
from rmiov2.acceleration.deferred_gradients import GRU, GRUCell, LayerNorm, Linear, Rows, at_once, gated
from rmiov2.acceleration.fused import compiles
from rmiov2.agents.registry import make_agent
from rmiov2.agents.tensors import to_torch
from rmiov2.policy.actor import Actor
from rmiov2.seeding import Generators
from rmiov2.world_model.losses import model_losses, total_loss
from rmiov2.world_model.rollout import observe
from rmiov2.world_model.rssm import categoricals, straight_through

LENGTH = 6


AGENTS = [
    ("rmiov2",), ("rmiov2", "world_model.fusion_ffn=0", "world_model.unimix=0"),
    ("rmiov2", "world_model.observation_fusion=false"), ("mamba", "agent.dropout=0"),
]  # fmt: skip


def gradients(agent, batch, way):
    """The loss and every weight's gradient, None where it has none; of MAMBA's layout what led to row 0 is told."""
    agent.model.zero_grad()
    seen, rng = torch.ones(batch["obs"].shape[:3]), torch.Generator().manual_seed(0)
    before = torch.rand(*seen[:, 0].shape, agent.spec.act_dim) if agent.model.layout.joint_inputs else None
    with way():
        start = batch["start"]
        h = agent.model.initial(start) if before is None else agent.model.led_to(start, before)
        latent = observe(agent.model, batch["obs"], seen, batch["act"], h, rng)
    loss = total_loss(model_losses(agent.model, latent, batch)[0], 1.0)
    loss.backward(inputs=list(agent.model.parameters()))
    return loss.item(), {name: p.grad for name, p in agent.model.named_parameters()}


@pytest.mark.parametrize("env", ["toy_lights", "toy_dials"])
@pytest.mark.parametrize("name, more", [(name, more) for name, *more in AGENTS])
def test_a_world_model_learns_from_all_steps_at_once_what_it_learns_step_by_step(env, name, more, monkeypatch):
    config = composed(f"env={env}", f"agent={name}", "preset=toy", *more)
    spec = spec_of(config.env.name)
    agent, replay = make_agent(config, spec), synthetic_replay(spec, LENGTH)
    batch = to_torch(replay.sample(4, LENGTH, np.random.default_rng(0)), agent.device)
    left, leave = [], Rows.leave
    monkeypatch.setattr(Rows, "leave", lambda rows, *parts: (left.append(rows), leave(rows, *parts)))
    torch.manual_seed(0)
    loss, expected = gradients(agent, batch, nullcontext)
    assert not left
    torch.manual_seed(0)
    same, found = gradients(agent, batch, lambda: at_once(agent.model))
    assert same == pytest.approx(loss, rel=1e-6)
    loop = (agent.model.obs_in, agent.model.z_in, agent.model.gru, agent.model.action_fusion, agent.model.posterior)
    layers = [part for top in loop for part in top.modules() if isinstance(part, Linear | LayerNorm | GRUCell)]
    assert sum(left.count(rows) == LENGTH for rows in set(left)) >= 2  # what stands before the posterior
    assert len(set(left)) >= len(layers)  # a GRU's cell has two
    for name, gradient in expected.items():
        if gradient is None:
            assert found[name] is None, name
        else:
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6 * float(gradient.abs().max() + 1))


def test_an_agent_that_learned_at_once_is_freed():
    """Autograd's nodes must not hold what holds them, which Python's collector cannot see."""
    agent = nn.ModuleDict({"cell": GRUCell(3, 4), "out": Linear(4, 2), "norm": LayerNorm(2), "gru": GRU(2, 2, 1)})
    with at_once(agent):
        h = torch.zeros(5, 4)
        for _ in range(3):
            h = agent["cell"](torch.ones(5, 3), h)
        out = agent["norm"](agent["out"](h))
    agent["gru"].by_steps(out[:, None], torch.zeros(1, 5, 2))[0].sum().backward()
    weights = [ref(weight) for weight in agent.parameters()] + [ref(weight.grad) for weight in agent.parameters()]
    del agent, h, out
    gc.collect()
    assert [weight() for weight in weights] == [None] * len(weights)


def test_at_once_is_over_after_its_block_even_if_that_breaks():
    layers = nn.ModuleList([Linear(3, 3), LayerNorm(3), GRUCell(3, 3)])
    with pytest.raises(ZeroDivisionError), at_once(layers):
        assert all(layer.steps is not None for layer in layers)
        raise ZeroDivisionError
    assert all(layer.steps is None for layer in layers)


def test_weights_have_the_names_and_the_first_values_of_torchs():
    def made(linear, norm, cell, gru):
        torch.manual_seed(0)
        return nn.ModuleList([linear(3, 4), norm(4), cell(4, 5), gru(4, 5, batch_first=True)]).state_dict()

    mine, torchs = made(Linear, LayerNorm, GRUCell, GRU), made(nn.Linear, nn.LayerNorm, nn.GRUCell, nn.GRU)
    assert mine.keys() == torchs.keys() and all(torch.equal(mine[name], torchs[name]) for name in mine)


def test_a_gru_step_by_step_is_torchs():
    torch.manual_seed(0)
    gru, x, h = GRU(4, 5, batch_first=True), torch.randn(3, 7, 4, requires_grad=True), torch.randn(1, 3, 5)
    said = []
    for way in (gru.forward, gru.by_steps):
        gru.zero_grad()
        x.grad = None
        out, last = way(x, h)
        (out * torch.arange(out.numel()).view_as(out)).sum().backward()
        said.append([out, last, x.grad, *(p.grad for p in gru.parameters())])
    for torchs, mine in zip(*said, strict=True):
        torch.testing.assert_close(mine, torchs, rtol=1e-4, atol=1e-4)


def test_what_a_memory_is_given_is_laid_out_as_ever():
    """To the bit: another layout of the same numbers takes torch's GRU another way round, at these widths."""
    torch.manual_seed(0)
    spec = spec_of("smax/3m")
    actor, obs = Actor(composed("preset=paper").policy, spec), torch.randn(16, 15, 3, spec.obs_dim)
    with torch.no_grad():
        rows = actor.body(actor.named(obs)).transpose(1, 2).reshape(48, 15, -1)
        expected, _ = nn.GRU.forward(actor.memory, rows, torch.zeros(1, 48, actor.settings.hidden))
        _, found = actor.unroll(obs, actor.initial(16))
    assert torch.equal(found, expected.view(16, 3, 15, -1).transpose(1, 2))


def test_what_is_compiled_takes_the_compiler_for_granted():
    """Whole, where asking for it would break it in two."""
    whole = torch.compile(lambda x: x + compiles(), fullgraph=True, backend="eager")
    assert whole(torch.zeros(())) == 1


def test_a_world_model_that_learned_at_once_is_not_compiled_anew():
    from torch._dynamo.testing import CompileCounter  # the compiler: two seconds of every worker, for a few tests

    counted = CompileCounter()
    layers = nn.ModuleList([Linear(3, 3), LayerNorm(3), GRUCell(3, 3)])
    whole = torch.compile(lambda x: layers[2](layers[1](layers[0](x)), x), backend=counted)
    for _ in range(2):
        whole(torch.ones(2, 3))
        with at_once(layers):
            pass
    assert counted.frame_count == 1


@pytest.mark.long
@pytest.mark.parametrize("name", ["rmiov2", "mamba", "mag"])
def test_updates_that_are_compiled_say_what_they_say_otherwise(name, monkeypatch):
    """All that a GPU compiles, compiled for the CPU: world model and policy, two updates of each."""
    from torch._dynamo.utils import counters

    def told():
        config = composed("env=toy_lights", f"agent={name}", "preset=toy", *(["agent.dropout=0"] * (name != "rmiov2")))
        spec = spec_of(config.env.name)
        agent, rngs = make_agent(config, spec), Generators(0)
        return [agent.update(synthetic_replay(spec, config.world_model.length + 1), rngs, 1, 1) for _ in range(2)]

    expected = told()
    monkeypatch.setattr(fusing, "_on_gpu", lambda first: True)
    monkeypatch.setattr(fusing, "compiles", torch.compiler.assume_constant_result(lambda: True))
    torch._dynamo.reset()
    counters.clear()
    for some, others in zip(told(), expected, strict=True):
        assert some == pytest.approx(others, rel=1e-4, abs=1e-5)
    assert counters["stats"]["unique_graphs"] >= 8 and not counters["graph_break"]


@pytest.mark.long
@pytest.mark.parametrize(
    "function, shapes, numbers",
    [
        (gated, [(12,), (12,), (4,)], ()), (categoricals, [(5, 3, 4)], (0.01,)),
        (categoricals, [(5, 3, 4)], (0,)), (straight_through, [(5, 3, 4), (5, 3, 4)], ()),
        (straight_through, [(5, 3, 4)], (None,)),
    ],
)  # fmt: skip
def test_what_torch_compiles_is_the_function(function, shapes, numbers):
    """Value and gradients, at one number of rows and then another."""
    plain, compiled = function.__wrapped__, torch.compile(function.__wrapped__)
    for rows in (4, 9):
        said = []
        for way in (plain, compiled):
            torch.manual_seed(rows)
            tensors = [torch.rand(rows, *shape, requires_grad=True) for shape in shapes]
            out = way(*tensors, *numbers)
            (out * torch.arange(out.numel()).view_as(out)).sum().backward()
            said.append([out, *(tensor.grad for tensor in tensors if tensor.grad is not None)])
        for expected, found in zip(*said, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_an_input_is_copied_again_only_if_it_is_another_or_has_changed():
    captured, value = _Captured(None, None, {"x": torch.zeros(2)}, None), torch.ones(2)
    captured.take("x", value)
    captured.inputs["x"].zero_()
    captured.take("x", value)
    assert captured.inputs["x"].tolist() == [0, 0]
    value.add_(1)
    captured.take("x", value)
    assert captured.inputs["x"].tolist() == [2, 2]
    captured.take("x", torch.full((2,), 2.0))
    assert captured.given["x"][0]() is None  # nothing is kept alive, and what is gone is copied anew


def test_without_a_gpu_both_are_done_in_turn():
    assert Regions(torch.device("cpu")).both(lambda: "one", lambda: "other") == ("one", "other")
