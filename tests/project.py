"""The whole pipeline in a clone of its own, on a game that is played in seconds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
CELLS = ("0.0", "0.5")  # of the toy preset's ablate.p_mask


def stages(agent):
    """Every stage of dvc.yaml by name, a matrix over ablate.p_mask as its cells, for an agent."""
    return dict(expanded(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"], agent))


def expanded(declared, agent):
    for name, entry in declared.items():
        cells = {f"{name}@{cell}": cell for cell in CELLS} if "matrix" in entry else {name: ""}
        for full, cell in cells.items():
            text = json.dumps(entry).replace("${item.p_mask}", cell).replace("${agent.name}", agent)
            yield full, json.loads(text)


STAGES = stages("rmiov2")


def copy_code(target):
    """This checkout as it is, what git ignores left out, and the seeds that were kept: a thousand files."""
    files = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, text=True)
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file() and "docs/seeds" not in map(str, Path(name).parent.parents):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def surroundings(folder):
    """The environment in which commands see the clone in the folder and nothing of this machine's own settings."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "clone"),
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "global"),
        "DVC_NO_ANALYTICS": "1",
        "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t",
    }  # fmt: skip


class Project:
    """A clone with its own git and DVC cache; traced: with notes of what its stages read and run."""

    def __init__(self, folder, traced=False):
        self.root, self.traces = folder / "clone", folder / "traces"
        copy_code(self.root)
        for name in ("dvc.lock", "metrics", "plots"):
            path = self.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.env = surroundings(folder)
        if traced:
            self.traces.mkdir()
            self.env["PYTHONPATH"] = f"{self.root / 'tests' / 'tracing'}{os.pathsep}{self.root}"
            self.env["RMIOV2_TRACE"] = str(self.traces)
        self.compose()
        self.run("git", "init", "-q")
        self.commit()

    @classmethod
    def copy(cls, folder, made):
        """What lies in the folder `made` of another one, at the state that it is in; its traces stay where they are."""
        project = cls.__new__(cls)
        project.root, project.traces, project.env = folder / "clone", made / "traces", surroundings(folder)
        shutil.copytree(made / "clone", project.root, symlinks=True)
        return project

    def run(self, *command):
        """What the command printed; fails the test with all of it if the command fails."""
        done = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def compose(self, *overrides):
        said = {"preset": "toy", "env": "toy_lights"} | dict(text.split("=", 1) for text in overrides)
        self.run("python", "-m", "pipelines.params", *(f"{key}={value}" for key, value in said.items()))

    def commit(self):
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "state", "--allow-empty")

    def repro(self):
        """The stages that ran."""
        said = self.run("dvc", "repro")
        return [name for name in STAGES if f"Running stage '{name}':" in said]

    def read(self, name):
        return json.loads((self.root / name).read_text())


def reproduced(tmp_path_factory, name, kind=Project):
    """A copy, of a kind, of a traced project in which every stage has run once and nothing is committed since.

    It is made once a session, by the worker that needs it first.
    """
    base = tmp_path_factory.getbasetemp()
    made = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "reproduced"
    with FileLock(made.with_suffix(".lock")):
        if not (made / "whole").exists():
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            assert Project(made, traced=True).repro() == list(STAGES)
            (made / "whole").touch()
    return kind.copy(tmp_path_factory.mktemp(name), made)
