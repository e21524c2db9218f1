"""The page of all that is kept: from docs/seeds alone, the same everywhere, and it claims no more than is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_run import smax_scene, write_stress
from test_methods import Y, keep_seed
from test_reporting import Reader
from test_variants import LEVELS, keep_variant

from pipelines import paper
from pipelines.paths import ROOT
from rmiov2.files import write_json
from rmiov2.reporting.methods.seeds import interval_curve
from rmiov2.reporting.pages.fusion_cost import FUSIONS, fusion_chapters, read_fusions, sorted_out
from rmiov2.reporting.pages.paper import build_paper, overview, read_tasks
from rmiov2.types import UserError


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RMIOv2 with variants, RMIO and MAPPO on a map; an episode of seed 1."""
    kept = tmp_path_factory.mktemp("kept")
    for ablation, levels in LEVELS.items():
        for seed, level in enumerate(levels):
            keep_variant(kept, ablation, seed, level)
    shutil.rmtree(kept / "smax-3m-rmiov2")
    for agent, level in (("rmio", 0.3), ("mappo", 0.9)):
        for seed in range(3):
            keep_seed(kept, agent, seed, level + seed / 100, l_rec=agent == "rmio")
    write_json(kept / "smax-3m/seed-1/scene.json", smax_scene(np.random.default_rng(0)))
    (kept / "metrics").mkdir()
    for seed in (0, 1):
        write_json(kept / f"smax-3m/seed-{seed}/stress.json", write_stress(kept))
    shutil.rmtree(kept / "metrics")
    write_json(kept / FUSIONS, {"benches": {"fusion": fusion_rows("smax/3m", "small")}})
    return kept


def fusion_rows(env: str, preset: str) -> list[dict[str, Any]]:
    """As the benchmark writes them: each fusion a tenth of the weights, and 5 and 4 % of an update."""
    numbers = {"parameters": 2600, "step_flop": 15_000, "model_parameters": 26_000, "model_update_flop": 10_000}
    return [
        {"what": f"{module}, {env}, {preset}", "numbers": numbers | {"update_flop": flop}}
        for module, flop in (("observation fusion", 500), ("action fusion", 400))
    ]


