"""Registered teams: once each, champion only if better on the same games, and back again."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from teams_on_shelves import measured, running, save_agent, toy_config
from windows import record

from pipelines import registry, serving
from pipelines.models import promotion, tracking
from pipelines.registry import REFUSED, Measured
from rmiov2.evaluation.episodes import Columns
from rmiov2.evaluation.sweep import RANDOM, read_rows
from rmiov2.execution.window import decide
from rmiov2.types import UserError

MODEL = "rmiov2-toy-lights"
Rates = list[list[float]]  # [p_loss][episode]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> dict[str, Measured]:
    """Three teams by how often they slip."""
    folder, made = tmp_path_factory.mktemp("shelf"), {}
    for seed, (name, slips) in enumerate({"good": 0.01, "worse": 0.1, "better": 0.0}.items()):
        made[name] = measured(toy_config(seed=seed), folder / name, slips)
    return made


@pytest.fixture(scope="module")
def blank(tmp_path_factory) -> Path:
    """A store in which nothing is: making its tables takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("blank")))
        patch.delenv("MLFLOW_TRACKING_URI")
        tracking.open_store()
        return tracking.home() / "state" / "mlflow.db"


@pytest.fixture
def store(blank, tmp_path, monkeypatch) -> Path:
    """The state of a project with a SQLite store of the test's own."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "state").mkdir()
    shutil.copy(blank, tmp_path / "state")
    return tmp_path / "state"


def decisions(state: Path) -> list[dict]:
    return [json.loads(line) for line in (state / "decisions.jsonl").read_text().splitlines()]


def walk(shelf: dict[str, Measured], state: Path) -> None:
    """The life of a model: the first champion, a worse one refused, a better one promoted, and rolled back."""
    config, client = toy_config(), tracking.open_store()
    assert registry.register(config, shelf["good"]) == ("1", True)
    assert registry.register(config, shelf["good"]) == ("1", False)
    first = registry.promote(client, MODEL, "", 300)
    assert first.decision == "promoted" and first.numbers["auc_low"] > first.numbers["random"]
    assert registry.promote(client, MODEL, "", 300) is None

    assert registry.register(config, shelf["worse"]) == ("2", True)
    worse = registry.promote(client, MODEL, "", 300)
    assert worse.decision == "refused" and worse.numbers["auc_difference_high"] < 0 and worse.champion == "1"
    assert registry.register(config, shelf["better"]) == ("3", True)
    better = registry.promote(client, MODEL, "", 300)
    assert better.decision == "promoted" and better.numbers["auc_difference_low"] > 0
    assert registry.champion_of(client, MODEL) == "3"

    back = registry.rollback(client, MODEL)
    assert (back.version, back.champion) == ("3", "1") and registry.champion_of(client, MODEL) == "1"
    with pytest.raises(UserError, match="was rolled back; --version 3 tries it again"):
        registry.promote(client, MODEL, "", 300)
    with pytest.raises(UserError, match="no champion before 1"):
        registry.rollback(client, MODEL)
    assert [entry["decision"] for entry in decisions(state)] == ["promoted", "refused", "promoted", "rolled back"]
    tags = {str(version.version): version.tags for version in registry.versions(client, MODEL)}
    assert float(tags["2"]["decision.auc_difference"]) == pytest.approx(worse.numbers["auc_difference"], rel=1e-4)
    assert tags["2"]["decision.reason"] == worse.reason and tags["3"]["rolled_back"] == "true"
    assert "champion" in registry.table(client, MODEL)[0] and "refused" in registry.table(client, MODEL)[1]


def test_the_life_of_a_model_in_a_local_store(shelf, store) -> None:
    walk(shelf, store)
    names = {path.name for path in (store / "mlartifacts").rglob("*") if path.is_file()}
    assert {"checkpoint.safetensors", "episodes.parquet", "team_model.py"} <= names
    assert [name for name in names if name.endswith((".pkl", ".pickle", ".joblib"))] == []


def test_the_life_of_a_model_on_a_server(shelf, store, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    before = (store / "mlflow.db").read_bytes()
    with running(lambda port: [*command, "--port", str(port)], "/health", tmp_path / "log", **quiet) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        walk(shelf, store)
    assert (store / "mlflow.db").read_bytes() == before and not (store / "mlartifacts").exists()


def test_a_registered_team_decides_as_its_checkpoint(shelf, store) -> None:
    import mlflow

    registry.register(toy_config(), shelf["good"])
    agent = save_agent(toy_config(), store / "again")
    windows = record(agent, 4, 20, 0.5).windows
    act, obs = decide(agent, windows)
    loaded = mlflow.pyfunc.load_model(f"models:/{MODEL}/1")
    given = {name: np.asarray(part, np.float32) for name, part in vars(windows).items()}
    answer = loaded.predict(given)
    assert np.array_equal(answer["act"], act) and np.array_equal(answer["obs"], obs)


def test_a_version_rolled_back_may_be_tried_again_by_name(shelf, store) -> None:
    client = tracking.open_store()
    for name in ("good", "better"):
        registry.register(toy_config(), shelf[name])
        registry.promote(client, MODEL, "", 300)
    registry.rollback(client, MODEL)
    assert registry.promote(client, MODEL, "2", 300).decision == "promoted"
    assert registry.promote(client, MODEL, "", 300) is None and registry.champion_of(client, MODEL) == "2"
    assert registry.rollback(client, MODEL).champion == "1"


def test_other_games_are_not_compared(shelf, store) -> None:
    client = tracking.open_store()
    registry.register(toy_config(), shelf["good"])
    registry.promote(client, MODEL, "", 300)
    registry.register(toy_config(evaluate__seed=7), shelf["better"])
    with pytest.raises(UserError, match="evaluated by protocol .* other games"):
        registry.promote(client, MODEL, "", 300)
    assert registry.champion_of(client, MODEL) == "1" and len(decisions(store)) == 1


def test_the_champion_measured_anew_is_what_others_are_held_to(shelf, store, tmp_path) -> None:
    client, config = tracking.open_store(), toy_config(evaluate__seed=7)
    registry.register(toy_config(), shelf["good"])
    registry.promote(client, MODEL, "", 300)
    again, better = (measured(config, tmp_path / name, slips) for name, slips in (("again", 0.01), ("better", 0.0)))
    registry.register(config, replace(again, checkpoint=shelf["good"].checkpoint))
    with pytest.raises(UserError, match="version 2 is champion 1, measured anew; name a candidate"):
        registry.promote(client, MODEL, "", 300)
    registry.register(config, better)
    assert registry.promote(client, MODEL, "", 300).decision == "promoted"
    assert registry.champion_of(client, MODEL) == "3"


def two(shelf) -> object:
    """A store whose champion, 2, has replaced 1."""
    client = tracking.open_store()
    for name in ("good", "better"):
        registry.register(toy_config(), shelf[name])
        registry.promote(client, MODEL, "", 300)
    return client


def test_a_champion_that_moved_meanwhile_is_not_replaced(shelf, store, monkeypatch) -> None:
    """As another clone's promotion would move it, which no lock of this one stops."""
    client, judge = two(shelf), promotion.against
    registry.register(toy_config(), shelf["worse"])

    def slowly(*arguments):
        client.set_registered_model_alias(MODEL, registry.CHAMPION, "1")
        return judge(*arguments)

    monkeypatch.setattr(promotion, "against", slowly)
    with pytest.raises(UserError, match="the champion became 1 meanwhile; nothing was changed"):
        registry.promote(client, MODEL, "3", 300)
    assert registry.champion_of(client, MODEL) == "1" and len(decisions(store)) == 2


