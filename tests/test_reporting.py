"""The page says what the files say, the same every time, and loads nothing."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from synthetic_run import CELLS, robot_scene, smax_scene, without_completion, write_run

from rmiov2.reporting.html import breakable, letters, render
from rmiov2.reporting.methods.seeds import mean_curve, overlay_seeds
from rmiov2.reporting.pages.run import build, front_of, run_of
from rmiov2.reporting.pages.terms import terms
from rmiov2.reporting.run.figures import auc_picture, performance_picture
from rmiov2.reporting.run.results import read_results
from rmiov2.reporting.scene.animation import write_animation
from rmiov2.reporting.scene.map_figure import map_picture, moments
from rmiov2.reporting.style import spread, styled
from rmiov2.reporting.words import headline, number, significant
from rmiov2.types import UserError


@pytest.fixture(scope="module", params=["smax", "robot"])
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = write_run(tmp_path_factory.mktemp(request.param), request.param)
    return root, build(root, root / "reports", CELLS).read_text(encoding="utf-8")


class Reader(HTMLParser):
    """What a browser would load, what it would show, and the numbers behind the numbers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data: list[tuple[float, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "data":
            self.data.append((float(str(self.tags[-1][1]["value"])), data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def embedded(uri: str | None) -> bytes:
    return base64.b64decode(str(uri).split("base64,", 1)[1])


def evaluation_of(root: Path) -> dict[str, Any]:
    return json.loads((root / "metrics/evaluate.json").read_text())


def without_pictures(root: Path) -> str:
    """The page's own words, without what takes seconds to draw."""
    results = read_results(root, CELLS)
    return render(front_of(results.evaluate), [], run_of(results))


def test_same_files_give_the_same_bytes(drawn: tuple[Path, str], tmp_path: Path) -> None:
    root, _ = drawn
    build(root, tmp_path, CELLS)
    first = {path.name: path.read_bytes() for path in (root / "reports").iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_every_figure_is_in_the_page_with_words_and_data(drawn: tuple[Path, str]) -> None:
    root, text = drawn
    reader = Reader(text)
    images = [embedded(image["src"]) for image in reader.all("img")]
    files = {path.name: path.read_bytes() for path in (root / "reports").glob("*.png")}
    assert sorted(images) == sorted(files.values())
    assert all(len(str(image["alt"])) > 20 for image in reader.all("img"))
    links = [link for link in reader.all("a") if "download" in link]
    assert len(links) == len(images) == len(reader.all("figcaption"))
    for link in links:
        name, content = str(link["download"]), embedded(link["href"]).decode()
        rows = json.loads(content)["moments"] if name.endswith(".json") else list(csv.reader(io.StringIO(content)))
        assert len(rows) > 1 and all(len(row) == len(rows[0]) for row in rows)


def test_what_a_run_has_not_is_left_out(drawn: tuple[Path, str]) -> None:
    names = {str(figure["id"]) for figure in Reader(drawn[1]).all("figure")}
    always = {"performance", "auc", "learning", "exploration", "imagination", "model_losses", "finetune"}
    always |= {"scene_series", "scene_error", "reward_window", "cost", "ablation", "attention"}
    battle = {"performance_true_availability", "scene_map"}
    assert names == (always | battle if evaluation_of(drawn[0])["measure"] == "win_rate" else always)


def test_the_tables_say_the_numbers_of_the_evaluation(drawn: tuple[Path, str]) -> None:
    evaluate = evaluation_of(drawn[0])
    blocks = [block for block in (evaluate, evaluate.get("true_availability")) if block]
    expected = [value for block in blocks for mode in block["performance"]
                for value in (*block["performance"][mode], block["auc"][mode])]  # fmt: skip
    shown = Reader(drawn[1]).data
    assert [value for value, _ in shown] == expected
    assert all(abs(float(text.replace("−", "-")) - value) <= 0.005 + 1e-9 for value, text in shown)


def test_the_page_loads_nothing(drawn: tuple[Path, str]) -> None:
    _, text = drawn
    assert not re.search(r"https?:|//[a-z0-9]|@import|<script|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    sources = [tag.get(name) for _, tag in Reader(text).tags for name in ("src", "srcset", "href") if name in tag]
    assert sources and all(str(source).startswith(("data:", "#", "data_docs/")) for source in sources)


def test_the_page_says_what_the_gates_checked_and_leads_to_their_pages(drawn: tuple[Path, str], tmp_path: Path) -> None:
    root, text = drawn
    links = [str(link["href"]) for link in Reader(text).all("a") if str(link["href"]).startswith("data_docs/")]
    assert links == ["data_docs/collect/index.html", "data_docs/replay/index.html"]
    assert "<td>29 of 29</td><td>none</td>" in text
    assert "<td>28 of 29</td><td>open_pieces_go_on</td>" in text
    shutil.copytree(root, tmp_path / "ungated")
    shutil.rmtree(tmp_path / "ungated/metrics/gates")
    ungated = without_pictures(tmp_path / "ungated")
    assert "data_docs" not in ungated and "Data checks" not in ungated


def test_the_headline_is_made_of_the_numbers() -> None:
    evaluate = {"env": "smax/3m", "measure": "win_rate", "p_loss": [0, 0.6, 1], "random": 0.02,
                "performance": {"completion": [0.8, 0.521, 0.1], "zeros": [0.8, 0.05, 0.0]},
                "ci95": {"completion": [[0.7, 0.9], [0.47, 0.57], [0, 0.2]],
                         "zeros": [[0.7, 0.9], [0.03, 0.08], [0, 0]]}}  # fmt: skip
    assert headline(evaluate) == (
        "With each agent’s observation lost with probability 0.6 at every step, the team wins 0.52 [0.47, 0.57] of its "
        "battles with completion, against 0.05 [0.03, 0.08] with zeros in their place. When nothing is lost, it wins "
        "0.80; random play wins 0.02."
    )


@pytest.mark.parametrize(
    ("name", "stage"),
    [("metrics/evaluate.json", "evaluate"), ("results/episodes.parquet", "evaluate"),
     ("results/scene.json", "evaluate"), ("plots/learning.csv", "pretrain"), ("plots/finetune.csv", "finetune"),
     ("metrics/pretrain.json", "pretrain")],
)  # fmt: skip
def test_a_missing_file_names_the_stage_that_writes_it(tmp_path: Path, name: str, stage: str) -> None:
    write_run(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=rf"no {Path(name).name} in .*; write it with `dvc repro {stage}`"):
        build(tmp_path, tmp_path / "reports")
    assert not (tmp_path / "reports").exists()


def test_a_team_that_loses_everything_is_drawn_too() -> None:
    evaluate = {"env": "toy/x", "measure": "win_rate", "episodes": 4, "p_loss": [0, 1], "random": 0.0,
                "performance": {"completion": [0, 0]}, "ci95": {"completion": [[0, 0], [0, 0]]},
                "auc": {"completion": 0}, "auc_ci95": {"completion": [0, 0]}}  # fmt: skip
    with styled(), warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = performance_picture(evaluate).data.decode().splitlines()
        assert rows[1:] == ["completion,0,0,0,0", "completion,1,0,0,0"]
        assert "0.00 [0.00, 0.00]" in auc_picture(evaluate).caption


def test_an_incomplete_file_names_what_it_lacks(tmp_path: Path) -> None:
    write_run(tmp_path)
    evaluate = evaluation_of(tmp_path)
    del evaluate["auc"]
    (tmp_path / "metrics/evaluate.json").write_text(json.dumps(evaluate))
    with pytest.raises(UserError, match=r"lacks auc .*`dvc repro -f -s evaluate`"):
        build(tmp_path, tmp_path / "reports")


@pytest.mark.parametrize("name", ["metrics/finetune.json", "metrics/ablate/0.5.json"])
def test_a_team_that_completes_has_an_l_rec(tmp_path: Path, name: str) -> None:
    write_run(tmp_path)
    record = json.loads((tmp_path / name).read_text())
    del record["l_rec"]
    (tmp_path / name).write_text(json.dumps(record))
    with pytest.raises(UserError, match="lacks l_rec"):
        build(tmp_path, tmp_path / "reports", CELLS)


def test_a_map_without_beliefs_shows_who_is_blind() -> None:
    scene = without_completion(smax_scene(np.random.default_rng(3)))
    with styled():
        picture = map_picture(scene)
    agent, times = moments(scene)
    assert agent is not None and not any(scene["seen"][t][agent] for t in times)
    assert picture is not None and picture.caption.endswith(f"Agent {agent + 1} (heavy ring) is blind in all of them.")
    assert all(moment["believed"] is None for moment in json.loads(picture.data)["moments"])


def test_the_moments_drawn_are_moments_of_blindness() -> None:
    scene = smax_scene(np.random.default_rng(3))
    agent, times = moments(scene)
    assert agent is not None and len(times) == 4 and times == sorted(set(times))
    assert not any(scene["seen"][t][agent] for t in times)
    everybody_sees = {**scene, "seen": [[True] * 3 for _ in scene["seen"]]}
    assert moments(everybody_sees)[0] is None


def test_an_empty_belief_is_called_empty() -> None:
    scene = smax_scene(np.random.default_rng(3))
    unseen = [[[{**belief, "visible": False} for belief in agent] for agent in row] for row in scene["map"]["believed"]]
    with styled():
        picture = map_picture({**scene, "map": {**scene["map"], "believed": unseen}})
    assert picture is not None and "believes no unit to be in sight" in picture.caption


@pytest.mark.parametrize("completes", [True, False])
@pytest.mark.parametrize("make", [smax_scene, robot_scene])
def test_the_animation_moves_and_is_the_same_again(tmp_path: Path, make: Any, completes: bool) -> None:
    scene = make(np.random.default_rng(0), steps=9)
    scene = scene if completes else without_completion(scene)
    path = write_animation(scene, tmp_path / "a.gif", max_frames=3)
    with Image.open(path) as image:
        frames = []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(image.convert("RGB").tobytes())
    assert len(frames) == 3 and len(set(frames)) == 3
    assert write_animation(scene, tmp_path / "b.gif", max_frames=3).read_bytes() == path.read_bytes()
    with pytest.raises(UserError, match="ends in .gif"):
        write_animation(scene, tmp_path / "a.mp4")


def test_the_mean_curve_covers_what_every_seed_reached() -> None:
    rising, level = (np.array([0.0, 10]), np.array([0.0, 1])), (np.array([0.0, 5, 20]), np.array([1.0, 1, 1]))
    x, y = mean_curve([rising, level])
    assert x.tolist() == [0, 5, 10] and y.tolist() == [0.5, 0.75, 1.0]


def test_seeds_are_overlaid_only_if_alike(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(seed), kind, seed) for seed, kind in enumerate(["smax", "smax", "robot"])]
    evaluations = [run / "metrics/evaluate.json" for run in runs]
    curves = [run / "plots/learning.csv" for run in runs]
    assert overlay_seeds(evaluations[:2], curves[:2], tmp_path / "seeds.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="share env; got smax/3m, smax/3m, mamujoco"):
        overlay_seeds(evaluations, curves, tmp_path / "no.png")


def test_labels_are_spread_as_little_as_need_be() -> None:
    assert spread([0.0, 0.5, 0.9], 0.1) == pytest.approx([0.0, 0.5, 0.9])
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    assert spread([0.0, 0.0, 0.0], 0.1) == pytest.approx([0.0, 0.1, 0.2])


def test_numbers_as_they_are_read() -> None:
    assert [number(v) for v in (0.524, -0.31, -0.001, 12.345)] == ["0.52", "−0.31", "0.00", "12.35"]
    said = {0: "0", 4.02: "4.02", 0.00374: "0.00374", 1560.4: "1\u202f560", -0.5: "−0.500"}
    assert {value: significant(value) for value in said} == said


def test_the_games_of_a_run_are_told_and_never_mixed(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", "smax")
    for name in ("ablate/0.5", "pretrain", "finetune", "evaluate"):
        path = root / f"metrics/{name}.json"
        game = {"build": 75689, "difficulty": "7", "episodes_lost": 2}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"game": game}))
    page = without_pictures(root)
    assert "game, build" in page and "75689" in page and re.search(r"episodes lost</th><td[^>]*>8</td>", page)
    path.write_text(path.read_text().replace("75689", "76052"))
    with pytest.raises(UserError, match=r"^evaluate was played with build 76052, pretrain with 75689; .*dvc repro -f"):
        without_pictures(root)


def test_a_scene_that_an_older_version_wrote_is_refused(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", "smax")
    path = root / "results/scene.json"
    scene = json.loads(path.read_text())
    scene["series"]["names"] = ["obs[0]", "obs[1]", "obs[2]"]
    path.write_text(json.dumps(scene))
    with pytest.raises(UserError, match=r"scene.json: got series.names of an older version, expected a list of each"):
        build(root, root / "reports", CELLS)


@pytest.mark.parametrize("agent", ["rmiov2", "mappo"])
def test_the_page_says_what_its_modes_are(tmp_path: Path, agent: str) -> None:
    root = write_run(tmp_path / "run", "smax")
    evaluate = json.loads((root / "metrics/evaluate.json").read_text())
    if agent == "mappo":
        for key in ("performance", "ci95", "auc", "auc_ci95"):
            evaluate[key] = {mode: value for mode, value in evaluate[key].items() if not mode.startswith("completion")}
    said = dict(terms(evaluate))
    modes = {"completion", "zeros", "last seen", "open loop"} - ({"completion"} if agent == "mappo" else set())
    assert modes <= set(said) and ("completion" in said) == ("L_rec" in said) == (agent == "rmiov2")
    assert {"p_loss", "AUC", "win rate", "masked fine-tuning"} <= set(said)


def test_words_of_a_page_are_escaped_and_set() -> None:
    text = "a < b at p_loss 40 %: `make report`"
    assert letters(text) == "a &lt; b at <i>p</i><sub>loss</sub> 40\u00a0%: <code>make report</code>"
    assert breakable("execution.history = 1, p_loss 0.5") == "execution.<wbr>history = 1, <i>p</i><sub>loss</sub> 0.5"
    assert breakable("mamujoco/Ant-4x2, smax/3m, 0.1 / 2") == "mamujoco/<wbr>Ant-4x2, smax/3m, 0.1 / 2"
