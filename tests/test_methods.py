"""A run beside other methods: the numbers are those of the kept seeds, and no one is ahead whose lead may be luck."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml
from dvc.utils.serialize import dump_yaml, load_yaml
from synthetic_run import CELLS, GRID, write_run, write_stress
from test_reporting import Reader, embedded
from torch import nn

from benchmarks.cases import composed
from benchmarks.clock import Effort
from benchmarks.methods import methods
from benchmarks.table import Row
from pipelines import paths, seeds
from pipelines.studies.fan_out import STAGES
from rmiov2.agents.registry import AGENTS, make_agent
from rmiov2.envs.registry import make_env
from rmiov2.files import write_json
from rmiov2.reporting.kept import TIMES, Method, read_methods, read_times
from rmiov2.reporting.methods.figures import l_rec_picture, side_by_side
from rmiov2.reporting.methods.reached import own_method, seeds_said
from rmiov2.reporting.methods.standings import glance, verdict
from rmiov2.reporting.methods.table import methods_markdown, methods_tables
from rmiov2.reporting.pages.run import build
from rmiov2.reporting.run.costs import communication, costs, parameters, played, trained
from rmiov2.reporting.run.results import read_results
from rmiov2.reporting.scene.moment import telling_moment
from rmiov2.reporting.style import CYCLE, looks, styled
from rmiov2.reporting.words import number
from rmiov2.training import checkpoint
from rmiov2.types import UserError

Y = "\u202f"  # between thousands

MODE_NAMES_IN_README = {
    "completion": "completion, fine-tuned", "completion_untuned": "completion, not fine-tuned", "zeros": "zeros",
    "last_seen": "last one seen", "open_loop": "open loop: it sees only the time step",
}  # fmt: skip


def keep_seed(
    kept: Path, agent: str, seed: int, level: float, *, steps: int = 60_000, env: str = "smax/3m", width: float = 0.02,
    l_rec: bool = False, cost: dict[str, Any] | None = None, told: float | None = None,
) -> None:  # fmt: skip
    """A seed that wins `level` at every rate, with an interval of that width, half of it before fine-tuning, a fifth
    open loop, and `told` where it is told the true masks."""
    own = "completion" if l_rec else "zeros"
    curves = {own: [level] * len(GRID), f"{own}_untuned": [level / 2] * len(GRID)}
    curves["open_loop"] = [level / 5] * len(GRID)
    evaluate = {"env": env, "agent": agent, "measure": "win_rate", "episodes": 400, "p_loss": GRID, "random": 0.0,
                "performance": curves, "auc": {mode: curve[0] for mode, curve in curves.items()},
                "ci95": {mode: [[p - width / 2, p + width / 2] for p in curve] for mode, curve in curves.items()},
                "auc_ci95": {mode: [curve[0] - width / 2, curve[0] + width / 2] for mode, curve in curves.items()},
                }  # fmt: skip
    if told is not None:
        modes = (own, f"{own}_untuned")
        evaluate["true_availability"] = {
            "performance": dict.fromkeys(modes, [told] * len(GRID)), "auc": dict.fromkeys(modes, told),
            "ci95": dict.fromkeys(modes, [[told, told]] * len(GRID)),
            "auc_ci95": dict.fromkeys(modes, [told - width / 2, told + width / 2]),
        }  # fmt: skip
    run = {"env": env, "agent": agent, "preset": "small", "seeds": [seed], "wall_s": 1.0}
    folder = kept / f"{env.replace('/', '-')}-{agent}" / f"seed-{seed}"
    write_json(folder / "evaluate.json", evaluate)
    write_json(folder / "pretrain.json", {**run, "env_steps": steps, "updates": 2000})
    write_json(folder / "finetune.json", {**run, "env_steps": 2000, "updates": 1500})
    (folder / "learning.csv").write_text(
        f"env_steps,performance,lo,hi,episodes\n2000,0,0,0.1,64\n{steps},{level},0,1,64\n"
    )
    if l_rec:
        (folder / "finetune.csv").write_text(f"update,loss_obs,l_rec\n0,,4\n10,1,\n1500,1,{seed + 1}\n")
    if cost is not None:
        write_json(folder / "costs.json", cost)


def kept_methods(kept: Path, levels: dict[str, list[float]], **choices: Any) -> list[Method]:
    for agent, values in levels.items():
        for seed, level in enumerate(values):
            keep_seed(kept, agent, seed, level, **choices)
    return list(read_methods(kept))


def cells_of(kept: Path, agent: str) -> dict[str, str]:
    """Its rows of both tables by the heads of their columns."""
    found: dict[str, str] = {}
    for table in methods_tables(list(read_methods(kept)), read_times(kept)):
        (row,) = (row for row in table.rows if row.name == agent)
        found |= dict(zip(table.head[1:], [f"{c.text} {c.bounds}".strip() for c in row.cells], strict=True))
    return found


def test_the_table_has_the_numbers_of_the_seeds(tmp_path: Path) -> None:
    sent = {"p_loss": GRID, "messages": [0, 1, 2, 3.5, 2, 0], "bytes": [0, 10, 20, 3000, 20, 0],
            "parameters": {"actor": 100, "critic": 40, "model": 1000, "correction": 5}}  # fmt: skip
    for seed, level in enumerate((0.30, 0.40, 0.44)):
        keep_seed(tmp_path, "rmio", seed, level, steps=60_000 + seed, l_rec=True, cost=sent)
    found = cells_of(tmp_path, "rmio")
    assert found["AUC"] == "0.38 [0.20, 0.56]"  # 4.3027 * 0.07211 / sqrt(3) = 0.17913
    assert found["AUC by seed"] == "0.30, 0.40, 0.44" and found["AUC, not fine-tuned"] == "0.19 [0.10, 0.28]"
    assert found["p_loss 0, not fine-tuned"] == "0.19 [0.10, 0.28]"
    assert found[f"p_loss 0 after 60{Y}000 steps"] == "0.38 [0.09, 0.67]"  # 256 episodes are surer than 64
    assert found["AUC ÷ p_loss 0"] == "1.00 [0.98, 1.00]"  # every seed keeps all, within the luck of its episodes
    assert found["p_loss 0"] == found["p_loss 0.6"] == "0.38 [0.20, 0.56]"
    assert found["AUC, open loop"] == "0.08" and found["environment steps"] == f"60{Y}001 + 2{Y}000"
    assert found["updates"] == f"2{Y}000 + 1{Y}500"
    assert (found["messages per step, p_loss 0.6"], found["bytes per step, p_loss 0.6"]) == ("3.50", f"3{Y}000")
    assert found["parameters"] == f"1{Y}145 / 1{Y}105" and found["ms per update"] == "–"


def test_a_seed_is_its_number_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["seeds", "0", "seed=3", "env=toy_lights"])
    with pytest.raises(SystemExit) as stopped:
        seeds.main()
    assert stopped.value.code == 2 and "expected seeds by their numbers alone" in capsys.readouterr().err


def test_seeds_kept_before_costs_were_are_read_and_say_nothing_of_them(tmp_path: Path) -> None:
    keep_seed(tmp_path, "mappo", 0, 0.3)
    found = cells_of(tmp_path, "mappo")
    assert [name for name, said in found.items() if said == "–"] == [
        "messages per step, p_loss 0.6", "bytes per step, p_loss 0.6", "parameters", "ms per update"
    ]  # fmt: skip
    assert found["AUC"] == "0.30"
    said = seeds.table()  # of those that are committed
    assert all(f"| {study.agent} |" in said for study in read_methods(seeds.SEEDS))


def test_what_is_committed_in_words_says_what_the_seeds_say() -> None:
    table, readme = seeds.table(), (paths.ROOT / "README.md").read_text()
    assert (paths.ROOT / "docs" / "methods.md").read_text() == f"{table}\n"
    assert table.split("\n\n")[1] in readme, "README's table is not that of docs/methods.md; copy it"


def test_the_readme_has_the_results_of_the_committed_run() -> None:
    readme = (paths.ROOT / "README.md").read_text()
    found = json.loads((paths.ROOT / "metrics" / "evaluate.json").read_text())
    assert f"| {' | '.join(f'{p:g}' for p in found['p_loss'])} | AUC [95 %] |" in readme
    for mode, curve in found["performance"].items():
        if mode in MODE_NAMES_IN_README:
            lo, hi = found["auc_ci95"][mode]
            said = [*(f"{p:.2f}" for p in curve), f"{found['auc'][mode]:.2f} [{lo:.2f}, {hi:.2f}]"]
            assert f"| {MODE_NAMES_IN_README[mode]} | {' | '.join(said)} |" in readme


def test_the_summary_has_every_method_on_every_task(tmp_path: Path) -> None:
    for seed, level in enumerate((0.30, 0.40, 0.44)):
        keep_seed(tmp_path, "rmiov2", seed, level)
    keep_seed(tmp_path, "rmiov2", 0, 0.5, env="toy/lights")
    keep_seed(tmp_path, "mappo", 0, 0.9, steps=308_000)
    keep_seed(tmp_path, "gawm", 0, 0.1, env="toy/lights", steps=61_000)
    caption, table = methods_markdown(tmp_path, "rmiov2").split("\n\n")[:2]
    lines = table.splitlines()
    assert caption == "**Every method on every task, small**"
    heads = [f"{env}: {what}" for env in ("smax/3m", "toy/lights") for what in ("win rate at p_loss 0", "AUC")]
    assert lines[0] == f"| agent | {' | '.join(heads)} | steps, beside rmiov2’s |"
    assert lines[2:] == [
        "| rmiov2 | 0.38 [0.20, 0.56] | 0.38 [0.20, 0.56] | 0.50 (one seed) | 0.50 (one seed) | 1 / 1 |",
        "| gawm | – | – | 0.10 (one seed) | 0.10 (one seed) | – / 1 |",
        "| mappo | 0.90 (one seed) | 0.90 (one seed) | – | – | 5.00 / – |",
    ]


def test_only_a_lead_that_is_no_luck_is_one(tmp_path: Path) -> None:
    levels = {"rmiov2": [0.40, 0.41, 0.42], "winner": [0.70, 0.71, 0.72], "wild": [0.2, 0.5, 0.8], "lone": [0.9],
              "loser": [0.10, 0.11, 0.12], "humble": [0.38, 0.40, 0.42]}  # fmt: skip
    found = kept_methods(tmp_path, levels)
    auc, sight = verdict(found, "rmiov2")
    assert auc.startswith("Mean AUC of rmiov2: 0.41 [0.39, 0.43].")
    standings = (
        "It is beaten by winner (0.71, lead −0.30 [−0.32, −0.28]). It is ahead of loser (0.11, lead 0.30 [0.28, 0.32])."
        " Undecided, with a higher mean: lone (0.90, one seed) and wild (0.50, lead −0.09 [−0.83, 0.65]). Undecided,"
        " with no higher mean: humble (0.40, lead 0.01 [−0.03, 0.05])."
    )
    assert auc.endswith(f" {standings}") and sight.endswith(f" {standings}")
    assert glance(found, "rmiov2") == (
        "rmiov2 on smax/3m, AUC: behind winner; ahead of loser; undecided, with a higher mean, lone and wild;"
        " undecided, with no higher mean, humble."
    )


def test_a_difference_decides_where_the_intervals_of_both_overlap(tmp_path: Path) -> None:
    found = kept_methods(tmp_path, {"rmiov2": [0.34, 0.40, 0.46], "other": [0.23, 0.26, 0.29]})
    assert [cells_of(tmp_path, name)["AUC"] for name in ("rmiov2", "other")] == [
        "0.40 [0.25, 0.55]",
        "0.26 [0.19, 0.33]",
    ]
    assert "ahead of other (0.26, lead 0.14 [0.02, 0.26])" in verdict(found, "rmiov2")[0]


def test_means_that_look_alike_have_another_digit(tmp_path: Path) -> None:
    auc, *_ = verdict(kept_methods(tmp_path, {"rmiov2": [0.191, 0.195], "other": [0.192, 0.196]}), "rmiov2")
    assert "other (0.194 against 0.193, lead" in auc


def test_a_seed_of_two_processors_counts_once(tmp_path: Path) -> None:
    """The second team of seed 0 neither makes a fourth seed nor pulls the mean towards seed 0."""
    for seed, level in enumerate((0.30, 0.40, 0.44)):
        keep_seed(tmp_path, "rmiov2", seed, level)
    shutil.copytree(tmp_path / "smax-3m-rmiov2/seed-0", tmp_path / "smax-3m-rmiov2/seed-0-AVX2")
    (method,) = read_methods(tmp_path)
    assert len(method.seeds) == 4 and seeds_said(method) == "3 seeds in 4 teams"
    found = cells_of(tmp_path, "rmiov2")
    assert found["AUC"] == "0.38 [0.20, 0.56]" and found["AUC by seed"] == "0.30, 0.40, 0.44"


def test_after_as_many_steps_as_all_were_evaluated_for(tmp_path: Path) -> None:
    """Half of the way of mappo's curve, from nothing at 2,000 steps to its level at 118,000, is 60,000 steps."""
    keep_seed(tmp_path, "rmiov2", 0, 0.4, steps=60_999)
    keep_seed(tmp_path, "mappo", 0, 0.9, steps=118_000)
    assert cells_of(tmp_path, "mappo")[f"p_loss 0 after 60{Y}000 steps"] == "0.45"


