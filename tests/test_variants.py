"""Variants: told apart from methods, paired with the whole by seed; no finding of the paper counts that luck made."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_run import CELLS, smax_scene, write_run
from test_methods import keep_seed
from test_reporting import Reader, embedded

from pipelines import paper
from pipelines.paths import ROOT
from rmiov2.files import write_json
from rmiov2.reporting.kept import Method, read_kept, read_methods
from rmiov2.reporting.methods.reached import Estimate
from rmiov2.reporting.methods.table import methods_markdown
from rmiov2.reporting.pages.run import build
from rmiov2.reporting.run.results import read_results
from rmiov2.reporting.scene.moment import telling_moment
from rmiov2.reporting.style import CYCLE, styled
from rmiov2.reporting.variants.figures import (
    LOOKS,
    PRETRAINED,
    _worth,
    chosen,
    losses_picture,
    lost,
    p_loss_picture,
    variants_pictures,
    worth_picture,
)
from rmiov2.reporting.variants.findings import PRINTED, findings_table, reproduced_table, said
from rmiov2.reporting.variants.table import (
    took,
    variants_markdown,
    variants_table,
    what_differs,
)
from rmiov2.reporting.variants.worth import (
    CLAIMS,
    FUSIONS,
    HALF,
    MEASURES,
    RATES,
    Claim,
    Family,
    claims,
    family,
    judged,
    of_bounds,
    of_run,
    paired,
    rates,
)
from rmiov2.types import UserError


def keep_variant(
    kept: Path,
    ablation: str,
    seed: int,
    level: float,
    *,
    l_rec: float = 1.0,
    loss: float = 2.0,
    scale: str = "small",
    **choices: Any,
) -> Path:
    """A seed of RMIOv2 without that part, which wins `level` at every rate; "none" is kept as before there were any."""
    keep_seed(kept, "rmiov2", seed, level, l_rec=True, **choices)
    made = kept / f"smax-3m-rmiov2/seed-{seed}"
    finetune = json.loads((made / "finetune.json").read_text())
    write_json(made / "finetune.json", finetune | {"l_rec": {"before": 4.0, "after": l_rec}})
    write_json(made / "moment.json", moment_of(ablation, seed))
    (made / "pretrain.csv").write_text(f"env_steps,loss_model\n1000,{3 * loss}\n9000,{loss}\n10000,{loss}\n")
    if ablation != "none":
        write_json(made / "variant.json", record(ablation, scale))
    target = kept / ("smax-3m" if ablation == "none" else f"smax-3m+{ablation}") / made.name
    target.parent.mkdir(exist_ok=True, parents=True)
    return Path(shutil.move(made, target))


def moment_of(ablation: str, seed: int) -> dict[str, Any] | None:
    """One of a battle that no other variant and no other seed has."""
    return telling_moment(smax_scene(np.random.default_rng([seed, len(ablation)])))


def record(ablation: str, scale: str = "small", commit: str = "c0ffee") -> dict[str, Any]:
    """What a study was made of: the part x.y is taken out of every variant."""
    changes, instead = ({}, {}) if ablation == "none" else ({"x.y": False}, {"x.y": True})
    settings = {"agent.name": "rmiov2", "x.y": True} | changes
    return {"ablation": ablation, "scale": scale, "changes": changes, "instead": instead, "settings": settings,
            "commit": commit}  # fmt: skip


def kept_family(kept: Path, levels: dict[str, list[float]], **choices: Any) -> Family:
    for ablation, values in levels.items():
        for seed, level in enumerate(values):
            keep_variant(kept, ablation, seed, level, **choices)
    shutil.rmtree(kept / "smax-3m-rmiov2")
    return of_kept(kept)


def of_kept(kept: Path) -> Family:
    found = {method.ablation: method for method in read_kept(kept)}
    made = family(found.pop("none"), list(found.values()))
    assert made is not None
    return made


def test_a_variant_is_no_method(tmp_path: Path) -> None:
    kept_family(tmp_path, {"none": [0.5, 0.4], "no_fusion": [0.1, 0.2]})
    (method,) = read_methods(tmp_path)
    assert (method.ablation, method.scale, [seed.seed for seed in method.seeds]) == ("none", "small", [0, 1])
    variant = next(found for found in read_kept(tmp_path) if found.ablation == "no_fusion")
    assert variant.agent == "rmiov2" and variant.changes == {"x.y": False}
    assert "0.10" not in methods_markdown(tmp_path, "rmiov2")


def test_a_difference_is_of_the_same_seeds(tmp_path: Path) -> None:
    """What seeds have in common, here 0.1 to 0.9, is no part of it; a seed that only one has is left out."""
    found = kept_family(tmp_path, {"none": [0.1, 0.5, 0.9, 0.2], "no_fusion": [0.0, 0.3, 0.6]}, width=0.0)
    pair = paired(found.named["no_fusion"], found.whole, "AUC")
    assert pair is not None and pair.seeds == (0, 1, 2)
    assert pair.values == pytest.approx((-0.1, -0.2, -0.3)) and pair.estimate.mean == pytest.approx(-0.2)
    half = 4.302653 * 0.1 / 3**0.5  # Student's t at two degrees of freedom
    assert pair.estimate.bounds == pytest.approx((-0.2 - half, -0.2 + half), abs=1e-6)


def test_a_difference_is_never_surer_than_the_episodes_of_both(tmp_path: Path) -> None:
    found = kept_family(tmp_path, {"none": [0.5, 0.5], "no_fusion": [0.4, 0.4]}, width=0.06)
    pair = paired(found.whole, found.named["no_fusion"], "AUC")
    assert pair is not None and pair.estimate.bounds == pytest.approx(
        (0.1 - 0.03, 0.1 + 0.03)
    )  # sqrt(2 * 2) * 0.03 / 2


LEVELS = {"none": [0.60, 0.61, 0.62], "no_observation_fusion": [0.40, 0.42, 0.41],
          "no_action_fusion": [0.50, 0.51, 0.52], "no_masking": [0.50, 0.90, 0.40],
          "normalised_trend": [0.60, 0.61, 0.62]}  # fmt: skip


def test_a_finding_is_judged_by_its_whole_interval(tmp_path: Path) -> None:
    found = kept_family(tmp_path, LEVELS)
    ahead = Claim("table 1", "none", "no_observation_fusion", "AUC")
    assert judged(ahead, found)[1] == "confirmed"
    assert judged(Claim("", "no_observation_fusion", "no_action_fusion", "AUC"), found)[1] == "not confirmed"
    assert judged(Claim("", "none", "no_masking", "AUC"), found)[1] == "undecided at this size"
    assert judged(Claim("", "none", "no_fusion", "AUC"), found) == (None, "not run")
    assert judged(Claim("", "none", "no_observation_fusion", "AUC", more=False), found)[1] == "not confirmed"
    alone = Family(one_seed(found.whole), tuple(map(one_seed, found.variants)))
    pair, verdict = judged(ahead, alone)
    assert pair is not None and pair.estimate == Estimate(pytest.approx(0.2), None)
    assert verdict == "undecided at this size"


@pytest.mark.parametrize("diverged", ["nan", "inf"])
def test_what_diverged_confirms_nothing(tmp_path: Path, diverged: str) -> None:
    """Of a loss, of which less is better, every comparison with NaN once looked like a win."""
    found = kept_family(tmp_path, {"none": [0.5, 0.5, 0.5], "no_reward_trend": [0.4, 0.4, 0.4]})
    claim = Claim("figure 10", "none", "no_reward_trend", "world-model loss at the end", more=False)
    assert judged(claim, found)[1] == "undecided at this size"
    losses = tmp_path / "smax-3m/seed-1/pretrain.csv"
    losses.write_text(f"env_steps,loss_model\n1000,6\n9000,{diverged}\n10000,{diverged}\n")
    with pytest.raises(UserError, match=f"world-model loss at the end of seed 1 of rmiov2, .* is {diverged}, expected"):
        judged(claim, of_kept(tmp_path))
    nowhere = Estimate(float("nan"), (float("nan"), float("nan")))
    assert of_bounds(nowhere, more=False) == of_bounds(nowhere, more=True) == "undecided at this size"


def one_seed(method: Method) -> Method:
    return Method(method.agent, method.seeds[:1], method.ablation, method.scale, method.changes)


def test_the_measures_are_those_of_the_files(tmp_path: Path) -> None:
    keep_variant(tmp_path, "none", 0, 0.5, l_rec=0.25, loss=2.5)
    (method,) = (m for m in read_kept(tmp_path))
    (seed,) = method.seeds
    value = {name: found and found[0] for name, of in MEASURES.items() for found in [of(seed)]}
    assert value["AUC"] == 0.5 and value["L_rec"] == 0.25 and value["performance with nothing lost"] == 0.5
    assert value["world-model loss at the end"] == 2.5  # of the last fifth alone
    assert value["mean of the learning curve"] == pytest.approx(0.25)  # a straight line from 0 to 0.5
    assert value["AUC, true availability"] is None
    curve = lost(seed)
    assert curve is not None and curve[1].tolist() == [7.5, 2.5, 2.5]


def test_the_time_that_all_took_counts_what_was_shared_once(tmp_path: Path) -> None:
    for ablation, pretrained, tuned in (("none", 3600, 1000), ("no_completion", 3600, 1000), ("no_fusion", 7200, 2000)):
        made = keep_variant(tmp_path, ablation, 0, 0.5)
        for name, wall in (("pretrain", pretrained), ("finetune", tuned)):
            write_json(made / f"{name}.json", json.loads((made / f"{name}.json").read_text()) | {"wall_s": wall})
    shutil.rmtree(tmp_path / "smax-3m-rmiov2")
    said = "2 variants, 3 teams on cpu, took 3.0 h in 2 pre-trainings and 50 min in 2 fine-tunings,"
    assert said in took(of_kept(tmp_path))


def test_variants_without_the_whole_method_are_told(tmp_path: Path) -> None:
    keep_variant(tmp_path, "no_fusion", 0, 0.5)
    assert "For smax/3m, small, the whole method is not kept." in variants_markdown(tmp_path, "rmiov2")


def test_seeds_trained_otherwise_are_not_compared(tmp_path: Path) -> None:
    keep_variant(tmp_path, "none", 0, 0.5)
    keep_variant(tmp_path, "no_fusion", 0, 0.5, steps=600_000)
    shutil.rmtree(tmp_path / "smax-3m-rmiov2")
    fusion, whole = sorted(read_kept(tmp_path), key=lambda method: method.ablation == "none")
    assert family(whole, [fusion]) is None
    keep_variant(tmp_path, "none", 1, 0.9, steps=600_000)  # of the whole method itself, too
    keep_variant(tmp_path, "no_fusion", 1, 0.5)
    shutil.rmtree(tmp_path / "smax-3m-rmiov2")
    found = of_kept(tmp_path)
    assert [seed.seed for seed in found.whole.seeds] == [0] and [s.seed for s in found.variants[0].seeds] == [1]


def test_two_whole_methods_are_refused(tmp_path: Path) -> None:
    keep_variant(tmp_path, "none", 0, 0.5)
    shutil.copytree(tmp_path / "smax-3m", tmp_path / "another")
    shutil.rmtree(tmp_path / "smax-3m-rmiov2")
    with pytest.raises(UserError, match="docs/seeds has 2 whole methods on smax/3m, small"):
        variants_markdown(tmp_path, "rmiov2")


def test_every_finding_has_its_row_and_an_unflattering_one_stays(tmp_path: Path) -> None:
    found = kept_family(tmp_path, LEVELS)
    rows = {row.name: [cell.text for cell in row.cells] for row in findings_table(found).rows}
    assert list(rows) == [said(claim) for claim in claims(found)] and len(rows) == len(CLAIMS)
    assert rows["table 1, AUC: whole method above no observation fusion"][:2] == ["confirmed", "0.200"]
    against = "table 1, AUC: no observation fusion above no action fusion (in the paper, not on 3s_vs_5z)"
    assert rows[against][:2] == ["not confirmed", "−0.100"]
    assert rows["table 1, AUC: no action fusion above no fusion"][:2] == ["not run", "–"]
    same = rows["figure 11, performance with nothing lost: normalised trend above whole method"]
    assert same[0] == "equal in every seed"


def test_the_claims_are_what_the_paper_printed() -> None:
    """On most of its maps; figures 10 and 11 have no numbers. Of table 2 the paper's own corridor and 2s3z agree."""
    for claim in (claim for claim in CLAIMS if claim.place.startswith("table")):
        column = ("AUC", "L_rec").index(claim.measure)
        ahead = [
            (better[column] > worse[column]) == claim.more
            for better, worse in zip(PRINTED[claim.better], PRINTED[claim.worse], strict=True)
        ]
        assert sum(ahead) >= 3, claim


