"""An agent that does not reconstruct, through everything after its training."""

from __future__ import annotations

import asyncio
import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from learning_cases import ROOT, random_games, settings
from plain_agent import Plain
from teams_on_shelves import Skilled
from test_serving import as_request
from test_sweep import Board, trend
from windows import record

import rmiov2
from pipelines import paths, registry, serving
from pipelines.gates.guard import guard
from pipelines.models import promotion, tracking
from pipelines.params import compose_values
from pipelines.registry import Measured
from pipelines.stages.evaluate import evaluate
from pipelines.stages.evaluate import record as record_episode
from pipelines.tuning import study as studies
from pipelines.tuning import trial as trials
from rmiov2 import cli
from rmiov2.agents.registry import AGENTS
from rmiov2.config import Config
from rmiov2.envs.registry import make_env
from rmiov2.evaluation import sweep
from rmiov2.evaluation.modes import modes_played
from rmiov2.evaluation.scene import record_scene
from rmiov2.execution.window import decide
from rmiov2.files import write_json
from rmiov2.replay import shards
from rmiov2.reporting.pages.run import build
from rmiov2.seeding import Generators
from rmiov2.training import checkpoint
from rmiov2.training.curves import write_csv
from rmiov2.types import UserError

MODES = ("zeros", "zeros_untuned", "last_seen", "open_loop")
CELL = "0.25"


@dataclass(frozen=True)
class Run:
    root: Path
    config: Config
    agent: Plain

    def read(self, name: str) -> Any:
        return json.loads((self.root / name).read_text())