def test_what_a_method_keeps_of_its_own_wins(tmp_path: Path) -> None:
    keep_seed(tmp_path, "rmiov2", 0, 0.4)
    keep_seed(tmp_path, "mappo", 0, 0.0)
    path = tmp_path / "smax-3m-rmiov2/seed-0/evaluate.json"
    found = json.loads(path.read_text())
    found["performance"]["zeros"][0] = 0.8
    write_json(path, found)
    assert cells_of(tmp_path, "rmiov2")["AUC ÷ p_loss 0"] == "0.50"
    assert cells_of(tmp_path, "mappo")["AUC ÷ p_loss 0"] == "–"  # nothing of nothing


def test_with_the_true_masks_who_leads_is_said_of_those_that_were_played_so(tmp_path: Path) -> None:
    for seed in (0, 1):
        keep_seed(tmp_path, "rmiov2", seed, 0.4, told=0.5)
        keep_seed(tmp_path, "qmix", seed, 0.3, told=0.7)
        keep_seed(tmp_path, "mappo", seed, 0.3)
    auc, told, _ = verdict(list(read_methods(tmp_path)), "rmiov2")
    assert "It is ahead of" in auc and "qmix" in auc and "mappo" in auc
    beaten = "It is beaten by qmix (0.70, lead −0.20 [−0.21, −0.19])."
    assert told == f"Mean true-mask AUC of rmiov2: 0.50 [0.49, 0.51]. {beaten}"
    told = {agent: cells_of(tmp_path, agent)["AUC, true mask"] for agent in ("rmiov2", "qmix", "mappo")}
    assert told == {"rmiov2": "0.50 [0.49, 0.51]", "qmix": "0.70 [0.69, 0.71]", "mappo": "–"}
    keep_seed(tmp_path / "alone", "mappo", 0, 0.3)
    assert "AUC, true mask" not in cells_of(tmp_path / "alone", "mappo")


