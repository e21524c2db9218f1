"""Of methods whose curves fall, every cell and sentence is of its own rate, mode and measure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy
from synthetic_run import GRID
from test_methods import keep_seed
from test_variants import kept_family, of_kept

from rmiov2.files import write_json
from rmiov2.reporting.estimates import Estimate, Sample, by_seed, difference, holm
from rmiov2.reporting.kept import Method, alike, read_methods
from rmiov2.reporting.methods.reached import after_steps, by_updates, performances, seed_curves, shares_kept, told
from rmiov2.reporting.methods.summary import summary
from rmiov2.reporting.methods.table import methods_tables, verdict
from rmiov2.reporting.pages.paper import overview, read_tasks
from rmiov2.reporting.tables import Cell
from rmiov2.reporting.variants.findings import findings_table, reproduced_table
from rmiov2.reporting.variants.worth import MEASURES
from rmiov2.types import UserError

FALLING = np.array([0.95, 0.82, 0.71, 0.55, 0.33, 0.12])
OTHERS = {"zeros_untuned": FALLING - [0.02, 0.2, 0.3, 0.3, 0.25, 0.1], "open_loop": np.linspace(0.2, 0.25, 6)}
APART = (-0.02, 0.0, 0.04)  # of three seeds
EDGE = 0.001  # half of an interval over episodes at p_loss 0; at others more


def keep_falling(kept: Path, agent: str = "rmiov2", lift: float = 0.0, **others: Any) -> Method:
    """Three seeds whose curves fall over p_loss, higher with the true masks; others: curves in place of OTHERS."""
    for seed, shift in enumerate(APART):
        keep_seed(kept, agent, seed, 0.5)
        path = kept / f"smax-3m-{agent}/seed-{seed}/evaluate.json"
        curves = {"zeros": FALLING + lift, **OTHERS, **{mode: np.asarray(curve) for mode, curve in others.items()}}
        made = {mode: curve + shift for mode, curve in curves.items()}
        masked = {mode: made[mode] + 0.03 for mode in ("zeros", "zeros_untuned")}
        block = json.loads(path.read_text()) | block_of(made)
        write_json(path, block | {"true_availability": block_of(masked)})
    (found,) = (method for method in read_methods(kept) if method.agent == agent)
    return found


def block_of(curves: dict[str, Any]) -> dict[str, Any]:
    """Of the curves, with intervals that widen over p_loss; an area is as wide as four."""
    edges = EDGE * np.arange(1, len(GRID) + 1)
    areas = {mode: float(np.trapezoid(curve, GRID)) for mode, curve in curves.items()}
    return {
        "performance": {mode: curve.tolist() for mode, curve in curves.items()}, "auc": areas,
        "ci95": {mode: np.stack([curve - edges, curve + edges], -1).tolist() for mode, curve in curves.items()},
        "auc_ci95": {mode: [area - 4 * EDGE, area + 4 * EDGE] for mode, area in areas.items()},
    }  # fmt: skip


def students(values: Sequence[float]) -> str:
    """A mean and its interval over seeds, as the textbooks have it and as it is read of a win rate."""
    low, high = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    return f"{np.mean(values):.2f} [{max(low, 0):.2f}, {min(high, 1):.2f}]"


def read(cell: Cell) -> str:
    return f"{cell.text} {cell.bounds}".strip()


def test_every_column_is_of_its_own_rate_mode_and_measure(tmp_path: Path) -> None:
    method = keep_falling(tmp_path)
    over, rates = (
        dict(zip(table.head[1:], map(read, table.rows[0].cells), strict=True))
        for table in methods_tables([method], {})[:2]
    )
    played = [seed.evaluate for seed in method.seeds]
    by_rate = [students([of["performance"]["zeros"][index] for of in played]) for index in range(len(GRID))]
    shares = students([of["auc"]["zeros"] / of["performance"]["zeros"][0] for of in played])
    heads = (*(f"p_loss {rate:g}" for rate in GRID), "AUC ÷ p_loss 0")
    assert rates == dict(zip(heads, [*by_rate, shares], strict=True))
    assert by_rate[0].endswith(", 1.00]"), "more than all cannot be won"
    after = over.pop("p_loss 0 after 60\u202f000 steps"), over.pop("environment steps")
    assert after == ("0.50 [0.21, 0.79]", "60\u202f000 + 2\u202f000")  # as sure as 64 episodes: 0.5 / sqrt(3)
    assert over == {
        "AUC": students([of["auc"]["zeros"] for of in played]), "p_loss 0": by_rate[0],
        "AUC, true mask": students([of["true_availability"]["auc"]["zeros"] for of in played]),
        "AUC by seed": ", ".join(f"{of['auc']['zeros']:.2f}" for of in played),
        "AUC, not fine-tuned": students([of["auc"]["zeros_untuned"] for of in played]),
        "p_loss 0, not fine-tuned": students([of["performance"]["zeros_untuned"][0] for of in played]),
        "AUC, open loop": f"{np.mean([of['auc']['open_loop'] for of in played]):.2f}",
    }  # fmt: skip
    assert len({*over.values(), *by_rate}) == len({*over, *heads[:-1]}), "any two that were swapped would be seen"


def test_a_summary_has_what_is_won_with_nothing_lost_and_over_all_rates(tmp_path: Path) -> None:
    method = keep_falling(tmp_path)
    table = summary([[method]], "rmiov2")
    played = [seed.evaluate for seed in method.seeds]
    assert table.head[1:3] == ("smax/3m: win rate at p_loss 0", "smax/3m: AUC")
    sights, areas = [of["performance"]["zeros"][0] for of in played], [of["auc"]["zeros"] for of in played]
    assert [read(cell) for cell in table.rows[0].cells[:2]] == [students(sights), students(areas)]


def test_who_leads_with_nothing_lost_is_not_who_leads_over_all_rates(tmp_path: Path) -> None:
    """The other starts 0.35 below and does not fall; with the true masks all is 0.03 more."""
    own = keep_falling(tmp_path)
    other = keep_falling(tmp_path, "level", zeros=[0.6] * len(GRID))
    areas, masked, sights = verdict([own, other], "rmiov2")
    mean = float(np.mean([seed.evaluate["auc"]["zeros"] for seed in own.seeds]))
    assert areas.startswith(f"Mean AUC of rmiov2: {mean:.2f}") and "Undecided, with a higher mean: level (0.61" in areas
    assert masked.startswith(f"Mean true-mask AUC of rmiov2: {mean + 0.03:.2f}") and "level (0.64" in masked
    assert sights.startswith("Mean performance at p_loss 0 of rmiov2: 0.96 [0.88, 1.00]")
    low, high = scipy.stats.ttest_ind(
        0.95 + np.array(APART), 0.6 + np.array(APART), equal_var=False
    ).confidence_interval()
    assert f"It is ahead of level (0.61, lead 0.35 [{low:.2f}, {high:.2f}])" in sights


def test_who_is_undecided_with_a_higher_mean_has_one_and_the_highest_is_first(tmp_path: Path) -> None:
    for agent, level in (("rmiov2", 0.4), ("alpha", 0.5), ("beta", 0.9), ("gamma", 0.7)):
        keep_seed(tmp_path, agent, 0, level)
    said, _ = verdict(list(read_methods(tmp_path)), "rmiov2")
    order = "beta (0.90, one seed), gamma (0.70, one seed) and alpha (0.50, one seed)"
    assert said == f"Mean AUC of rmiov2: 0.40 (one seed). Undecided, with a higher mean: {order}."


def test_only_of_wins_of_every_seed_a_share_is_kept_and_only_where_all_were_told_they_were(tmp_path: Path) -> None:
    method = keep_falling(tmp_path)
    shares = [float(np.trapezoid(FALLING + shift, GRID) / (FALLING[0] + shift)) for shift in APART]
    kept = shares_kept(method, "zeros")
    assert kept is not None and kept.values == pytest.approx(shares)
    bounds = [seed.evaluate["auc_ci95"]["zeros"] for seed in method.seeds]
    luck = [(hi - lo) / 2 / (FALLING[0] + shift) for (lo, hi), shift in zip(bounds, APART, strict=True)]
    assert kept.half_widths == pytest.approx(luck) and min(luck) > 0
    whole = told(method)
    assert whole is not None and performances(whole, "zeros", 0).values == pytest.approx(0.98 + np.array(APART))
    first, *rest = method.seeds
    curves = {**first.evaluate["performance"], "zeros": [0.0] * len(GRID)}
    for change in ({"performance": curves}, {"measure": "step_return"}, {"true_availability": None}):
        other = replace(method, seeds=(replace(first, evaluate={**first.evaluate, **change}), *rest))
        assert (shares_kept(other, "zeros") is None) == ("true_availability" not in change)
        assert (told(other) is None) == ("true_availability" in change)


def test_returns_are_read_with_three_digits_of_the_smallest(tmp_path: Path) -> None:
    for agent, level in (("mappo", 5.0), ("rmiov2", 0.05)):
        keep_seed(tmp_path, agent, 0, level)
        path = tmp_path / f"smax-3m-{agent}/seed-0/evaluate.json"
        write_json(path, json.loads(path.read_text()) | {"measure": "step_return"})
    over, rates, _ = methods_tables(list(read_methods(tmp_path)), {})
    assert [[row.cells[0].text for row in table.rows] for table in (over, rates)] == [["5.0000", "0.0500"]] * 2


def test_measures_of_a_seed_come_with_their_own_luck_of_the_episodes(tmp_path: Path) -> None:
    seed = keep_falling(tmp_path).seeds[1]
    areas = [np.trapezoid(FALLING + lift, GRID) for lift in (0.0, 0.03)]
    assert MEASURES["AUC"](seed) == pytest.approx((areas[0], 4 * EDGE))
    assert MEASURES["AUC, true availability"](seed) == pytest.approx((areas[1], 4 * EDGE))
    assert MEASURES["performance with nothing lost"](seed) == pytest.approx((FALLING[0], EDGE))


def test_performance_at_a_rate_has_the_luck_of_that_rate(tmp_path: Path) -> None:
    method = keep_falling(tmp_path)
    for index in (0, 3, -1):
        found = performances(method, "zeros", index)
        assert found.values == pytest.approx([FALLING[index] + shift for shift in APART])
        assert found.half_widths == pytest.approx([EDGE * (index % len(GRID) + 1)] * 3)


@pytest.mark.parametrize(
    ("key", "value"),
    [("p_loss", [0.0, 0.1, 0.2, 0.3, 0.4, 1.0]), ("env", "smax/8m"), ("measure", "step_return"), ("agent", "rmio")],
)
def test_seeds_of_one_study_are_of_one_task_over_one_grid(tmp_path: Path, key: str, value: Any) -> None:
    method = keep_falling(tmp_path)
    assert alike(method, method.seeds[0].evaluate)
    if key != "agent":
        assert not alike(method, {**method.seeds[0].evaluate, key: value})
    path = tmp_path / "smax-3m-rmiov2/seed-2/evaluate.json"
    write_json(path, json.loads(path.read_text()) | {key: value})
    with pytest.raises(UserError, match="its seeds differ in env, measure, agent or grid of p_loss"):
        list(read_methods(tmp_path))


def told_of(kept: Path) -> dict[str, str]:
    """The overview of the paper's experiments, by the place in the paper."""
    (task,) = read_tasks(kept, "rmiov2", {})
    (table,) = overview([task]).tables
    return {row.name: row.cells[1].text for row in table.rows}


