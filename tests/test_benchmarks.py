"""The floor that speed is held against: operations counted as by hand; and the table that says so."""

import copy
import importlib
import sys
import types

import pytest
import torch
from learning_cases import agent_and_replay, settings
from torch import nn

from benchmarks.__main__ import NAMES, parser
from benchmarks.cases import composed, untrained
from benchmarks.clock import Effort, count_flops
from benchmarks.fusion import costs
from benchmarks.orchestration import main_job, row
from benchmarks.public_code import LEARNER, _Theirs, importable, learned_from, public_code
from benchmarks.table import Row, in_flop, render, verdict
from benchmarks.team_size import SIZES, exponent, picture, saved_bytes, spec_of, trained
from pipelines import paths
from rmiov2.seeding import Generators
from rmiov2.types import UserError


def test_a_linear_layer_costs_one_product_forward_and_two_backward():
    layer, x = nn.Linear(7, 5), torch.ones(3, 7, requires_grad=True)
    product = 2 * 3 * 7 * 5
    assert count_flops(lambda: layer(x)) == product
    assert count_flops(lambda: layer(x).sum().backward()) == 3 * product


def test_a_recurrent_step_is_counted_with_its_three_gates():
    memory, x = nn.GRU(6, 4, batch_first=True), torch.ones(2, 9, 6)
    assert count_flops(lambda: memory(x)) == 2 * 2 * 9 * (3 * 4) * (6 + 4)


@pytest.mark.parametrize("ffn", [0, 48])
def test_a_fusion_costs_its_projections_and_a_square_of_the_agents(ffn):
    agent, _ = agent_and_replay(settings("toy/lights", world_model__fusion_ffn=ffn), sweeps=1)
    n, s = agent.spec.num_agents, agent.config.world_model
    w = s.hidden
    for name, calls in (("observation fusion", s.length), ("action fusion", s.length - 1)):
        cost = costs(agent.model)[name]
        forward = n * (2 * w * 3 * w + 2 * w * w + 2 * 2 * w * ffn) + 2 * (2 * n * n * w)
        assert cost.step_flop == forward
        assert cost.update_flop == 3 * forward * s.batch * calls
        assert cost.parameters == 3 * w * w + 3 * w + w * w + w + 2 * w + (2 * w * ffn + ffn + 3 * w if ffn else 0)


def test_an_update_without_the_fusions_is_cheaper_by_what_they_are_said_to_cost():
    agent, replay = agent_and_replay(settings("toy/lights"), sweeps=4)
    bare = copy.deepcopy(agent)
    bare.model.observation_fusion = bare.model.action_fusion = nn.Identity()
    whole, rest = (count_flops(lambda who=who: who.update(replay, Generators(0), 1, 0)) for who in (agent, bare))
    assert whole - rest == sum(cost.update_flop for cost in costs(agent.model).values())


def test_rmios_block_grows_with_the_square_of_the_team_and_rmiov2_with_the_team():
    def weights(name, n):
        agent = untrained(composed(f"agent={name}", "preset=toy"), spec_of(n))
        return sum(w.numel() for w in trained(agent).parameters())

    hidden = composed("preset=toy").world_model.hidden
    for name, square in (("rmiov2", 0), ("rmio", 10 * hidden)):  # 10 numbers of each of N agents that each of N sees
        one, two, three = (weights(name, n) for n in (4, 8, 12))
        assert one - 2 * two + three == 2 * square * 4**2


def test_an_exponent_is_that_of_a_power_and_of_a_sum_the_largest_at_last():
    assert exponent(SIZES, [3.0 * n**1.5 for n in SIZES]) == pytest.approx(1.5)
    assert (
        1
        < exponent((2, 4, 8), [n + n**2 for n in (2, 4, 8)])
        < exponent((32, 64, 128), [n + n**2 for n in (32, 64, 128)])
        < 2
    )


def test_a_backward_pass_is_said_to_keep_its_inputs_once_and_no_weight():
    layer, x = nn.Linear(7, 5, bias=False), torch.ones(3, 7, requires_grad=True)
    assert saved_bytes(layer, lambda: layer(x).square().sum().backward()) == 4 * (3 * 7 + 3 * 5)
    assert saved_bytes(layer, lambda: (layer(x) + layer(x)).sum().backward()) == 4 * 3 * 7