def test_who_leads_after_more_steps_is_said_to_have_had_them(tmp_path: Path) -> None:
    keep_seed(tmp_path, "rmiov2", 0, 0.4)
    keep_seed(tmp_path, "mappo", 0, 0.3, steps=62_000 * 31 - 2_000)
    auc, _ = verdict(list(read_methods(tmp_path)), "rmiov2")
    assert (
        "No other method has a higher mean." in auc
        and "mappo (0.30 after 31 times as many environment steps, one seed)" in auc
    )
    assert verdict(list(read_methods(tmp_path)), "another") == []
    assert verdict([m for m in read_methods(tmp_path) if m.agent == "rmiov2"], "rmiov2") == []


def test_the_page_sets_the_run_and_its_kept_seeds_beside_the_others(tmp_path: Path) -> None:
    root = write_run(tmp_path, "smax")
    kept, evaluate = root / "docs/seeds", json.loads((root / "metrics/evaluate.json").read_text())
    for seed, level in enumerate((0.1, 0.2)):
        keep_seed(kept, "mappo", seed, level, steps=2_000_000)
    keep_seed(kept, "rmio", 0, 0.3, l_rec=True)
    keep_seed(kept, "qmix", 0, 0.3, env="smax/another")
    for seed, steps in ((0, 60_000), (1, 61_000), (2, 90_000)):  # the run's own, one trained alike, one trained longer
        keep_seed(kept, "rmiov2", seed, 0.5, steps=steps, l_rec=seed == 1)
    text = build(root, root / "reports", CELLS).read_text(encoding="utf-8")
    links = {str(link["download"]): embedded(link["href"]) for link in Reader(text).all("a") if "download" in link}
    rows = list(csv.DictReader(io.StringIO(links["methods.csv"].decode())))
    assert {(row["agent"], row["seed"]) for row in rows} == {
        ("rmiov2", "0"), ("rmiov2", "1"), ("mappo", "0"), ("mappo", "1"), ("rmio", "0")
    }  # fmt: skip
    own = [row for row in rows if (row["agent"], row["mode"], row["seed"]) == ("rmiov2", "completion", "0")]
    assert [float(row["win_rate"]) for row in own] == evaluate["performance"]["completion"]
    assert text.count("with rmiov2 (blue) in every panel") == 2
    assert f"mappo {number(0.15)} (2{Y}002{Y}000 environment steps, 2 seeds)" in text
    errors = list(csv.DictReader(io.StringIO(links["methods_l_rec.csv"].decode())))
    assert {(row["agent"], row["seed"]) for row in errors} == {("rmiov2", "0"), ("rmiov2", "1"), ("rmio", "0")}
    assert len(list(csv.DictReader(io.StringIO(links["methods_learning.csv"].decode())))) == 30 + 4 * 2
    assert "Mean AUC of rmiov2" in text and 'id="beside-table-1"' in text