def test_the_champion_is_served_and_not_the_newest_version(store) -> None:
    client = tracking.open_store()
    client.create_registered_model(MODEL)
    for _ in range(2):
        client.create_model_version(MODEL, str(store))
    with pytest.raises(UserError, match="has no champion; `make promote` makes one"):
        serving.chosen("toy/lights", "")
    client.set_registered_model_alias(MODEL, registry.CHAMPION, "1")
    assert serving.chosen("toy/lights", "") == (MODEL, "1") and serving.chosen("toy/lights", "2") == (MODEL, "2")


def test_two_who_leave_the_same_champion_go_back_once(shelf, store) -> None:
    client = two(shelf)
    assert registry.rollback(client, MODEL, "2").champion == "1"
    with pytest.raises(UserError, match="version 2 is not champion, 1 is"):
        registry.rollback(client, MODEL, "2")


def test_back_to_a_version_that_was_deleted_changes_nothing(shelf, store) -> None:
    client = two(shelf)
    client.delete_model_version(MODEL, "1")
    with pytest.raises(UserError, match="version 1, champion before 2, was deleted; nothing was changed"):
        registry.rollback(client, MODEL)
    assert registry.champion_of(client, MODEL) == "2" and len(decisions(store)) == 2
    assert "rolled_back" not in client.get_model_version(MODEL, "2").tags


