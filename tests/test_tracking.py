"""Runs of stages in MLflow: what a stage did, that it failed, and that a lost store loses no result."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from project import Project
from teams_on_shelves import free_port

from pipelines.models import tracking
from rmiov2.types import UserError


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A toy project with a store of its own, whose collection has run and whose fine-tuning has failed."""
    made = Project(tmp_path_factory.mktemp("tracked"))
    made.env.pop("MLFLOW_TRACKING_URI")
    made.said = made.run("dvc", "repro", "collect")
    made.failed = subprocess.run(
        [sys.executable, "-m", "pipelines.stages.finetune"], cwd=made.root, env=made.env, capture_output=True, text=True
    )
    return made


@pytest.fixture(scope="module")
def runs(project) -> dict:
    """The runs by the name of their stage."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{project.root / 'state' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("rmiov2-toy-lights")
    assert experiment.artifact_location == (project.root / "state" / "mlartifacts").as_uri()
    found = client.search_runs([experiment.experiment_id])
    assert len(found) == 2
    return {run.info.run_name: run for run in found}


def test_a_run_holds_what_the_stage_computed_from_and_what_came_out(project, runs) -> None:
    run = runs["collect"]
    assert run.info.status == "FINISHED" and run.data.tags["dvc.stage"] == "collect"
    assert run.data.params["collect.warmup_steps"] == "200" and run.data.params["env.name"] == "toy/lights"
    assert run.data.metrics["env_steps"] == project.read("metrics/collect.json")["env_steps"]
    assert run.data.tags["git.commit"] == project.run("git", "rev-parse", "HEAD").strip()
    assert run.data.tags["version.torch"] and run.info.end_time - run.info.start_time > 100
    assert "collect: recorded in sqlite:" in project.said


def test_a_file_is_found_by_the_digest_that_dvc_knows(project, runs) -> None:
    locked = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]["collect"]
    entries = {f"md5.dep.{dep['path']}": dep["md5"] for dep in locked["deps"]}
    entries |= {f"md5.out.{out['path']}": out["md5"] for out in locked["outs"]}
    assert {name: value for name, value in runs["collect"].data.tags.items() if name.startswith("md5.")} == entries


def test_a_stage_that_fails_leaves_a_failed_run_with_its_sentence(project, runs) -> None:
    assert project.failed.returncode == 2
    run = runs["finetune"]
    assert run.info.status == "FAILED" and run.data.params["finetune.updates"] == "30"
    sentence = project.failed.stderr.splitlines()[-1].removeprefix("finetune: ")
    assert run.data.tags["error"] == f"UserError: {sentence}"
    assert not any(name.startswith("md5.out.") for name in run.data.tags)


@pytest.mark.parametrize("broken", ["a server that does not answer", "a file that is no store"])
def test_a_lost_store_costs_a_warning_and_no_result(project, broken, tmp_path) -> None:
    (tmp_path / "garbage.db").write_bytes(b"no database " * 1000)
    uri = f"http://127.0.0.1:{free_port()}" if "server" in broken else f"sqlite:///{tmp_path}/garbage.db"
    before = (project.root / "metrics" / "collect.json").read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.stages.collect"], cwd=project.root, capture_output=True, text=True,
        env=project.env | {"MLFLOW_TRACKING_URI": uri}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (project.root / "metrics" / "collect.json").read_bytes() == before
    assert "result in data/collect" in done.stdout
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING collect: not recorded")]
    assert len(warnings) == 1 and uri in warnings[0] and "Traceback" not in done.stderr


def test_a_team_is_not_registered_with_results_that_are_not_its_own(project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.registry", "register"],
        cwd=project.root, env=project.env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "results/episodes.parquet" in done.stderr and "run `dvc repro evaluate` first" in done.stderr


def test_two_processes_may_open_a_new_store_at_once(tmp_path, project) -> None:
    command = [
        sys.executable,
        "-c",
        "from pipelines.models import tracking as t; t.experiment_of(t.open_store(), 'toy/clock')",
    ]
    env = project.env | {"DVC_ROOT": str(tmp_path)}
    both = [subprocess.Popen(command, cwd=project.root, env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert (tmp_path / "state" / "mlflow.db").stat().st_size > 0


def test_a_temporary_copy_of_an_experiment_records_in_the_project(monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for root in ("/home/me/rmiov2", "/home/me/rmiov2/.dvc/tmp/exps/tmpabc"):
        monkeypatch.setenv("DVC_ROOT", root)
        assert tracking.home() == Path("/home/me/rmiov2")
        assert tracking.uri() == "sqlite:////home/me/rmiov2/state/mlflow.db"


def test_a_folder_that_no_address_of_a_store_can_name_is_refused(monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", "/work/what now?/clone")
    with pytest.raises(UserError, match="has a . in its name.*set MLFLOW_TRACKING_URI"):
        tracking.uri()


def test_curves_keep_whole_steps_and_number_the_rest(tmp_path) -> None:
    (tmp_path / "learn.csv").write_text("env_steps,won,loss\n10,0.5,\n20,1,0.25\n")
    (tmp_path / "loss.csv").write_text("p_loss,zeros\n0.0,1\n0.4,0.5\n")
    learned = [("learn.won", 0.5, 10), ("learn.won", 1.0, 20), ("learn.loss", 0.25, 20)]
    assert list(tracking._curves(tmp_path / "learn.csv", "env_steps")) == learned
    assert list(tracking._curves(tmp_path / "loss.csv", "p_loss")) == [("loss.zeros", 1.0, 0), ("loss.zeros", 0.5, 1)]


def test_work_that_is_stopped_is_not_recorded_as_failed(monkeypatch) -> None:
    recorded = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///never.db")
    monkeypatch.setattr(tracking, "record", lambda *told: recorded.append(told))
    with pytest.raises(KeyboardInterrupt), tracking.recorded("collect"):
        raise KeyboardInterrupt
    assert recorded == [] and not Path("never.db").exists()


def test_a_folder_that_may_not_be_written_is_blamed_and_no_store_that_is_whole() -> None:
    with pytest.raises(UserError, match="^/clone/state: Read-only file system; mend that"), tracking.one_sentence():
        raise OSError(errno.EROFS, "Read-only file system", "/clone/state")


def test_off_is_off(monkeypatch) -> None:
    monkeypatch.setattr(tracking, "record", lambda *told: pytest.fail("it was recorded"))
    with tracking.recorded("collect"):
        pass
    assert tracking.uri() == "off"