def test_a_run_is_of_the_processor_of_the_kept_team_that_played_the_same(tmp_path: Path) -> None:
    """It gives way to the run, and the team that another processor trained of that seed stays beside it."""
    root = write_run(tmp_path, "smax")
    kept = root / "docs/seeds"
    keep_seed(kept, "rmiov2", 0, 0.5, l_rec=True)
    alike = shutil.copytree(kept / "smax-3m-rmiov2/seed-0", kept / "smax-3m-rmiov2/seed-0-AVX2")
    made = {"ablation": "none", "scale": "small", "changes": {}, "instead": {}, "settings": {}, "commit": ""}
    write_json(alike / "variant.json", made | {"machine": {"processor": "AVX2"}})
    assert [seed.pair for seed in own_method(read_results(root, CELLS)).seeds] == [(0, "")]
    shutil.copy(root / "metrics/evaluate.json", alike / "evaluate.json")
    assert [seed.pair for seed in own_method(read_results(root, CELLS)).seeds] == [(0, "AVX2"), (0, "")]


def test_l_rec_is_drawn_of_those_that_have_it_and_not_of_one_alone(tmp_path: Path) -> None:
    for agent, reconstructs in (("rmiov2", True), ("rmio", True), ("mappo", False)):
        keep_seed(tmp_path, agent, 0, 0.3, l_rec=reconstructs)
    found = {method.agent: method for method in read_methods(tmp_path)}
    with styled():
        picture = l_rec_picture(list(found.values()), looks(list(found)))
        assert l_rec_picture([found["rmio"], found["mappo"]], looks(list(found))) is None
    assert picture is not None
    points = [f"{agent},0,{point}" for agent in ("rmio", "rmiov2") for point in ("0.0,4.0", "1500.0,1.0")]
    assert picture.data.decode().splitlines() == ["agent,seed,update,l_rec", *points]