def test_the_growth_is_drawn_for_both_and_the_same_numbers_give_the_same_bytes():
    rows = []
    for name, power in (("rmiov2", 1), ("rmio", 2)):
        for n in SIZES:
            numbers = {"agents": n, "parameters": n**power, "memory": n**power, "seconds": n**power}
            rows.append(Row(f"masked update, {name}, {n} agents", "", "", numbers=numbers))
        growth = dict.fromkeys(("parameters", "memory", "seconds"), float(power))
        rows.append(Row(f"growth, {name}", "", "", numbers=growth))
    assert picture(rows) == picture(rows) and picture(rows).startswith(b"\x89PNG")


def test_the_table_states_every_aim_and_whether_it_was_met():
    rows = [
        Row("updates", "4 updates/s", "2.0x its floor", "at most 3x its floor", True),
        Row("collection", "10 steps/s", "half", "at least 70%", False),
        Row("latency", "1 ms", "nobody blind"),
    ]
    head, rule, *lines = render(rows).splitlines()
    aims = zip([head, *lines], ["aim", "at most", "at least", "none"], strict=True)
    assert len({line.index(aim) for line, aim in aims}) == 1
    assert set(rule) == {"-", " "} and head.endswith("met")
    assert [line.split()[-1] for line in lines] == ["yes", "NO", "-"]
    assert verdict(rows) == "1 of 2 aims met; not met: collection"


@pytest.mark.parametrize(("operations", "text"), [(1.58e6, "1.58 MFLOP"), (5e10, "50 GFLOP"), (800, "0.8 kFLOP")])
def test_operations_are_written_with_their_prefix(operations, text):
    assert in_flop(operations) == text


def test_orchestration_is_a_share_of_the_committed_training():
    assert main_job(paths.METRICS) > 1
    assert row(30.0, 25.0, 20.0, job=1000.0).met and not row(60.0, 25.0, 20.0, job=1000.0).met
    assert row(30.0, 25.0, 20.0, job=1000.0).beside.startswith("3.0%")


def test_public_code_is_imported_from_its_folder_without_what_it_logs_to_and_is_gone_afterwards(tmp_path, monkeypatch):
    learner = tmp_path.joinpath(*LEARNER.split(".")).with_suffix(".py")
    learner.parent.mkdir(parents=True)
    (tmp_path / "configs" / "__init__.py").write_text("import a_game_that_is_not_here\n")
    learner.write_text("import wandb, wave\nwandb.init(dir='.')\nwandb.log({})\nSIZE = 7\n")
    path, mine = list(sys.path), types.ModuleType("agent")
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    monkeypatch.setitem(sys.modules, "agent", mine)
    with importable(tmp_path):
        assert importlib.import_module(LEARNER).SIZE == 7
        assert "agent" not in sys.modules
    assert sys.path == path and sys.modules["agent"] is mine
    assert {name for name in sys.modules if name.partition(".")[0] in ("configs", "wandb")} == set()
    assert "wave" in sys.modules  # what is not theirs stays: torch cannot be imported twice


def test_a_round_is_counted_in_the_steps_that_are_learned_from():
    class Learner:
        replay_buffer = types.SimpleNamespace(sample=lambda batch: batch)
        train_agent = train_model = staticmethod(lambda samples: None)

    theirs = object.__new__(_Theirs)
    theirs.learner = Learner()
    theirs.settings = types.SimpleNamespace(BATCH_SIZE=40, MODEL_BATCH_SIZE=40, SEQ_LENGTH=20, HORIZON=15)
    config = composed("agent=mamba_paper", "env=smax_2s3z")
    assert theirs.policy_round() == learned_from(config, lambda: 1.0)() == 720 * 14
    assert theirs.update_model() == 1.0


def test_public_code_is_timed_only_where_it_is_asked_for():
    assert set(parser().parse_args([]).only) == set(NAMES) - {"public_code"}


@pytest.mark.parametrize("folder", [None, "an empty one"])
def test_public_code_that_is_not_there_is_asked_for_with_the_command_that_gets_it(tmp_path, folder):
    with pytest.raises(UserError, match="--mamba: got .*git clone https://github.com/jbr-ai-labs/mamba"):
        public_code(folder and tmp_path, "cpu", "float32", Effort(1, 0.1))