@pytest.fixture(scope="module")
def page(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_paper(kept, "rmiov2", tmp_path_factory.mktemp("page") / "paper.html").read_text(encoding="utf-8")


def test_it_says_first_what_it_is_not(page: str) -> None:
    words = page.index("SMAX is not StarCraft II")
    assert words < page.index("<nav") < page.index("figure 7")


def test_every_figure_has_its_numbers_and_an_anchor_of_its_own(page: str) -> None:
    reader = Reader(page)
    figures = [figure["id"] for figure in reader.all("figure")]
    links = [link["download"] for link in reader.all("a") if "download" in link]
    assert len(figures) == len(set(figures)) == len(links) == len(set(links)) >= 14
    anchors = {link["href"][1:] for link in reader.all("a") if str(link["href"]).startswith("#")}
    assert anchors == {section["id"] for section in reader.all("section")}
    parts = ("methods", "variants", "attention", "stress_memory")
    assert {f"smax-3m-small-{part}" for part in parts} <= set(figures)
    assert "48 episodes per point for each of 2 seeds" in page


def test_it_loads_nothing_and_links_to_no_file(page: str) -> None:
    reader = Reader(page)
    assert all(str(image["src"]).startswith("data:") for image in reader.all("img"))
    assert all(str(link["href"]).startswith(("data:", "#")) for link in reader.all("a"))
    assert reader.all("script") == []


def test_it_says_what_the_fusions_cost(kept: Path, page: str) -> None:
    fusions = read_fusions(kept)
    (chapter,) = fusion_chapters(fusions)
    (table,) = chapter.tables
    (row,) = table.rows
    assert (row.name, *(cell.text for cell in row.cells)) == ("smax/3m", f"2{Y}600", "20.0", "0.0150", "5.0", "4.0")
    (said,) = chapter.lead
    assert "20 % of the world model’s weights and 9 % of the operations of one of its updates" in said
    (task,) = read_tasks(kept, "rmiov2", fusions)
    (table,) = overview([task]).tables
    assert table.rows[-1].cells[1].text == "20 % of M’s weights, 9 % of an update"
    assert "appendix D" in page and "What the two fusions cost" in page


def test_fusions_that_were_not_counted_or_broke_are_left_out() -> None:
    first, second = fusion_rows("smax/3m", "small")
    assert sorted_out({}) == {} and fusion_chapters({}) == []
    half = {first["what"]: first["numbers"]}
    assert sorted_out(half) == {} and fusion_chapters(sorted_out(half)) == []
    assert list(sorted_out(half | {second["what"]: second["numbers"]})) == [("smax/3m", "small")]


def test_each_experiment_is_counted_by_what_was_judged(kept: Path) -> None:
    (task,) = read_tasks(kept, "rmiov2", {})
    (table,) = overview([task]).tables
    said = {row.name: row.cells[1].text for row in table.rows}
    assert said["figure 7"] == said["figure 8"] == "ahead of 1, behind 1, undecided with 0"
    # the fourth of fusions is not kept; L_rec is equal in all
    assert said["figure 12, table 1"] == "AUC: 1 confirmed, 1 not confirmed; L_rec: 3 undecided"
    assert said["figure 14, table 2"] == "–"  # no two rates of masking are kept that a finding is about
    assert said["figure 13"] == "error of a blind agent’s belief: 2 undecided"
    assert said["figure 9"].startswith("undecided: nine tenths of the way within")
    assert {said[name] for name in ("appendix E.2", "beyond the paper")} == {"drawn"}
    assert said["appendix E.1"].startswith("undecided: by") and said["appendix E.1"].endswith("(one seed)")


@pytest.mark.parametrize(
    ("to_the_first", "verdict"),
    [((0.85, 0.86), "confirmed: by 0.52 [0.46, 0.59]"), ((0.2, 0.3), "undecided: by −0.08"), ((0.1, 0.12), "not con")],
)
def test_where_the_blind_look_is_judged_over_seeds(
    tmp_path: Path, to_the_first: tuple[float, ...], verdict: str
) -> None:
    """One sees, two are blind: an even share would give it a third."""
    for seed, share in enumerate(to_the_first):
        keep_variant(tmp_path, "none", seed, 0.5)
        scene = smax_scene(np.random.default_rng(0))
        shape = np.shape(scene["seen"])
        scene["seen"] = np.broadcast_to([True, False, False], shape).tolist()
        weights = np.broadcast_to([share, (1 - share) / 2, (1 - share) / 2], (*shape, 3))
        write_json(tmp_path / f"smax-3m/seed-{seed}/scene.json", {**scene, "attention": weights.tolist()})
    shutil.rmtree(tmp_path / "smax-3m-rmiov2")
    (task,) = read_tasks(tmp_path, "rmiov2", {})
    (table,) = overview([task]).tables
    assert {row.name: row.cells[1].text for row in table.rows}["appendix E.1"].startswith(verdict)


@pytest.mark.parametrize(
    ("theirs", "verdict"),
    [
        ((600, 900, 1200), "confirmed: nine tenths of the way within 167 updates, RMIO’s within 900"),
        ((100, 200, 1500), "undecided: nine tenths of the way within 167 updates, RMIO’s within 600"),
    ],
)
def test_how_soon_l_rec_is_down_is_judged_over_seeds(tmp_path: Path, theirs: tuple[int, ...], verdict: str) -> None:
    """From 4 to 1 it is down by nine tenths below 1.3."""
    for agent, updates in (("rmiov2", (100, 200, 200)), ("rmio", theirs)):
        for seed, update in enumerate(updates):
            keep_seed(tmp_path, agent, seed, 0.3, l_rec=True)
            folder = tmp_path / f"smax-3m-{agent}/seed-{seed}"
            (folder / "finetune.csv").write_text(f"update,l_rec\n0,4\n50,1.4\n{update},1.25\n2000,1\n")
    (task,) = read_tasks(tmp_path, "rmiov2", {})
    (table,) = overview([task]).tables
    assert {row.name: row.cells[1].text for row in table.rows}["figure 9"].startswith(verdict)


@pytest.mark.parametrize(("levels", "verdict"), [((0.30, 0.31, 0.32), "confirmed"), ((0.3, 0.0, 0.1), "undecided")])
def test_all_blind_it_has_to_do_more_than_open_loop(tmp_path: Path, levels: tuple[float, ...], verdict: str) -> None:
    """Of what it wins, a fifth is open loop here."""
    for seed, level in enumerate(levels):
        keep_seed(tmp_path, "rmiov2", seed, level)
    (task,) = read_tasks(tmp_path, "rmiov2", {})
    (table,) = overview([task]).tables
    told = {row.name: row.cells[1].text for row in table.rows}["figure 8, p_loss 1"]
    assert told.startswith(verdict) and told.endswith(f"open loop {sum(levels) / 15:.2f}")


def test_only_what_is_there_counts(tmp_path: Path) -> None:
    keep_variant(tmp_path, "none", 0, 0.5)
    shutil.rmtree(tmp_path / "smax-3m-rmiov2")
    (task,) = read_tasks(tmp_path, "rmiov2", {})
    (table,) = overview([task]).tables
    said = {row.name: row.cells[1].text for row in table.rows}
    assert said.pop("figure 8, p_loss 1") == "undecided: 0.50 (one seed), open loop 0.10"
    assert set(said.values()) == {"–"}
    keep_seed(tmp_path, "mappo", 0, 0.9)
    (task,) = read_tasks(tmp_path, "rmiov2", {})
    assert overview([task]).tables[0].rows[0].cells[1].text == "ahead of 0, behind 0, undecided with 1"


def test_nothing_kept_is_an_error_and_no_page(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no seed of rmiov2, expected one at least"):
        build_paper(tmp_path, "rmiov2", tmp_path / "paper.html")
    assert not (tmp_path / "paper.html").exists()


def test_the_committed_page_is_what_the_committed_seeds_give_without_torch(tmp_path: Path) -> None:
    """On any processor: here numpy and its BLAS do without what this one can and others cannot."""
    plain = {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR", "OPENBLAS_CORETYPE": "PRESCOTT"}
    drawn = tmp_path / "paper.html"
    code = (
        "import sys, pathlib; from rmiov2.reporting.pages.paper import build_paper;"
        f"build_paper(pathlib.Path('docs/seeds'), 'rmiov2', pathlib.Path({str(drawn)!r}));"
        "print([name for name in ('torch', 'jax', 'mlflow', 'dvc', 'prefect') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | plain, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
    same = drawn.read_bytes() == paper.PAGE.read_bytes()
    assert same, "run `python -m pipelines.paper --page` and commit docs/paper.html"


def test_the_interval_of_a_mean_curve_is_students() -> None:
    x = np.array([0.0, 1.0, 2.0])
    curves = [(x, x * 0 + level) for level in (0.1, 0.2, 0.3)] + [(x[:2], x[:2] * 0 + 0.2)]
    grid, low, high = interval_curve(curves[:3])
    half = 4.302653 * 0.1 / 3**0.5
    np.testing.assert_allclose(low, 0.2 - half, atol=1e-6)
    np.testing.assert_allclose(high, 0.2 + half, atol=1e-6)
    assert grid.tolist() == [0, 1, 2] and interval_curve(curves)[0].tolist() == [0, 1]
    assert [part.size for part in interval_curve(curves[:1])] == [0, 0, 0]