@pytest.mark.parametrize("others", [1, 2, 5, 7])
def test_every_other_method_has_a_panel_and_the_lowest_of_each_column_name_its_axis(others: int) -> None:
    names = ["rmiov2", *(f"other {k}" for k in range(others))]
    methods = [Method(name, ()) for name in names]
    shown: list[tuple[Any, list[str]]] = []

    def draw(axes: Any, pair: Sequence[Method]) -> None:
        shown.append((axes, [method.agent for method in pair]))

    with styled():
        wide, narrow = side_by_side(methods, looks(names), draw, "win rate", "p_loss", sharex=True)
    assert [pair for _, pair in shown] == [["rmiov2", name] for name in names[1:]] * 2
    assert [axes.get_title(loc="left") for axes, _ in shown] == names[1:] * 2
    for half, columns in ((shown[:others], min(4, others)), (shown[others:], min(2, others))):
        assert [bool(axes.get_xlabel()) for axes, _ in half] == [k + columns >= others for k in range(others)]
        assert [bool(axes.get_ylabel()) for axes, _ in half] == [k % columns == 0 for k in range(others)]
        assert len(half[0][0].figure.axes) == others
    assert wide != narrow


def test_no_method_goes_without_a_look_of_its_own() -> None:
    names = [f"method {i}" for i in range(2 * len(CYCLE) + 1)]
    found = looks(names)
    assert list(found) == names and len({(look["color"], look["marker"]) for look in found.values()}) == len(names)


