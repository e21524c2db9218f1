"""What figures, tables and captions say of a run are its own numbers: of that mode, rate, side and end, no other."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_run import CELLS, GRID, robot_scene, smax_scene, write_run, write_stress

from rmiov2.reporting.run import ablation_figure, training_figures
from rmiov2.reporting.run import figures as result_figures
from rmiov2.reporting.run.ablation_figure import ablation_picture
from rmiov2.reporting.run.figures import auc_picture, cost_picture, performance_picture, true_availability_picture
from rmiov2.reporting.run.results import Results, read_results
from rmiov2.reporting.run.tables import result_table, stage_rows
from rmiov2.reporting.run.training_figures import (
    exploration_picture,
    finetune_picture,
    imagination_picture,
    learning_picture,
    losses_picture,
)
from rmiov2.reporting.scene import figures as scene_figures
from rmiov2.reporting.scene.figures import SERIES_STEPS, error_picture, reward_picture, series_picture
from rmiov2.reporting.stress import figures as stress_figure
from rmiov2.reporting.stress.figures import stress_pictures, stress_table
from rmiov2.reporting.stress.seeds import over_the_seeds
from rmiov2.reporting.style import Picture, styled
from rmiov2.reporting.tables import Cell
from rmiov2.reporting.words import MODE_NAMES, significant

Y = "\u202f"  # between thousands


@pytest.fixture(scope="module", autouse=True)
def undrawn() -> Iterator[None]:
    """Only what is said of the pictures is read here."""
    with pytest.MonkeyPatch.context() as patch, styled():
        for module in (ablation_figure, result_figures, scene_figures, stress_figure, training_figures):
            patch.setattr(module, "png", lambda _: b"")
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(write_run(tmp_path_factory.mktemp("run")), CELLS)


@pytest.fixture
def stress(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "metrics").mkdir()
    return write_stress(tmp_path)


def rows_of(picture: Picture | None) -> list[dict[str, str]]:
    assert picture is not None
    return list(csv.DictReader(io.StringIO(picture.data.decode())))


def numbers_of(picture: Picture | None, *names: str) -> list[tuple[float, ...]]:
    return [tuple(float(row[name]) for name in names) for row in rows_of(picture)]


def said(value: float, bounds: tuple[float, float] | list[float] | None = None) -> str:
    """As a win rate is read."""
    return (f"{value:.2f}" + (f" [{bounds[0]:.2f}, {bounds[1]:.2f}]" if bounds else "")).replace("-", "−")


def read(cell: Cell) -> str:
    return f"{cell.text} {cell.bounds}".strip()


def curve_of(block: Mapping[str, Any], over: str, grid: list[float]) -> dict[str, list[tuple[float, ...]]]:
    """By mode: rate or length, value, and the ends of its interval."""
    return {
        mode: [(x, block[over][mode][i], *block["ci95"][mode][i]) for i, x in enumerate(grid)]
        for mode in block["performance"]
    }


def test_a_curve_has_the_numbers_of_its_own_measure(results: Results) -> None:
    told, true = results.evaluate, results.evaluate["true_availability"]
    for picture, block in ((performance_picture(told), told), (true_availability_picture(told), true)):
        rows = rows_of(picture)
        found = {
            mode: [tuple(map(float, list(row.values())[1:])) for row in rows if row["mode"] == mode]
            for mode in block["performance"]
        }
        assert found == curve_of(block, "performance", GRID)


def test_the_captions_of_curves_are_of_six_tenths_and_of_everything_lost(results: Results) -> None:
    told, true = results.evaluate, results.evaluate["true_availability"]
    middle = "; ".join(f"{MODE_NAMES[m]} {said(curve[GRID.index(0.6)])}" for m, curve in told["performance"].items())
    assert f"At p_loss 0.6: {middle}." in performance_picture(told).caption
    warned = true_availability_picture(told)
    assert warned is not None
    for mode in ("zeros", "last_seen", "completion"):
        both = [said(block["performance"][mode][-1]) for block in (true, told)]
        assert f"{MODE_NAMES[mode]} {both[0]} with it, {both[1]} without" in warned.caption


def test_an_area_is_told_of_the_measure_that_it_is_of(results: Results) -> None:
    told = results.evaluate
    picture = auc_picture(told)
    blocks = {"lost": told, "true": told["true_availability"]}
    found = {(row["availability"], row["mode"]): row for row in rows_of(picture)}
    assert {key: [float(row[name]) for name in ("auc", "lo", "hi")] for key, row in found.items()} == {
        (name, mode): [area, *block["auc_ci95"][mode]] for name, block in blocks.items() for mode, area in
        block["auc"].items()
    }  # fmt: skip
    area, best = max((area, mode) for mode, area in told["auc"].items())
    assert f"Largest: {MODE_NAMES[best]} with {said(area, told['auc_ci95'][best])}" in picture.caption


def test_the_band_of_a_cost_is_the_middle_nine_tenths_of_the_episodes(results: Results) -> None:
    episodes = results.episodes.assign(messages=results.episodes["messages"].where(results.episodes["p_loss"] < 1, 0))
    picture = cost_picture(episodes, wide=False)
    assert picture is not None
    played = episodes[episodes["mode"] == "completion"]
    highest = {}
    for quantity, unit in (("messages", "messages"), ("bytes", "bytes")):
        for row in (row for row in rows_of(picture) if row["quantity"] == quantity):
            own = played[played["p_loss"] == float(row["p_loss"])]
            each = own[quantity] / own["length"]
            expected = [each.mean(), *np.quantile(each, (0.05, 0.95))]
            assert [float(row[name]) for name in ("per_step", "p05", "p95")] == pytest.approx(expected)
            highest[each.mean(), unit] = row["p_loss"]
        (value, _), rate = max(item for item in highest.items() if item[0][1] == unit)
        assert f"{significant(value)} {unit} (at p_loss {float(rate):g})" in picture.caption


def test_a_column_of_a_table_has_its_own_intervals_and_marks_its_largest(results: Results) -> None:
    told = json.loads(json.dumps(results.evaluate))
    modes = list(told["performance"])
    for k, mode in enumerate(modes):
        told["performance"][mode][:2] = [0.801 + k / 2000, 0.5 + k / 10]  # a tie, as printed, and the last ahead
    table = result_table(told, told, "")
    for i, head in enumerate(table.head[1:]):
        values, bounds = (
            (told["auc"], told["auc_ci95"]) if head == "AUC" else
            ({m: told["performance"][m][i] for m in modes}, {m: told["ci95"][m][i] for m in modes})
        )  # fmt: skip
        cells = {mode: row.cells[i] for mode, row in zip(modes, table.rows, strict=True)}
        assert {mode: read(cell) for mode, cell in cells.items()} == {m: said(values[m], bounds[m]) for m in modes}
        texts = [cell.text for cell in cells.values()]
        largest = {mode for mode in modes if values[mode] == max(values.values())}
        marked = {mode for mode, cell in cells.items() if cell.best}
        assert marked == (largest if texts.count(max(texts, key=float)) == 1 else set())
    assert [[row.cells[i].best for row in table.rows] for i in (0, 1)] == [[False] * 5, [False] * 4 + [True]]


def test_every_stage_is_told_with_its_own_steps_updates_and_time(results: Results) -> None:
    found = {name: rest for name, *rest in stage_rows(results)}
    for name, metrics in (("pretrain", results.pretrain), ("finetune", results.finetune)):
        counts = [f"{metrics[key]:,}".replace(",", Y) for key in ("env_steps", "updates")]
        assert found[name] == [*counts, f"{metrics['wall_s'] / 60:.0f} min"]
    assert found["evaluate"][:2] == ["–", "–"]


def test_a_learning_curve_ends_where_its_last_point_is(results: Results) -> None:
    risen = results.learning.head(20).assign(performance=np.linspace(0.1, 0.8, 20))
    fallen = risen.assign(performance=risen["performance"].where(risen["env_steps"] != 30_000, 0.95))
    for table, peak in ((risen, ""), (fallen, f"; its best is 0.95 at 30{Y}000 steps")):
        first, last = table.iloc[0], table.iloc[-1]
        picture = learning_picture(table, results.evaluate)
        level = said(last["performance"], (last["lo"], last["hi"]))
        assert f"It ends at {level} after 40{Y}000 environment steps{peak}; random play" in picture.caption
        assert f"from {said(first['performance'])} to {said(last['performance'])}" in picture.alt


def ends(values: Any) -> tuple[str, str]:
    """The first and the last running median over a fifteenth of the rounds, cut off at either end."""
    window = len(values) // 15
    right, left = (window - 1) // 2, window // 2
    return significant(np.median(values[: right + 1])), significant(np.median(values[-left - 1 :]))


def test_what_was_imagined_and_what_was_lost_are_told_from_their_first_to_their_last_median(results: Results) -> None:
    table = results.pretraining
    imagined, losses = imagination_picture(table), losses_picture(table)
    assert imagined is not None and losses is not None
    promised, paid = (ends(table[f"{side}_return"].to_numpy()) for side in ("imagined", "real"))
    assert promised[0] != promised[1] and paid[0] != paid[1]
    assert f"At the end: {promised[1]} imagined, {paid[1]} real" in imagined.caption
    for name, column in (("observation", "loss_obs"), ("availability", "loss_avail"), ("KL", "loss_kl")):
        begun, final = ends(table[column].to_numpy())
        assert f"{name} {begun} to {final}" in losses.caption


def test_what_exploring_won_and_how_undecided_it_was_are_told_where_they_are_known(results: Results) -> None:
    rounds = np.arange(30)
    table = results.pretraining.head(30).assign(
        entropy=2.0 - 0.05 * rounds, won=np.where(rounds < 28, 0.9, [0.25] * 30)
    )
    picture = exploration_picture(table, results.evaluate)
    assert picture is not None
    first, last = ends(table["entropy"].to_numpy())
    assert f"from {first} to {last} nats. With the actions that it drew to explore, it won 0.25 of" in picture.caption
    robot = exploration_picture(table, results.evaluate | {"measure": "return_per_step"})
    assert robot is not None and robot.caption.endswith("nats.") and "won" not in robot.data.decode()
    assert exploration_picture(table.assign(entropy=np.nan), results.evaluate) is None
    assert exploration_picture(table.drop(columns="entropy"), results.evaluate) is None


def test_l_rec_goes_from_before_to_after(results: Results) -> None:
    picture = finetune_picture(results.finetuning, results.finetune)
    assert picture is not None
    assert f"it falls from 4.02 to 0.810 in 1{Y}500 masked updates" in picture.caption
    assert "4.02 before and 0.810 after" in picture.alt
    worse = finetune_picture(results.finetuning, {**results.finetune, "l_rec": {"before": 0.5, "after": 2.0}})
    assert worse is not None and "it goes from 0.500 to 2.00 in" in worse.caption


def test_what_masking_is_worth_has_the_numbers_of_its_cells(results: Results) -> None:
    picture = ablation_picture(list(reversed(results.ablate)), results.evaluate)
    assert picture is not None
    cells = sorted(results.ablate, key=lambda cell: float(cell["p_mask"]))
    expected = [(cell["p_mask"], cell["auc"], *cell["auc_ci95"], cell["l_rec"]["after"]) for cell in cells]
    assert numbers_of(picture, "p_mask", "auc", "lo", "hi", "l_rec") == expected
    told = "; ".join(f"{said(cell['auc'], cell['auc_ci95'])} at {cell['p_mask']:g}" for cell in cells)
    assert f"AUC by p_mask: {told}." in picture.caption and "L_rec on lost agents was 4.02 before." in picture.caption


def blind_in(scene: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(T, N) who is alive and blind, and who is alive and sees."""
    seen = np.array(scene["seen"])
    units = scene["map"]["units"] if scene["map"] else [[{"alive": True}] * seen.shape[1]] * len(seen)
    alive = np.array([[row[agent]["alive"] for agent in range(seen.shape[1])] for row in units])
    return alive & ~seen, alive & seen