@pytest.mark.parametrize(("vary", "half"), [(True, HALF), (False, "none")])
def test_table_2_is_of_teams_that_mask_at_one_rate(tmp_path: Path, vary: bool, half: str) -> None:
    found = kept_family(tmp_path, {"none": [0.5], "no_masking": [0.1]})
    found = replace(found, whole=replace(found.whole, settings={"finetune.vary_p_mask": vary}))
    assert list(rates(found)) == ["no_masking", "p_mask_0.125", "p_mask_0.25", "p_mask_0.375", half, "p_mask_0.75"]
    for measure in ("AUC", "L_rec"):
        ahead = [claim.better for claim in claims(found) if (claim.place, claim.measure) == ("table 2", measure)]
        assert ahead == ["p_mask_0.125", "p_mask_0.25", "p_mask_0.375", half, half, half]
    names = [row.name for row in reproduced_table(found).rows]
    assert ("constant p_mask, p_mask 0.5" in names) == vary and ("whole method, p_mask 0.5" in names) != vary


def test_the_trend_is_judged_where_it_does_something(tmp_path: Path) -> None:
    """Of a battle taking it away takes nothing, so that it is added, normalised; of a robot it is taken away."""
    battles = kept_family(tmp_path, {"none": [0.5], "no_masking": [0.1]})
    trends = {(claim.better, claim.worse) for claim in claims(battles) if "trend" in claim.better + claim.worse}
    assert trends == {("normalised_trend", "none")} and any("reward trend" in text for text in what_differs(battles))
    opened = replace(battles, whole=replace(battles.whole, settings={"reward_trend.normalise": True}))
    trends = {(claim.better, claim.worse) for claim in claims(opened) if "trend" in claim.better + claim.worse}
    assert trends == {("none", "no_reward_trend")} and not any("reward trend" in text for text in what_differs(opened))