def test_seeds_of_one_study_play_one_game(tmp_path: Path) -> None:
    keep_seed(tmp_path, "mappo", 0, 0.3)
    keep_seed(tmp_path / "other", "mappo", 1, 0.3, env="smax/8m")
    shutil.move(tmp_path / "other/smax-8m-mappo/seed-1", tmp_path / "smax-3m-mappo/seed-1")
    with pytest.raises(UserError, match="its seeds differ"):
        list(read_methods(tmp_path))


def test_messages_are_counted_per_step_of_the_agents_own_answer_under_the_headline_measure() -> None:
    rows = [("zeros", "lost", 0.5, 10, 5, 100), ("zeros", "lost", 0.5, 20, 40, 100), ("zeros", "lost", 0.0, 10, 1, 1),
            ("zeros", "true", 0.5, 10, 999, 999), ("zeros_untuned", "lost", 0.5, 10, 999, 999)]  # fmt: skip
    frame = pandas.DataFrame(rows, columns=["mode", "availability", "p_loss", "length", "messages", "bytes"])
    assert communication(frame) == {"p_loss": [0.0, 0.5], "messages": [0.1, 1.25], "bytes": [0.1, 7.5]}


PLAYS = {"rmiov2": ("model", "actor"), "rmio": ("model", "actor", "correction"), "mamba": ("model", "actor"),
         "mag": ("model", "actor"), "gawm": ("actor",), "mappo": ("actor",), "facmac": ("actor",),
         "qmix": ("online.agents",)}  # fmt: skip


@pytest.mark.parametrize("name", AGENTS)
def test_parameters_are_those_of_the_live_agent(tmp_path: Path, name: str) -> None:
    config = composed("env=toy_lights", "preset=toy", f"agent={'facmac_discrete' if name == 'facmac' else name}")
    env = make_env("toy/lights", 1)
    agent = make_agent(config, env.spec)
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, {"agent": dict(agent.state_dict())}, config=config, spec=env.spec)
    networks = {part: module for part, module in vars(agent).items() if isinstance(module, nn.Module)}

    def live(module: nn.Module) -> int:
        return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)

    cost = {"messages": [agent.talk()[0]], "parameters": parameters(path)}
    assert trained(cost) == sum(map(live, networks.values()))
    whole = nn.ModuleDict(networks)
    assert played(cost, agent.own_mode) == sum(live(whole.get_submodule(part)) for part in PLAYS[name])


def finished(root: Path, seed: int = 0) -> Path:
    """A workspace whose study has ended: a run's files, its settings and a team."""
    write_run(root, "smax")
    config = composed("env=toy_lights", "preset=toy")
    env = make_env("toy/lights", 1)
    state = {"agent": dict(make_agent(config, env.spec).state_dict())}
    checkpoint.save(root / "models/finetune/checkpoint.safetensors", state, config=config, spec=env.spec)
    agent = {"name": "rmiov2", "rate": 1e-5}  # a number that DVC writes otherwise
    settings = {"env": {"name": "smax/3m"}, "agent": agent, "seed": seed, "preset": "small"}
    (root / "params.yaml").write_text(yaml.safe_dump(settings))
    ran = {stage: {"params": {"params.yaml": dict(settings)}} for stage in STAGES}
    dump_yaml(root / "dvc.lock", {"stages": ran})
    return root