def test_an_experiment_is_judged_by_its_own_measure(tmp_path: Path) -> None:
    """Before fine-tuning and with nothing lost ours is ahead, over all rates behind, and blind below its open loop."""
    dark = np.array([0.9, 0.3, 0.2, 0.1, 0.1, 0.05])
    keep_falling(tmp_path, zeros=dark, open_loop=[0.3] * len(GRID))
    keep_falling(tmp_path, "mappo", zeros_untuned=[0.5] * len(GRID))
    found = told_of(tmp_path)
    assert found["figure 7"] == "ahead of 1, behind 0, undecided with 0"
    assert found["figure 8"] == "ahead of 0, behind 1, undecided with 0"
    blind = students([dark[-1] + shift for shift in APART])
    assert found["figure 8, p_loss 1"] == f"not confirmed: {blind}, open loop {0.3 + np.mean(APART):.2f}"


def test_a_lead_on_open_loop_is_no_surer_than_the_episodes_in_which_nobody_sees(tmp_path: Path) -> None:
    """It is 0.002 in every seed; the luck of those episodes is 0.006 / sqrt(3), and with nothing lost a sixth of it."""
    keep_falling(tmp_path, zeros=[0.9, 0.3, 0.2, 0.1, 0.1, 0.302], open_loop=[0.3] * len(GRID))
    assert told_of(tmp_path)["figure 8, p_loss 1"].startswith("undecided: 0.31 [")