def test_l_rec_over_other_windows_is_no_difference(tmp_path: Path) -> None:
    kept_family(tmp_path, {"none": [0.5, 0.5], "history_1": [0.3, 0.4]})
    for path in tmp_path.glob("smax-3m+history_1/seed-*/variant.json"):
        write_json(path, json.loads(path.read_text()) | {"changes": {"execution.history": 1}})
    rows = {row.name: [cell.text for cell in row.cells] for row in variants_table(of_kept(tmp_path)).rows}
    assert rows["history 1"][3:7] == ["−0.150", "0.205", "1.000", "–"]


def test_the_whole_method_is_also_told_by_processor(tmp_path: Path) -> None:
    """What a variant is less than is that of its own processor: 0.5 − 0.6, not 0.5 − 0.4."""
    for name, seed, level in (("none", 0, 0.2), ("none", 1, 0.6), ("no_fusion", 1, 0.5)):
        made = keep_variant(tmp_path, name, seed, level)
        write_json(made / "variant.json", record(name) | {"machine": {"processor": "AVX2"} if seed else {}})
    shutil.rmtree(tmp_path / "smax-3m-rmiov2")
    rows = {row.name: [cell.text for cell in row.cells] for row in variants_table(of_kept(tmp_path)).rows}
    assert rows["whole method"][:3] == ["2", "0.40", "0.20, 0.60"]
    assert rows["whole method, processor not recorded"][:2] == ["1", "0.20"]
    assert rows["whole method, AVX2"][:2] == ["1", "0.60"]
    assert rows["no fusion"][3] == "−0.100"


def test_a_pair_of_each_processor_counts_once_a_seed(tmp_path: Path) -> None:
    """Two seeds apart by 0.2 and 0.1 decide nothing, though each was trained on two processors."""
    for name, levels in (("none", (0.5, 0.6)), ("no_fusion", (0.3, 0.5))):
        for seed, level in enumerate(levels):
            made = keep_variant(tmp_path, name, seed, level)
            other = shutil.copytree(made, made.with_name(f"{made.name}-AVX2"))
            write_json(other / "variant.json", record(name) | {"machine": {"processor": "AVX2"}})
    shutil.rmtree(tmp_path / "smax-3m-rmiov2")
    found = of_kept(tmp_path)
    pair = paired(found.named["no_fusion"], found.whole, "AUC")
    assert pair and pair.seeds == (0, 0, 1, 1) and pair.values == pytest.approx([-0.2, -0.2, -0.1, -0.1])
    assert pair.estimate.mean == pytest.approx(-0.15) and not pair.estimate.decided


def test_findings_are_corrected_for_their_number_and_stand_beside_the_papers(tmp_path: Path) -> None:
    found = kept_family(tmp_path, {"none": [0.5, 0.52, 0.54], "no_observation_fusion": [0.3, 0.3, 0.36]})
    (row,) = (
        row for row in findings_table(found).rows if row.name.startswith("table 1, AUC: whole method above no obs")
    )
    tested = [pair.estimate for claim in claims(found) if (pair := judged(claim, found)[0])]
    least = min(estimate.p or 1.0 for estimate in tested)
    assert float(row.cells[2].text) == pytest.approx(min(1.0, least * len(tested)), abs=1e-3)
    assert row.cells[4].text == "0.061 to 0.374"  # of table 1: 0.866 − 0.805 on 1c3s5z, 0.688 − 0.314 on 3s_vs_5z


