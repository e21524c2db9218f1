"""A throw-away DVC project of three cheap stages under our flow, and a real Prefect server to watch it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SUMMARY = {
    "env": "toy/throwaway",
    "measure": "win_rate",
    "p_loss": [0.0, 1.0],
    "performance": {"completion": [0.9, 0.4], "zeros": [0.9, 0.1]},
    "auc": {"completion": 0.65, "zeros": 0.5},
    "auc_ci95": {"completion": [0.6, 0.7], "zeros": [0.45, 0.55]},
}

# One script for all stages: it notes that it ran, then does what a file named after the stage says.
SCRIPT = f"""
import os, pathlib, sys, time
stage = sys.argv[1]
with open(f"state/{{stage}}.ran", "a") as notes:
    notes.write(f"{{os.getpid()}}\\n")
mode = pathlib.Path(f"state/{{stage}}.mode")
said = mode.read_text() if mode.exists() else ""
if said == "hang":
    time.sleep(600)
if said.startswith("fail"):
    left = int(said.split()[1])
    if left:
        mode.write_text(f"fail {{left - 1}}")
        print(f"{{stage}}: the simulator crashed", file=sys.stderr)
        sys.exit(int(said.split()[2]))
pathlib.Path(f"metrics/{{stage}}.json").write_text({json.dumps(json.dumps(SUMMARY))} if stage == "evaluate" else "{{}}")
"""

DVC_YAML = """
stages:
  first:
    cmd: python stage.py first
    deps: [stage.py]
    metrics: [{metrics/first.json: {cache: false}}]
  train:
    cmd: python stage.py train
    deps: [stage.py, metrics/first.json]
    metrics: [{metrics/train.json: {cache: false}}]
    meta: {retries: %s, timeout_s: %s}
  evaluate:
    cmd: python stage.py evaluate
    deps: [stage.py, metrics/train.json]
    metrics: [{metrics/evaluate.json: {cache: false}}]
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, seconds, every=0.3):
    """The first true answer; fails the test if none comes in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s: {what}")


class Server:
    """`prefect server` with a home of its own."""

    def __init__(self, home):
        home.mkdir()
        self.url = f"http://127.0.0.1:{(port := free_port())}/api"
        self.env = os.environ | {
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.url,
            "PREFECT_UI_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "true",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DVC_SITE_CACHE_DIR": str(home / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(home / "global"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        self.log = (home / "server.log").open("wb")
        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        self.process = subprocess.Popen(command, env=self.env, stdout=self.log, stderr=self.log, start_new_session=True)

    def up(self):
        assert self.process.poll() is None, Path(self.log.name).read_text()
        try:
            return urllib.request.urlopen(f"{self.url}/health", timeout=2).status == 200
        except OSError:
            return False

    def ask(self, path, body=None, method="POST"):
        """The API's answer, asked for again as Prefect's own client does: where none comes, and where 503 says that
        SQLite was busy.
        """
        request = urllib.request.Request(
            f"{self.url}/{path}",
            None if method == "GET" else json.dumps(body or {}).encode(),
            {"content-type": "application/json"},
            method=method,
        )

        def answer():
            try:
                with urllib.request.urlopen(request, timeout=15) as said:
                    return [json.loads(said.read() or "null")]
            except TimeoutError:
                return None
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
                return None

        return until(answer, 60)[0]

    def run_of(self, project):
        """The newest run of a project's flow, by the label that it gives itself."""
        runs = self.ask("flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC"})
        return next((run for run in runs if run["labels"].get("rmiov2.root") == str(project.root)), None)

    def tasks(self, run):
        """The task runs of a run by their name."""
        found = self.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
        return {task["name"]: task for task in found}

    def artifact(self, run, key):
        wanted = {"flow_run_id": {"any_": [run["id"]]}, "key": {"any_": [key]}}
        (found,) = self.ask("artifacts/filter", {"artifacts": wanted})
        return found


class Throwaway:
    """A checkout with our pipelines/ and three stages that take no time; `runs` says which of them ran."""

    def __init__(self, root, env, timeout_s="null", retries=2):
        self.root, self.env = root, env | {"PYTHONPATH": str(root)}
        for name in ("pipelines", "rmiov2", "conf"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("prefect.yaml", "params.yaml"):
            shutil.copy(ROOT / name, root)
        (root / "stage.py").write_text(SCRIPT)
        (root / "dvc.yaml").write_text(DVC_YAML % (retries, timeout_s))
        (root / "state").mkdir()
        (root / "metrics").mkdir()
        (root / ".dvc").mkdir()
        (root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")

    def told(self, stage, what):
        (self.root / "state" / f"{stage}.mode").write_text(what)

    def change(self):
        """Make every stage stale."""
        with (self.root / "stage.py").open("a") as script:
            script.write("# changed\n")

    def ran(self, stage):
        """The processes that the stage had, in order."""
        notes = self.root / "state" / f"{stage}.ran"
        return [int(line) for line in notes.read_text().split()] if notes.exists() else []

    def start(self, *arguments):
        """`python -m pipelines.study …`, left running."""
        command = [sys.executable, "-m", "pipelines.study", *arguments]
        with (self.root / "state" / "started.log").open("wb") as log:
            return subprocess.Popen(
                command, cwd=self.root, env=self.env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def study(self, *arguments):
        """`python -m pipelines.study …` to its end: the exit status and what it said."""
        return self._done([sys.executable, "-m", "pipelines.study", *arguments])

    def dvc(self, *arguments):
        """What DVC said; fails the test if it failed."""
        status, said = self._done([sys.executable, "-m", "dvc", *arguments])
        assert status == 0, said
        return said

    def _done(self, command):
        done = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr
