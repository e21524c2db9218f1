"""The flow under a real Prefect server: it starts on schedule, retries, fails, is cancelled, and agrees with DVC."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from project import ROOT, Project
from study_cases import Server, Throwaway, free_port, until

from pipelines import study
from pipelines.processes.screen import throttled
from rmiov2.types import UserError

STAGES = ("first", "train", "evaluate")
SECONDS = re.compile(rb'"wall_s": [0-9.]+|<td>[0-9]+ s</td>')
STUDY = ("python", "-m", "pipelines.study", "run")
SWEEP = ("python", "-m", "pipelines.study", "sweep", "--envs", "toy_lights", "--seeds", "0", "1", "--set", "preset=toy")


def over(run):
    """The run, if it has come to an end."""
    ends = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
    return run if run and run["state_type"] in ends else None


@contextmanager
def ended(process):
    """Nothing of the process is left."""
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def dask_cluster(project):
    """A scheduler and two workers, processes that know the project's code and nothing of the flow's."""
    address, bare = f"tcp://127.0.0.1:{free_port()}", ("--no-dashboard",)
    commands = [
        ["dask", "scheduler", "--host", address, *bare],
        ["dask", "worker", address, "--nworkers", "2", "--nthreads", "1", *bare],
    ]
    log = (project.root / "state" / "dask.log").open("wb")
    with ExitStack() as stack:
        for command in commands:
            started = subprocess.Popen(
                command, cwd=project.root, env=project.env, stdout=log, stderr=log, start_new_session=True
            )
            stack.enter_context(ended(started))
        yield address


def made_by(project):
    """The bytes of every file that the pipeline makes, but for the seconds that it took, and Data Docs' date."""
    folders = ("data", "models", "results", "plots", "reports", "metrics")
    paths = (path for folder in folders for path in sorted((project.root / folder).rglob("*")) if path.is_file())
    names = {str(path.relative_to(project.root)): SECONDS.sub(b"", path.read_bytes()) for path in paths}
    return {name: content for name, content in names.items() if not name.startswith("reports/data_docs/")}


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("prefect") / "home")
    try:
        until(made.up, 180)
        yield made
    finally:
        os.killpg(made.process.pid, signal.SIGTERM)
        made.process.wait(30)


class TestServed:
    """One deployment that waits for its hours; its runs come from the server."""

    @pytest.fixture(scope="class")
    def project(self, tmp_path_factory, server):
        made = Throwaway(tmp_path_factory.mktemp("served"), server.env)
        with ended(made.start("serve", "--no-register")):
            yield made

    @pytest.fixture(scope="class")
    def deployment(self, project, server):
        return until(lambda: next(iter(server.ask("deployments/filter")), None), 60)

    def test_a_scheduled_run_starts_by_itself_and_leaves_its_table(self, project, server, deployment):
        assert deployment["name"] == "nightly" and deployment["global_concurrency_limit"]["limit"] == 1
        assert [entry["schedule"]["cron"] for entry in deployment["schedules"]] == ["0 3 * * *"]
        soon = (datetime.now(UTC) + timedelta(seconds=8)).isoformat()
        beat = {"schedule": {"interval": 30, "anchor_date": soon}, "active": True}
        (made,) = server.ask(f"deployments/{deployment['id']}/schedules", [beat])
        until(lambda: server.run_of(project), 120)
        server.ask(f"deployments/{deployment['id']}/schedules/{made['id']}", method="DELETE")
        run = until(lambda: over(server.run_of(project)), 120)
        assert run["state_name"] == "Completed" and run["auto_scheduled"]
        assert {name: task["state_name"] for name, task in server.tasks(run).items()} == dict.fromkeys(STAGES, "Ran")
        rows = json.loads(server.artifact(run, "result")["data"])
        assert rows == [
            {"mode": "completion", "p_loss 0": "0.90", "p_loss 1": "0.40", "AUC [95 %]": "0.65 [0.60, 0.70]"},
            {"mode": "zeros", "p_loss 0": "0.90", "p_loss 1": "0.10", "AUC [95 %]": "0.50 [0.45, 0.55]"},
        ]
        assert str(project.root / "reports" / "index.html") in server.artifact(run, "report")["data"]
        assert server.artifact(run, "progress")["data"] == 100

    def test_cancelled_in_the_page_the_training_is_gone_in_seconds(self, project, server, deployment):
        project.told("train", "hang")
        project.change()
        before = len(project.ran("train"))
        run = server.ask(f"deployments/{deployment['id']}/create_flow_run")
        until(lambda: len(project.ran("train")) > before, 60)
        training = psutil.Process(project.ran("train")[-1])
        server.ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
        asked = time.monotonic()
        until(lambda: not training.is_running() or training.status() == psutil.STATUS_ZOMBIE, 20)
        assert time.monotonic() - asked < 15
        assert until(lambda: over(server.run_of(project)), 60)["state_type"] == "CANCELLED"
        assert len(project.ran("train")) == before + 1
        assert "locked" not in project.dvc("status")