def test_the_table_says_what_each_variant_changes(tmp_path: Path) -> None:
    table = variants_table(kept_family(tmp_path, LEVELS))
    rows = {row.name: [f"{c.text} {c.bounds}".strip() for c in row.cells] for row in table.rows}
    assert list(rows)[0] == "whole method" and len(rows) == len(LEVELS)
    count, auc, by_seed, less, *_, changed = rows["no action fusion"]
    assert (changed, count, auc, by_seed) == ("x.y = False", "3", "0.51 [0.49, 0.53]", "0.50, 0.51, 0.52")
    assert less == "−0.100 [−0.108, −0.092]"  # as sure as the episodes allow: sqrt(3 * 2) * 0.01 / 3


def test_what_was_played_otherwise_is_not_compared(tmp_path: Path) -> None:
    kept_family(tmp_path, {"none": [0.5, 0.5], "bursty_loss": [0.3, 0.4], "no_fusion": [0.1, 0.2]})
    for path in tmp_path.glob("smax-3m+bursty_loss/seed-*/variant.json"):
        write_json(path, json.loads(path.read_text()) | {"changes": {"evaluate.pattern": "bursty"}})
    found = of_kept(tmp_path)
    rows = {row.name: [cell.text for cell in row.cells] for row in variants_table(found).rows}
    assert rows["bursty loss"][1:4] == ["0.35", "0.30, 0.40", "–"] and rows["no fusion"][3] == "−0.350"
    with styled():
        picture = worth_picture(found)
    assert picture is not None and b"bursty" not in picture.data and b"no_fusion,1" in picture.data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = write_run(tmp_path_factory.mktemp("variants"), "smax")
    kept = root / "docs/seeds"
    for ablation, levels in LEVELS.items():
        for seed, level in enumerate(levels):
            keep_variant(kept, ablation, seed, level)
    keep_variant(kept, "no_fusion", 0, 0.1, scale="paper")
    shutil.rmtree(kept / "smax-3m-rmiov2")
    return root, build(root, root / "reports", CELLS).read_text(encoding="utf-8")


def test_the_page_draws_the_variants_beside_the_run(page: tuple[Path, str]) -> None:
    root, text = page
    links = {str(link["download"]): embedded(link["href"]) for link in Reader(text).all("a") if "download" in link}
    rows = {
        name: list(csv.DictReader(io.StringIO(links[name].decode())))
        for name in links
        if name.startswith("variants") and name.endswith(".csv")
    }
    assert set(rows) == {"variants.csv", "variants_fusion.csv", "variants_p_mask.csv", "variants_losses.csv",
                         "variants_learning.csv"}  # fmt: skip
    assert {row["ablation"] for row in rows["variants_p_mask.csv"]} == {"none", "no_masking"}
    run = json.loads((root / "metrics/evaluate.json").read_text())  # it is seed 0 of the whole method
    drawn = [row for row in rows["variants_fusion.csv"] if (row["ablation"], row["seed"]) == ("none", "0")]
    assert [float(row["win_rate"]) for row in drawn] == run["performance"]["completion"]
    moments = json.loads(links["variants_moments.json"])
    assert moments.pop("none") == telling_moment(json.loads((root / "results/scene.json").read_text()))
    assert moments == {part: moment_of(part, 0) for part in ("no_observation_fusion", "no_action_fusion")}
    less = {
        row["seed"]: float(row["auc_less_whole"]) for row in rows["variants.csv"] if row["ablation"] == "no_masking"
    }
    assert less == pytest.approx({"0": 0.50 - run["auc"]["completion"], "1": 0.90 - 0.61, "2": 0.40 - 0.62})
    assert all(row["ablation"] != "no_fusion" for row in rows["variants_fusion.csv"])  # it is of another scale
    assert "Variants whose whole interval lies left of it: " in text
    assert "mappo" not in text and 'id="beside"' not in text
    assert text.index("SMAX is not StarCraft II") < text.index("Our results on smax/3m and the paper")