def test_a_finished_workspace_is_kept_without_a_stage_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds, "SEEDS", tmp_path / "kept")
    root = finished(tmp_path / "workspace")
    assert seeds.keep_finished([root]) == [tmp_path / "kept/smax-3m/seeds.png"]
    (method,) = read_methods(tmp_path / "kept")
    (seed,) = method.seeds
    episodes = pandas.read_parquet(root / "results/episodes.parquet")
    assert seed.costs == costs(episodes, root / "models/finetune/checkpoint.safetensors")
    assert seed.l_rec is not None and seed.l_rec["update"].tolist() == list(range(0, 1501, 100))
    assert seed.moment == telling_moment(json.loads((root / "results/scene.json").read_text()))


def test_stress_is_kept_of_the_team_that_was_put_under_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a clone in which that stage has not run lies the commit's."""
    monkeypatch.setattr(seeds, "SEEDS", tmp_path / "kept")
    root = finished(tmp_path / "workspace")
    told = write_stress(root)
    lock = load_yaml(root / "dvc.lock")
    lock["stages"]["finetune"]["outs"] = [{"path": "models/finetune", "md5": "ours"}]
    for team, kept in (("another", None), ("ours", told)):
        lock["stages"]["stress"] = {"deps": [{"path": "models/finetune", "md5": team}]}
        dump_yaml(root / "dvc.lock", lock)
        seeds.keep_finished([root])
        ((seed,),) = (method.seeds for method in read_methods(tmp_path / "kept"))
        assert seed.stress == kept and seed.scene is not None


def test_what_another_run_left_in_a_workspace_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "SEEDS", tmp_path / "kept")
    root = finished(tmp_path / "workspace", seed=1)  # the metrics are those of the commit, whose seed is 0
    with pytest.raises(UserError, match=r"episodes.parquet is of .* expected \('smax/3m', 'rmiov2', 1\)"):
        seeds.keep_finished([root])
    (root / "plots/learning.csv").unlink()
    with pytest.raises(UserError, match=r"no plots/learning.csv: its study has not finished"):
        seeds.keep_finished([root])
    assert not (tmp_path / "kept").exists()


def test_what_other_settings_left_in_a_workspace_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics of an ablation look like those of the whole method with its seed."""
    monkeypatch.setattr(seeds, "SEEDS", tmp_path / "kept")
    root = finished(tmp_path / "workspace")
    with (root / "params.yaml").open("a") as settings:
        settings.write("finetune: {lr: 0.0}\n")
    seeds.keep_finished([root])  # a setting that no stage of these reads
    lock = load_yaml(root / "dvc.lock")
    lock["stages"]["finetune"]["params"]["params.yaml"]["finetune"] = {"lr": 0.5}
    dump_yaml(root / "dvc.lock", lock)
    with pytest.raises(UserError, match=r"finetune ran with finetune.lr = 0.5, expected 0.0"):
        seeds.keep_finished([root])


def test_measured_updates_stand_in_the_row_of_their_method(tmp_path: Path) -> None:
    rows = methods(Effort(1, 1e-3), ("toy/lights",), "toy")
    assert [row.what for row in rows] == [f"{a}, toy/lights, toy" for a in ("rmiov2", "rmio", "gawm", "mamba", "mag")]
    assert all(value > 0 for row in rows for value in row.numbers.values())
    known = Row("rmio, smax/3m, small", "", "", numbers={"model_ms": 100.0, "masked_ms": 20.5, "policy_ms": 1500.0})
    write_json(tmp_path / TIMES, {"machine": {}, "benches": {"methods": [known.record()]}})
    keep_seed(tmp_path, "rmio", 0, 0.3, l_rec=True)
    assert cells_of(tmp_path, "rmio")["ms per update"] == f"100 / 20.5 / 1{Y}500"


def test_the_pages_stage_depends_on_all_that_it_reads() -> None:
    assert "      - models/finetune\n" in paths.DVC_YAML.read_text().split("\n  report:\n")[1]