def test_l_rec_of_whoever_is_slower_than_rmio_is_not_sooner_down(tmp_path: Path) -> None:
    for agent, updates in (("rmiov2", (600, 700, 800)), ("rmio", (100, 110, 120)), ("mamba", (10, 10, 10))):
        for seed, update in enumerate(updates):
            keep_seed(tmp_path, agent, seed, 0.3, l_rec=True)
            path = tmp_path / f"smax-3m-{agent}/seed-{seed}/finetune.csv"
            path.write_text(f"update,l_rec\n0,4\n5,1.4\n{update},1.25\n2000,1\n3000,1.2\n")
    assert (
        told_of(tmp_path)["figure 9"] == "not confirmed: nine tenths of the way within 700 updates, RMIO’s within 110"
    )
    own = next(method for method in read_methods(tmp_path) if method.agent == "rmiov2")
    assert by_updates(own) == Sample((600, 700, 800), (0, 0, 0))


def test_between_two_evaluations_it_is_between_their_numbers_and_before_and_after_nothing_is_known(
    tmp_path: Path,
) -> None:
    keep_seed(tmp_path, "rmiov2", 0, 0.4, steps=10_000)
    path = tmp_path / "smax-3m-rmiov2/seed-0/learning.csv"
    path.write_text("env_steps,performance,lo,hi,episodes\n2000,0.1,0,0.2,64\n4000,0.3,0.2,0.6,64\n10000,0,0,0.4,64\n")
    (method,) = read_methods(tmp_path)
    known = {steps: after_steps(method, steps) for steps in (2000, 3000, 4000, 7000, 10_000)}
    assert all(found is not None for found in known.values())
    values = [(found.values[0], found.half_widths[0]) for found in known.values() if found]
    assert np.array(values) == pytest.approx(np.array([(0.1, 0.1), (0.2, 0.15), (0.3, 0.2), (0.15, 0.2), (0.0, 0.2)]))
    assert after_steps(method, 1999) is after_steps(method, 10_001) is None