class TestFlow:
    @pytest.fixture
    def project(self, tmp_path, server):
        return Throwaway(tmp_path / "project", server.env)

    def test_a_stage_that_fails_twice_and_then_works_is_tried_again(self, project, server):
        project.told("train", "fail 2 1")
        status, said = project.study("run", "--no-register")
        assert status == 0, said
        run = server.run_of(project)
        assert run["state_type"] == "COMPLETED" and len(project.ran("train")) == 3
        assert server.tasks(run)["train"]["run_count"] == 3
        assert project.dvc("repro").count("didn't change, skipping") == 3
        assert [len(project.ran(stage)) for stage in STAGES] == [1, 3, 1]

    def test_one_that_always_fails_leaves_the_flow_failed_and_what_comes_after_it_not_run(self, project, server):
        project.told("train", "fail 99 1")
        status, said = project.study("run", "--no-register")
        run = server.run_of(project)
        assert status == 2 and said.strip().splitlines()[-1].endswith("train: the simulator crashed")
        assert run["state_type"] == "FAILED" and len(project.ran("train")) == 3
        assert project.ran("evaluate") == []
        project.told("train", "")
        project.dvc("repro")
        status, said = project.study("run", "--no-register")
        assert status == 0, said
        assert {task["state_name"] for task in server.tasks(server.run_of(project)).values()} == {"UpToDate"}

    def test_what_the_user_must_mend_is_not_tried_again(self, project, server):
        project.told("train", "fail 99 2")
        assert project.study("run", "--no-register")[0] == 2
        assert len(project.ran("train")) == 1

    def test_a_stage_that_hangs_is_ended_and_tried_again(self, tmp_path, server):
        project = Throwaway(tmp_path / "project", server.env, timeout_s="3", retries=0)
        project.told("train", "hang")
        status, said = project.study("run", "--no-register")
        assert status == 2 and "longer than 3 s" in said.strip().splitlines()[-1]
        assert not psutil.pid_exists(project.ran("train")[-1])

    def test_a_run_whose_process_was_killed_is_called_crashed_by_the_next(self, project, server):
        project.told("train", "hang")
        process = project.start("run", "--no-register")
        until(lambda: project.ran("train"), 60)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        lost = server.run_of(project)
        os.kill(project.ran("train")[0], signal.SIGKILL)
        project.told("train", "")
        assert lost["state_type"] == "RUNNING"
        status, said = project.study("run", "--no-register")
        assert status == 0, said
        assert server.ask(f"flow_runs/{lost['id']}", method="GET")["state_type"] == "CRASHED"

    def test_an_unknown_meta_key_is_refused_before_anything_runs(self, project):
        path = project.root / "dvc.yaml"
        path.write_text(path.read_text().replace("retries", "retrys"))
        status, said = project.study("run", "--no-register")
        assert status == 2 and "retrys" in said and project.ran("first") == []