def test_a_version_says_what_made_it_and_only_its_last_decision(shelf, store) -> None:
    client = two(shelf)
    tags = client.get_model_version(MODEL, "2").tags
    summary = json.loads(shelf["better"].summary.read_text())
    measured_as = [summary["auc"]["completion"], *summary["auc_ci95"]["completion"]]
    assert [float(tags[name]) for name in ("auc", "auc_low", "auc_high")] == pytest.approx(measured_as, rel=1e-5)
    assert len(set(measured_as)) == 3
    assert len(tags["git.commit"]) == 40 and tags["version.torch"] and "decision.auc_difference" in tags
    registry.rollback(client, MODEL)
    tags = client.get_model_version(MODEL, "2").tags
    assert tags["decision"] == "rolled back" and "decision.auc_difference" not in tags


def test_the_command_says_its_numbers_and_ends_with_a_status_of_its_own(shelf, store, capsys) -> None:
    for name, status in (("good", 0), ("worse", REFUSED)):
        registry.register(toy_config(), shelf[name])
        assert registry.main(["promote", "--env", "toy/lights"]) == status
    said = capsys.readouterr().out
    assert "refused: rmiov2-toy-lights version 2: AUC -0." in said and "champion: rmiov2-toy-lights version 1" in said
    assert registry.main(["promote", "--env", "toy/lights", "--version", "9"]) == 2
    assert "has no version 9; it has 1, 2" in capsys.readouterr().err