def test_a_seed_that_was_trained_twice_is_one_curve_and_half_as_much_luck() -> None:
    found = by_seed([3, 1, 3, 3], [0.3, 0.8, 0.6, 0.9], [0.06, 0.01, 0.03, 0.06])
    assert found.values == pytest.approx((0.6, 0.8)) and found.half_widths == pytest.approx((0.03, 0.01))


def test_curves_are_one_for_each_seed(tmp_path: Path) -> None:
    method = keep_falling(tmp_path)
    twice = Method(method.agent, (*method.seeds, keep_falling(tmp_path / "more", lift=0.1).seeds[1]))
    expected = [FALLING + APART[0], FALLING + APART[1] + 0.05, FALLING + APART[2]]
    assert seed_curves(twice, "zeros") == pytest.approx(np.array(expected))


def test_holms_values_end_at_one_and_never_fall() -> None:
    found = holm({name: Estimate(0.0, (0.0, 0.0), p) for name, p in (("a", 0.6), ("b", 0.01), ("c", 0.4), ("d", 0.45))})
    assert found == pytest.approx({"b": 0.04, "c": 1.0, "d": 1.0, "a": 1.0})
    assert list(found) == ["b", "c", "d", "a"]


def test_where_seeds_agree_p_is_of_the_luck_of_the_episodes_with_all_their_freedom() -> None:
    one, other = Sample((0.5, 0.5, 0.5), (0.09,) * 3), Sample((0.4, 0.4), (0.0, 0.0))
    luck = 0.09 / 3**0.5
    found = difference(one, other)
    assert found.bounds == pytest.approx((0.1 - luck, 0.1 + luck))
    t = scipy.stats.t(3)
    assert found.p == pytest.approx(2 * t.sf(0.1 / luck * t.ppf(0.975)))


def test_our_results_stand_beside_the_papers_each_in_its_own_column(tmp_path: Path) -> None:
    levels, parts = {"none": [0.50, 0.52, 0.54], "no_fusion": [0.2, 0.3, 0.9]}, (0.1, 0.2, 0.6)
    kept_family(tmp_path, levels)
    for seed, after in enumerate(parts):
        path = tmp_path / f"smax-3m+no_fusion/seed-{seed}/finetune.json"
        write_json(path, json.loads(path.read_text()) | {"l_rec": {"before": 4.0, "after": after}})
    found = of_kept(tmp_path)
    rows = {row.name: list(map(read, row.cells)) for row in reproduced_table(found).rows}
    assert rows["no fusion"][:2] == ["3", students(levels["no_fusion"])]
    high = scipy.stats.ttest_1samp(parts, 0).confidence_interval().high
    assert rows["no fusion"][2] == f"0.300 [0.000, {high:.3f}]"
    assert rows["no fusion"][3:] == ["0.081 / 0.254", "0.073 / 0.246", "0.139 / 1.534", "0.067 / 2.032"]
    assert rows["no action fusion"][:3] == ["–"] * 3 and rows["no action fusion"][3] == "0.681 / 0.151"
    (row,) = (row for row in findings_table(found).rows if row.name == "table 1, AUC: whole method above no fusion")
    assert [cell.text for cell in row.cells[3:]] == ["0.300, 0.220, −0.360", "0.546 to 0.857"]
    assert row.cells[1].value == pytest.approx(np.subtract(levels["none"], levels["no_fusion"]).mean())