@pytest.mark.parametrize("make", [smax_scene, robot_scene])
def test_errors_are_told_of_the_living_blind_and_of_those_who_see(make: Any) -> None:
    scene = make(np.random.default_rng(0))
    error = np.array(scene["error"]) + np.where(scene["seen"], 0.125, 0.0)
    blind, sighted = blind_in(scene)
    error[~blind & ~sighted] = 1000.0
    picture = error_picture({**scene, "error": error.tolist()})
    assert picture is not None
    told = f"on average {significant(error[blind].mean())} for agents that were blind, 0.125 for agents that saw"
    assert told in picture.caption
    assert numbers_of(picture, "step", "agent", "seen", "error") == [
        (t, n + 1, scene["seen"][t][n], error[t, n]) for t in range(len(error)) for n in range(error.shape[1])
    ]


@pytest.mark.parametrize("make", [smax_scene, robot_scene])
def test_a_series_is_told_with_the_error_of_the_steps_in_which_it_was_blind(make: Any) -> None:
    scene = make(np.random.default_rng(0))
    picture = series_picture(scene)
    assert picture is not None
    blind, _ = blind_in(scene)
    first = max(0, (len(blind) - SERIES_STEPS) // 2)
    window = slice(first, min(len(blind), first + SERIES_STEPS))
    agent = int(blind[window].sum(axis=0).argmax())
    steps = [t for t in range(window.start, window.stop) if blind[t, agent]]
    names = scene["series"]["names"][agent][:4]
    truth, guess = (np.array(scene["series"][side])[:, agent] for side in ("truth", "reconstruction"))
    apart = [np.mean([abs(truth[t, i] - guess[t, i]) for t in steps]) for i in range(len(names))]
    told = "; ".join(f"{name} {significant(float(value))}" for name, value in zip(names, apart, strict=True))
    assert f"Mean absolute error while blind: {told}." in picture.caption
    assert picture.caption.startswith(f"Agent {agent + 1}, steps {window.start} to {window.stop - 1}:")
    for i, name in enumerate(names):
        assert numbers_of(picture, "step", "seen", f"true_{name}", f"reconstructed_{name}") == [
            (t, not blind[t, agent], truth[t, i], guess[t, i]) for t in range(window.start, window.stop)
        ]


def test_rewards_are_told_as_paid_and_as_trend(results: Results) -> None:
    reward = {**results.scene["reward"], "trend": (2 * np.array(results.scene["reward"]["trend"])).tolist()}
    picture = reward_picture({**results.scene, "reward": reward})
    assert picture is not None
    paid, trend = (significant(sum(reward[name])) for name in ("raw", "trend"))
    assert f"sum to {paid} as paid and to {trend} as trend" in picture.caption
    assert f"half-width {min(reward['half_width'])} to {max(reward['half_width'])}" in picture.caption
    assert numbers_of(picture, "raw", "trend", "half_width") == list(
        zip(reward["raw"], reward["trend"], reward["half_width"], strict=True)
    )


def test_every_cell_under_stress_is_of_its_own_loss_and_length(stress: dict[str, Any]) -> None:
    gone, bursty, dark = (stress[name] for name in ("one_agent", "bursty", "blackout"))
    gone["ci95"] = {mode: [value - 0.01, value + 0.3] for mode, value in gone["performance"].items()}
    table, _, memories = stress_table(stress)
    assert table.caption.endswith(f"; {said(stress['full_sight']['performance'])} with nothing lost")
    lengths = [f"dark for {steps} step{'s' if steps > 1 else ''}" for steps in dark["steps"]]
    assert table.head[1:] == ("one agent gone for good", "in bursts, AUC", *lengths)
    for row, mode in zip(table.rows, dark["performance"], strict=True):
        values = [gone["performance"][mode], bursty["auc"][mode], *dark["performance"][mode]]
        bounds = [gone["ci95"][mode], bursty["auc_ci95"][mode], *dark["ci95"][mode]]
        assert list(map(read, row.cells)) == [said(*both) for both in zip(values, bounds, strict=True)]
    block = stress["memory"]
    for i, row in enumerate(memories.rows):
        values, bounds = [block["auc"][i], *block["performance"][i]], [block["auc_ci95"][i], *block["ci95"][i]]
        assert list(map(read, row.cells)) == [said(*both) for both in zip(values, bounds, strict=True)]


def test_what_is_drawn_under_stress_is_said_with_its_own_interval(stress: dict[str, Any]) -> None:
    blackout, bursty, memory = stress_pictures(stress)
    for picture, block, over in ((blackout, stress["blackout"], "steps"), (bursty, stress["bursty"], "p_loss")):
        curves = curve_of(block, "performance", block[over])
        assert numbers_of(picture, over, "win_rate", "lo", "hi") == sum(curves.values(), [])
    dark, areas, kept = stress["blackout"], stress["bursty"], stress["memory"]
    for mode, name in ((mode, MODE_NAMES[mode]) for mode in dark["performance"]):
        assert f"{name} {said(areas['auc'][mode], areas['auc_ci95'][mode])}" in bursty.caption
        first, *_, last = map(said, dark["performance"][mode])
        assert f"{name} {first} after 1, {last} after 20" in blackout.caption
    memories = list(enumerate(kept["history"]))
    told = "; ".join(f"{steps}: {said(kept['auc'][i], kept['auc_ci95'][i])}" for i, steps in memories)
    assert f"AUC by steps of memory: {told}." in memory.caption
    columns = ("history", "p_loss", "win_rate", "lo", "hi", "auc", "auc_lo", "auc_hi")
    assert numbers_of(memory, *columns) == [
        (steps, p, kept["performance"][i][j], *kept["ci95"][i][j], kept["auc"][i], *kept["auc_ci95"][i])
        for i, steps in memories
        for j, p in enumerate(kept["p_loss"])
    ]


def test_seeds_last_by_half_of_what_all_of_them_earn_with_nothing_lost(stress: dict[str, Any]) -> None:
    other = json.loads(json.dumps(stress))
    other["full_sight"] |= {"performance": 0.2, "usual_length": 30}
    both = over_the_seeds([(0, stress), (1, other)])
    sight, dark = (stress["full_sight"]["performance"] + 0.2) / 2, both["blackout"]
    assert both["full_sight"]["performance"] == pytest.approx(sight) and both["full_sight"]["usual_length"] == 25
    kept = {mode: [value >= sight / 2 for value in curve] for mode, curve in dark["performance"].items()}
    lasted = {mode: [0, *dark["steps"]][[*enough, False].index(False)] for mode, enough in kept.items()}
    assert {mode: found["steps"] for mode, found in dark["lasts"].items()} == lasted
    alone = over_the_seeds([(0, stress)])["blackout"]["lasts"]
    assert lasted["zeros"] == 2 and alone["zeros"]["steps"] == 1
