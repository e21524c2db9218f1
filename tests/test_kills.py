"""Killed at any moment and by any signal, a run goes on where it was and ends with the same bytes."""

import json
import os
import random
import re
import signal
import subprocess
import time
from contextlib import suppress

import psutil
import pytest
from project import Project, reproduced

from pipelines.processes.heal import damaged, is_dvc

LONG = ("pretrain.env_steps=1500", "finetune.updates=100")  # seconds of training, saved after every round
TIMES = {"wall_s"}


class Hasty(Project):
    """A project whose stages save after every round."""

    def __init__(self, folder):
        folder.mkdir()
        super().__init__(folder)
        self.hasten()

    @classmethod
    def copy(cls, folder, made):
        project = super().copy(folder, made)
        project.hasten()
        return project

    def hasten(self):
        self.env["PYTHONPATH"] = f"{self.root / 'tests' / 'hasty'}{os.pathsep}{self.root}"
        self.compose(*LONG)
        self.words = self.root.parent / "words"

    def start(self, *targets):
        """`make run`'s command in a session of its own, all that it says in one file."""
        with self.words.open("ab") as said:
            return subprocess.Popen(
                ["python", "-m", "pipelines.run", *targets],
                cwd=self.root, env=self.env, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip

    def finish(self, *targets):
        """Run to the end, and say what was said."""
        process = self.start(*targets)
        status = process.wait(600)
        assert status == 0, self.words.read_text()
        return self.words.read_text()

    def results(self):
        """Every result's bytes, without what two equal runs may differ in."""
        found = {}
        for folder in ("data", "models", "results", "plots", "metrics"):
            for path in sorted((self.root / folder).rglob("*")):
                if path.is_file() and path.name != ".gitignore":
                    found[str(path.relative_to(self.root))] = content(path)
        return found

    def saved(self, stage):
        return list((self.root / "state" / "resume" / stage).glob("*/checkpoint.safetensors"))


def content(path):
    if path.suffix != ".json" or "metrics" not in path.parts:
        return path.read_bytes()
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in TIMES}


def run_killed(process):
    """Its DVC is orphaned, and the next run begins while the stage still works."""
    process.kill()


def all_killed(process):
    """Nothing of it gets a word in, as in a power cut."""
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def dvc_killed(process):
    """The stage is orphaned; the run ends by itself, or was at its end."""
    while process.poll() is None:
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.NoSuchProcess):
                if is_dvc(child):
                    child.kill()
                    return
        time.sleep(0.05)


def group_ended(process):
    os.killpg(process.pid, signal.SIGTERM)


def interrupted(process):
    os.killpg(process.pid, signal.SIGINT)


ENDS = (run_killed, dvc_killed, all_killed, group_ended, interrupted)


def until(what, seconds=120):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def kill_again_and_again(project, targets, kills, span):
    """Kills at random moments of at most `span` seconds, the ways in turn; the first two find a half-trained stage."""
    moments = random.Random(5)
    for number in range(kills):
        process = project.start(*targets)
        if number < 2:
            until(lambda stage=("pretrain", "finetune")[number]: project.saved(stage))
        else:
            time.sleep(moments.uniform(0, span))
        ENDS[number % len(ENDS)](process)
        process.wait(60)


def check(project, reference, targets):
    said = project.finish(*targets)
    assert project.results() == reference.results()
    assert "up to date" in project.run("dvc", "status", *targets)
    assert list((project.root / "state" / "resume").glob("*/*")) == []
    assert list(damaged(project.root, 0, time.time() + 1)) == []
    for stage in ("pretrain", "finetune"):
        assert re.search(rf"^{stage}: goes on from state/resume/{stage}/", said, re.MULTILINE), said


@pytest.mark.pipeline
def test_killed_in_five_ways_it_ends_with_the_same_bytes(tmp_path_factory):
    """Both begin with the games that are collected: the first kill comes in the middle of pre-training."""
    targets = ("collect", "pretrain", "finetune")
    straight, project = (reproduced(tmp_path_factory, name, Hasty) for name in ("straight", "killed"))
    straight.finish(*targets)
    kill_again_and_again(project, targets, len(ENDS), 6.0)
    check(project, straight, targets)


@pytest.mark.long
@pytest.mark.pipeline
def test_killed_forty_times_in_all_its_stages_it_ends_with_the_same_bytes(tmp_path):
    straight, project = Hasty(tmp_path / "straight"), Hasty(tmp_path / "killed")
    straight.finish()
    kill_again_and_again(project, (), 40, 12.0)
    check(project, straight, ())