def test_what_is_missing_is_said_in_one_sentence(store, capsys, monkeypatch) -> None:
    assert registry.main(["show", "--env", "toy/lights"]) == 2
    assert "no model rmiov2-toy-lights in sqlite" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "off")
    assert registry.main(["show"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_better_under_loss_but_worse_with_full_sight_is_refused(shelf) -> None:
    champion = read_rows(shelf["good"].episodes)
    candidate = {name: values.copy() for name, values in read_rows(shelf["better"].episodes).items()}
    assert promotion.against(candidate, champion, 300).promoted
    sight = candidate["p_loss"] == 0
    candidate["won"][sight], candidate["return"][sight] = False, -10.0
    verdict = promotion.against(candidate, champion, 300)
    assert not verdict.promoted and verdict.numbers["full_sight_difference_high"] < 0
    assert "worse with full sight" in verdict.reason


def test_a_team_is_not_better_than_itself_and_pairs_need_the_same_games(shelf) -> None:
    rows = read_rows(shelf["good"].episodes)
    verdict = promotion.against(rows, rows, 300)
    assert not verdict.promoted and verdict.numbers["auc_difference"] == 0
    shuffled = np.random.default_rng(0).permutation(len(rows["won"]))
    assert promotion.against({name: v[shuffled] for name, v in rows.items()}, rows, 300) == verdict
    fewer = rows["episode"] < 10
    with pytest.raises(UserError, match="same episodes"):
        promotion.against({name: v[fewer] for name, v in rows.items()}, rows, 300)


def episodes(headline: Rates, told: Rates | None = None, untuned: float = 0.0, chance: float = 0.0) -> Columns:
    """The headline's returns by p_loss 0 and 1, each of one step; told: with the true masks; untuned: all equal."""
    cells = [("zeros", "lost", headline), ("zeros_untuned", "lost", [[untuned] * len(rate) for rate in headline])]
    cells += [("zeros", "true", told)] if told else []
    rows = [
        (mode, availability, float(p_loss), episode, value)
        for mode, availability, rates in [*cells, (RANDOM, "lost", [[chance] * 2])]
        for p_loss, rate in enumerate(rates)
        for episode, value in enumerate(rate)
    ]
    names = ("mode", "availability", "p_loss", "episode", "return")
    columns = {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    n = len(rows)
    return columns | {"measure": np.full(n, "step_return"), "seed": np.zeros(n, int), "length": np.ones(n, int)}


CHAMPION = episodes([[0.0] * 4, [0.0] * 4])


def test_a_first_champion_whose_lead_over_chance_may_be_luck_is_refused() -> None:
    unsure = [[0.0, 1.0, 0.0, 1.0]] * 2
    verdict = promotion.first(episodes(unsure, chance=0.45), 300)
    assert verdict.numbers["auc"] > 0.45 > verdict.numbers["auc_low"] and not verdict.promoted
    assert promotion.first(episodes(unsure, chance=-0.1), 300).promoted


def test_a_lead_under_loss_that_may_be_luck_promotes_nobody() -> None:
    verdict = promotion.against(episodes([[0.0] * 4, [1.0, -0.9, 1.0, -0.8]]), CHAMPION, 300)
    assert verdict.numbers["auc_difference"] > 0 > verdict.numbers["auc_difference_low"] and not verdict.promoted
    assert "not clearly better under loss, not worse with full sight" in verdict.reason


@pytest.mark.parametrize("sight", [[0.0] * 4, [0.4, -0.5, 0.4, -0.5]])
def test_to_be_as_good_with_full_sight_or_worse_by_luck_refuses_nobody(sight: list[float]) -> None:
    verdict = promotion.against(episodes([sight, [3.0] * 4]), CHAMPION, 300)
    assert verdict.numbers["full_sight_difference"] <= 0 <= verdict.numbers["full_sight_difference_high"]
    assert verdict.promoted and "not worse with full sight" in verdict.reason


def test_only_the_headline_counts_not_true_masks_and_not_the_team_before_tuning() -> None:
    nothing, much = [[0.0] * 4, [0.0] * 4], [[9.0] * 4, [9.0] * 4]
    verdict = promotion.against(episodes(nothing, told=much, untuned=9.0), episodes(nothing, told=nothing), 300)
    assert verdict.numbers["auc_difference"] == verdict.numbers["full_sight_difference"] == 0 and not verdict.promoted
    verdict = promotion.against(episodes(much, told=nothing), episodes(nothing, told=much, untuned=9.0), 300)
    assert verdict.numbers["auc_difference"] == 9 and verdict.promoted
    first = promotion.first(episodes(nothing, told=much, untuned=9.0, chance=1.0), 300)
    assert first.numbers["auc"] == 0 and not first.promoted


@pytest.mark.parametrize(
    "change",
    [{"seed": 999}, {"pattern": "bursty"}, {"p_loss": (0.0, 1.0)}, {"episodes": 7}, {"num_envs": 3}],
    ids=lambda change: next(iter(change)),
)
def test_the_protocol_is_what_was_played_not_how_it_is_resampled(change) -> None:
    config = toy_config()
    assert promotion.protocol(replace_evaluate(config, **change)) != promotion.protocol(config)
    assert promotion.protocol(replace_evaluate(config, bootstrap=999)) == promotion.protocol(config)


def replace_evaluate(config, **changes):
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update=changes)})