def test_the_same_variants_give_the_same_bytes(page: tuple[Path, str]) -> None:
    root, _ = page
    found = of_run(read_results(root, CELLS))
    assert found is not None
    with styled():
        again = {picture.name: picture.png for picture in variants_pictures(found) if picture is not None}
    assert again == {name: (root / f"reports/{name}.png").read_bytes() for name in again} and len(again) == 6


def test_what_was_not_kept_is_not_drawn(tmp_path: Path) -> None:
    found = kept_family(tmp_path, {"none": [0.5], "no_masking": [0.1]})
    assert chosen(found, ("none", "no_fusion")) == []
    assert [method.ablation for method in chosen(found, ("no_masking", "no_fusion", "none"))] == ["no_masking", "none"]


def test_of_the_whole_method_only_teams_that_a_variant_began_like_are_drawn(tmp_path: Path) -> None:
    found = kept_family(tmp_path, {"none": [0.1, 0.5, 0.9, 0.2], "no_fusion": [0.3, 0.4], "no_masking": [0.1] * 3})
    whole, _ = chosen(found, ("none", "no_fusion"))
    assert [seed.seed for seed in whole.seeds] == [0, 1] and len(found.whole.seeds) == 4
    assert [seed.seed for seed in chosen(found, ("none", "no_fusion", "no_masking"))[0].seeds] == [0, 1, 2]
    elsewhere = replace(found, whole=replace(found.whole, seeds=tuple(
        replace(seed, processor="another") for seed in found.whole.seeds)))  # fmt: skip
    assert len(chosen(elsewhere, ("none", "no_fusion"))[0].seeds) == 4, "no pair: nothing to choose by"
    with styled():
        picture = p_loss_picture(found, FUSIONS, "variants_fusion", "")
    assert picture is not None
    rows = list(csv.DictReader(io.StringIO(picture.data.decode())))
    assert {row["seed"] for row in rows if row["ablation"] == "none"} == {"0", "1"}
    assert "Of the whole method’s 4 teams, only the 2 are drawn that share seed and processor" in picture.caption
    assert "whole method 0.30" in picture.caption  # the mean of those two


def test_a_variant_has_one_look_and_no_other_has_it() -> None:
    pairs = [(look["color"], look["marker"]) for look in LOOKS.values()]
    assert len(set(pairs)) == len(pairs) == 12 and LOOKS["none"]["color"] == CYCLE[0]
    for figure in (FUSIONS, ("none", *RATES), PRETRAINED):
        assert len({LOOKS[name]["color"] for name in figure}) == len(figure)


def test_the_losses_are_called_what_they_are(tmp_path: Path) -> None:
    with styled():
        picture = losses_picture(kept_family(tmp_path, LEVELS))
    assert picture is not None and "as a running median over a fifteenth" in picture.caption
    assert picture.data.startswith(b"ablation,curve,env_steps,loss_model_running_median\n")


def test_a_difference_without_an_interval_is_drawn_hollow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = kept_family(tmp_path, {"none": [0.5, 0.6], "no_fusion": [0.1, 0.2], "no_masking": [0.3]})
    pairs = {m.ablation: pair for m in found.variants if (pair := paired(m, found.whole, "AUC")) is not None}
    drawn: list[Any] = []
    monkeypatch.setattr("rmiov2.reporting.variants.figures.png", lambda figure: drawn.append(figure) or b"")
    with styled():
        _worth(pairs, list(pairs), 5.2)
    marks = [line for line in drawn[0].axes[0].get_lines() if line.get_marker() == "D"]
    assert {line.get_markerfacecolor() for line in marks} == {CYCLE[0], "white"}
    assert "a hollow diamond is a single seed" in str(worth_picture(found).caption)  # type: ignore[union-attr]


def test_the_document_is_what_is_kept() -> None:
    assert (ROOT / "docs/ablations.md").read_text() == paper.table() + "\n"
    assert variants_markdown(ROOT / "docs", "rmiov2").startswith("No variant is kept yet")