def test_without_a_server_a_schedule_is_refused_in_one_sentence(tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    command = [sys.executable, "-m", "pipelines.study", "serve"]
    done = subprocess.run(command, cwd=ROOT, env=env | {"PREFECT_HOME": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 2 and "make ui" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/api", "nowhere", "http://localhost:abc/api"])
def test_a_server_that_does_not_answer_is_said_before_anything_runs(address, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", address)
    with pytest.raises(UserError, match=f"nobody answers at {address}; start that server, or unset it"):
        study.find_server()


def test_a_servers_restart_forgets_no_lease(tmp_path):
    """What it holds for a run in progress is there for the next process of the server, or the run is called crashed."""
    hold = "print(asyncio.run(store.create_lease([uuid4()], timedelta(minutes=5))).id)"
    find = "print(asyncio.run(store.read_lease(UUID(sys.argv[1]))) is not None)"
    said = []
    for step in (hold, find):
        code = (
            "import asyncio, sys; from datetime import timedelta; from uuid import UUID, uuid4\n"
            "from pipelines import environment; environment.prepare()\n"
            "from prefect.server.concurrency.lease_storage import get_concurrency_lease_storage\n"
            f"store = get_concurrency_lease_storage(); {step}"
        )
        env = os.environ | {"PREFECT_HOME": str(tmp_path)}
        command = [sys.executable, "-c", code, *said]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        said = done.stdout.split()
    assert said == ["True"]


def test_no_address_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setattr(study, "SERVER", tmp_path / "server")
    assert study.find_server() is None


def test_of_a_moving_line_few_are_kept_and_all_others():
    said = []
    say = throttled(said.append)
    for line in ("begins", " 1% 00:01<", " 2% 00:02<", "95% are right, result in x", "x: 3%|# "):
        say(line)
    assert said == ["begins", " 1% 00:01<", "95% are right, result in x"]


@pytest.mark.long
@pytest.mark.pipeline
class TestRealPipeline:
    """The toy preset, by `dvc repro` in one clone and by the flow in another."""

    @pytest.fixture(scope="class")
    def clones(self, tmp_path_factory, server):
        folders = [tmp_path_factory.mktemp(name) for name in ("dvc", "flow")]
        made = [Project(folder) for folder in folders]
        for project in made:
            project.env |= {name: server.env[name] for name in ("PREFECT_API_URL", "PREFECT_HOME")}
            store = f"sqlite:///{project.root / 'state' / 'mlflow.db'}"
            project.env["MLFLOW_TRACKING_URI"] = store
        by_dvc, by_flow = made
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda work: work(), (by_dvc.repro, lambda: by_flow.run(*STUDY))))
        return made

    def test_they_make_the_same_files_to_the_byte(self, clones):
        by_dvc, by_flow = map(made_by, clones)
        assert len(by_dvc) > 15 and by_dvc.keys() == by_flow.keys()
        assert [name for name in by_dvc if by_dvc[name] != by_flow[name]] == []

    def test_either_after_the_other_repeats_nothing(self, clones):
        by_dvc, by_flow = clones
        assert by_flow.repro() == []
        assert "Running stage" not in by_dvc.run(*STUDY)

    def test_the_flow_has_registered_the_team(self, clones):
        _, project = clones
        assert "rmiov2-toy-lights" in project.run("python", "-m", "pipelines.registry", "show")

    def test_a_sweep_on_a_real_dask_cluster_lays_seeds_side_by_side(self, clones):
        _, project = clones
        project.commit()
        before = (project.root / "params.yaml").read_bytes()
        with dask_cluster(project) as address:
            project.env |= {"RMIOV2_RUNNER": "dask", "RMIOV2_CLUSTER": address}
            said = project.run(*SWEEP)
        kept = project.root / "reports" / "sweep" / "env-toy_lights-preset-toy"
        assert str(kept.parent) in said.splitlines()[-1]
        assert {p.name for p in kept.iterdir()} == {"seed-0", "seed-1", "seeds.png"}
        evaluated, trained = (project.root / f"metrics/{name}.json" for name in ("evaluate", "pretrain"))
        assert (kept / "seed-0" / "evaluate.json").read_bytes() == evaluated.read_bytes()
        assert (kept / "seed-0" / "pretrain.json").read_bytes() == trained.read_bytes(), "it was not trained again"
        assert json.loads((kept / "seed-1" / "pretrain.json").read_text())["seeds"] == [1]
        assert (project.root / "params.yaml").read_bytes() == before

    @pytest.mark.long
    @pytest.mark.parametrize("runner", ["thread", "process"])
    def test_a_sweep_here_finds_what_was_made_and_makes_nothing_again(self, clones, runner):
        _, project = clones
        project.env |= {"RMIOV2_RUNNER": runner}
        kept = project.root / "reports" / "sweep" / "env-toy_lights-preset-toy" / "seed-0" / "pretrain.json"
        kept.unlink(missing_ok=True)
        assert "Running stage" not in project.run(*SWEEP[:8], *SWEEP[9:])
        assert kept.read_bytes() == (project.root / "metrics" / "pretrain.json").read_bytes()