def train(config: Config) -> Plain:
    """What the stages before the evaluation leave of an agent without L_rec; the agent after masked fine-tuning."""
    spec = make_env(config.env.name, 1).spec
    shards.replace(paths.REPLAY, random_games(config.env.name, 2), spec)
    agent = Plain(config, spec, 0)
    for folder, mask in ((paths.PRETRAINED, None), (paths.FINETUNED, lambda b, t: np.zeros((b, t, 3), bool))):
        learned = agent.update(None, Generators(0), 1, 0, mask)  # type: ignore[arg-type]
        state = {"agent": dict(agent.state_dict())}
        checkpoint.save(folder / "checkpoint.safetensors", state, config=config, spec=spec)
        told = {"env": spec.name, "agent": config.agent.name, "preset": "toy", "seeds": [0]}
        told |= {"env_steps": 96, "updates": 1}
        write_json(paths.METRICS / f"{folder.name}.json", {**told, "wall_s": 1.0})
        write_csv(paths.PLOTS / f"{folder.name}.csv", [{"env_steps": 96, "update": 1, **learned}] * 2)
    point = {"performance": 1.0, "lo": 0.9, "hi": 1.0, "episodes": 9}
    write_csv(paths.PLOTS / "learning.csv", [{"env_steps": steps, **point} for steps in (0, 96)])
    curve = sweep.evaluate_own(agent, partial(make_env, config.env.name), config.evaluate)
    cell = {"p_mask": float(CELL), "updates": 1, "episodes": config.evaluate.episodes}
    write_json(paths.METRICS / "ablate" / f"{CELL}.json", cell | curve)
    return agent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of Plain, in MAPPO's place, on toy/lights up to its evaluation; the pipeline's paths lie in it now."""
    root = tmp_path_factory.mktemp("plain")
    config = settings(
        "toy/lights", agent=compose_values(["agent=mappo"])["agent"], execution__history=6,
        evaluate__p_loss=[0.0, 0.01, 0.03, 1.0], evaluate__episodes=60, evaluate__num_envs=60, evaluate__bootstrap=200,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(AGENTS, "mappo", "plain_agent:Plain")
        for name, value in list(vars(paths).items()):
            if isinstance(value, Path) and value.is_relative_to(ROOT):
                patch.setattr(paths, name, root / value.relative_to(ROOT))
        patch.setenv("DVC_ROOT", str(root))
        agent = train(config)
        evaluate(config)
        yield Run(root, config, agent)


def test_zeros_are_the_answer_of_an_agent_that_cannot_complete(run: Run) -> None:
    assert modes_played(run.agent.own_mode) == MODES and run.agent.team(1, 0).mode == "zeros"
    with pytest.raises(UserError, match="cannot reconstruct observations; choose mode zeros or last_seen"):
        run.agent.team(1, 0, "completion")


def test_the_evaluation_plays_its_own_mode_tuned_and_untuned(run: Run) -> None:
    summary, rows = run.read("metrics/evaluate.json"), sweep.read_rows(paths.RESULTS / "episodes.parquet")
    for part in (summary, summary["true_availability"]):
        assert all(tuple(part[name]) == MODES for name in ("performance", "ci95", "auc", "auc_ci95"))
        assert part["performance"]["zeros"][0] == 1
    assert sweep.summarise(rows, run.config.evaluate.bootstrap) == summary
    blind = (rows["p_loss"] == 1) & (rows["availability"] == "lost")
    earned = {mode: rows["return"][blind & (rows["mode"] == mode)].mean() for mode in MODES}
    assert earned["zeros"] > 1 and earned["zeros_untuned"] == 0, "only the tuned one guesses"
    assert not rows["messages"].any() and not rows["bytes"].any()
    with (paths.PLOTS / "p_loss.csv").open() as lines:
        header, *curves = csv.reader(lines)
    assert header == ["p_loss", *MODES] and len({tuple(summary["performance"][mode]) for mode in MODES}) > 1
    told = zip(summary["p_loss"], *(summary["performance"][mode] for mode in MODES), strict=True)
    assert [tuple(map(float, row)) for row in curves] == list(told)


def test_the_scene_tells_nothing_that_there_is_not(run: Run) -> None:
    scene = run.read("results/scene.json")
    assert {"error", "messages"}.isdisjoint(scene) and set(scene["reward"]) == {"raw"}
    assert set(scene["series"]) == {"names", "truth"} and len(scene["seen"]) == 12
    mapped = record_scene(Board(1, 0), run.agent.team(1, 0), 0.5, 4, trend)["map"]
    assert set(mapped) == {"width", "height", "units", "true_view"}


def test_the_episode_that_is_shown_is_the_tuned_team_s(run: Run) -> None:
    shown = run.read("results/scene.json")
    assert shown == record_episode(run.config, run.agent)
    untuned = record_episode(run.config, rmiov2.load(paths.PRETRAINED, run.config))
    assert sum(untuned["reward"]["raw"]) < sum(shown["reward"]["raw"]), "which does not guess where it is blind"


def test_the_gate_expects_these_modes_and_no_talk(run: Run) -> None:
    path = paths.RESULTS / "episodes.parquet"
    good = path.read_bytes()
    receipt = json.loads(guard("results", run.config).read_text())
    assert {entry["table"]: entry["rows"] for entry in receipt["checked"]}["cells"] == 2 * 4 * 4 + 1
    rows = pd.read_parquet(path)
    cell = (rows["mode"] == "zeros_untuned") & (rows.p_loss == 0.03) & (rows.availability == "lost")
    chatty = rows.assign(messages=np.where(rows["mode"] == "zeros", 3, 0))
    for broken, expectation in ((rows[~cell], "grid_is_complete"), (chatty, "nothing_lost_costs_nothing")):
        broken.to_parquet(path, index=False)
        with pytest.raises(UserError, match=expectation):
            guard("results", run.config)
    path.write_bytes(good)
    guard("results", run.config)


def test_the_page_leaves_out_what_there_is_not(run: Run) -> None:
    page = build(run.root, run.root / "reports", [CELL]).read_text(encoding="utf-8")
    shown = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    figures = {"performance", "performance_true_availability", "auc", "learning", "ablation"}
    assert set(re.findall(r'<figure id="(\w+)"', shown)) == figures
    assert not re.search(r"completion|reconstruct|message|L_rec|imagin|world model", shown, re.IGNORECASE)
    (told,) = re.findall(r'class="headline">(.*)</p>', shown)
    assert re.search(
        r"the team wins \S+ \[.*\] of its games with zeros in their place after masked fine-tuning, ", told
    )
    assert re.search(r"against \S+ \[.*\] before it and \S+ \[.*\] with the last observations seen\. When", told)
    assert "zeros, not fine-tuned" in shown


def test_a_window_is_decided_as_by_the_team_and_what_was_lost_stays_unknown(run: Run) -> None:
    recorded = record(run.agent, 4, 30, 0.5)
    act, obs = decide(run.agent, recorded.windows)
    assert np.array_equal(act, recorded.act) and len(np.unique(act)) > 3
    present = recorded.windows.obs[np.arange(len(act)), recorded.windows.rows - 1]
    assert np.isnan(present).any() and np.array_equal(obs, present, equal_nan=True)


def post(app: Any, body: bytes) -> tuple[int, bytes]:
    """What the served application answers, without a server: one in a process of its own would not know Plain."""
    said: list[dict[str, Any]] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/invocations", "raw_path": b"/invocations", "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    asyncio.run(app(scope, receive, send))
    return said[0]["status"], b"".join(message.get("body", b"") for message in said)


def test_it_is_registered_promoted_and_served(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    made = Measured(
        paths.FINETUNED / "checkpoint.safetensors", paths.RESULTS / "episodes.parquet", paths.METRICS / "evaluate.json"
    )
    assert registry.register(run.config, made) == ("1", True)
    client = tracking.open_store()
    decision = registry.promote(client, "rmiov2-toy-lights", "", 200)
    assert decision is not None and decision.decision == "promoted"
    auc = run.read("metrics/evaluate.json")["auc"]["zeros"]
    assert decision.numbers["auc"] == pytest.approx(auc)
    assert float(client.get_model_version("rmiov2-toy-lights", "1").tags["auc"]) == pytest.approx(auc, rel=1e-4)
    windows = record(run.agent, 2, 10, 0.5).windows
    status, body = post(serving.make_app("models:/rmiov2-toy-lights/1"), json.dumps(as_request(windows)).encode())
    assert status == 200 and b"NaN" not in body and b"null" in body
    answer, (act, obs) = json.loads(body)["predictions"], decide(run.agent, windows)
    assert np.array_equal(answer["act"], act)
    assert np.array_equal(np.array(answer["obs"], np.float32), obs, equal_nan=True)


def test_headlines_are_compared_whatever_they_are_called(run: Run) -> None:
    mine, config = sweep.read_rows(paths.RESULTS / "episodes.parquet"), run.config
    clumsy, games = Skilled(0.05), partial(make_env, config.env.name)
    other, _ = sweep.evaluate(clumsy, clumsy, games, config.evaluate, "other", 0)
    verdict = promotion.against(mine, other, 200)
    assert verdict.promoted and verdict.numbers["full_sight_difference"] > 0


def test_the_command_plays_its_own_mode(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, team = tmp_path / "evaluation.json", str(paths.FINETUNED)
    assert cli.main(["evaluate", team, "--p-loss", "0", "1", "--episodes", "4", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["mode"] == "zeros"
    assert cli.main(["watch", team, "--out", str(tmp_path / "a.gif")]) == 0
    assert cli.main(["evaluate", team, "--mode", "completion"]) == 2
    assert "cannot reconstruct" in capsys.readouterr().err


def test_a_trial_without_l_rec_is_scored_and_never_pruned(run: Run) -> None:
    games = trials.play(run.config, run.root / "models", trials.VALIDATION)
    assert trials.auc(run.config, games) > 0.05
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(lower=0.0))
    asked = study.ask()
    watch = studies._Watch(asked, prunes=True)
    for done in range(21):
        watch(done, None)
    assert study.trials[0].user_attrs == {} and study.trials[0].intermediate_values == {}
