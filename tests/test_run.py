"""The main job's stages side by side: in order, as many as there may be, and each heard."""

import io
import os
import re
import subprocess
import sys
import threading
import time

import psutil
import pytest
import yaml
from rich.console import Console

from benchmarks.cases import composed
from pipelines import run
from pipelines.processes import dvc_stage
from pipelines.processes.lifeline import WATCHED, alone, orphaned
from pipelines.processes.screen import Screen
from rmiov2.types import UserError

GRAPH = [("a", []), ("long", ["a"]), ("x@1", ["a"]), ("x@2", ["a"]), ("end", ["long"]), ("page", ["end", "x@1", "x@2"])]


def worked(graph, jobs, work=lambda stage: None):
    """What was begun, in order, and what failed."""
    begun = []

    def noted(stage):
        begun.append(stage)
        work(stage)

    return begun, run.side_by_side(graph, lambda running: running < jobs, noted, threading.Event())


def test_one_at_a_time_that_comes_first_for_which_most_wait():
    begun, wrong = worked(GRAPH, 1)
    assert begun == ["a", "long", "end", "x@1", "x@2", "page"] and wrong == []


def test_those_that_do_not_wait_for_one_another_run_at_once_and_no_more_than_may():
    two, lock, most = threading.Barrier(2), threading.Lock(), [0, 0]

    def work(stage):
        with lock:
            most[0] += 1
            most[1] = max(most)
        if stage in ("long", "x@1"):
            two.wait(30)  # breaks unless both are at work
        with lock:
            most[0] -= 1

    begun, wrong = worked(GRAPH, 2, work)
    assert wrong == [] and most == [0, 2] and begun[0] == "a" and begun[-1] == "page"


def test_one_that_fails_stops_what_waits_for_it_alone():
    def work(stage):
        if stage == "long":
            raise UserError("long failed")

    begun, wrong = worked(GRAPH, 2, work)
    assert set(begun) == {"a", "long", "x@1", "x@2"} and [str(error) for error in wrong] == ["long failed"]


def test_stopped_it_raises_when_nothing_works_on():
    stopped, ended = threading.Event(), []

    def work(stage):
        if stage == "x@1":
            raise KeyboardInterrupt
        if stage == "long":
            ended.append(stopped.wait(30))

    with pytest.raises(KeyboardInterrupt):
        run.side_by_side(GRAPH, lambda running: running < 2, work, stopped)
    assert ended == [True]


@pytest.mark.parametrize(("capability", "threads"), [("AVX512", "1 thread"), ("DEFAULT", "3 threads")])
def test_what_is_trained_and_where_is_one_line(capability, threads, monkeypatch):
    monkeypatch.setattr(run, "processor", lambda device: capability)
    config = composed("agent=qmix", "env=smax_2s3z", f"threads={threads.split()[0]}")
    where = rf"on cpu, {capability}, torch \d+\.\d+, {threads}"
    assert re.fullmatch(rf"{where}: qmix on smax/2s3z, 300,000 steps", run.what_and_where(config))


def test_a_target_brings_what_it_waits_for_and_a_matrix_all_its_cells():
    assert [stage for stage, _ in run.needed(GRAPH, ["end"])] == ["a", "long", "end"]
    assert [stage for stage, _ in run.needed(GRAPH, ["x"])] == ["a", "x@1", "x@2"]
    assert [stage for stage, _ in run.needed(GRAPH, ["x@2"])] == ["a", "x@2"]
    assert run.needed(GRAPH, []) == GRAPH
    with pytest.raises(UserError, match="no stage y; expected of a, long"):
        run.needed(GRAPH, ["end", "y"])


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A DVC project of three stages, two of which meet: neither ends before the other has begun."""
    meet = "import pathlib, sys, time\nme, other = map(pathlib.Path, sys.argv[1:])\nme.write_text('made')\n"
    meet += "print(f'{me} 50% 00:01<')\nend = time.monotonic() + 60\n"
    meet += "while not other.exists():\n    assert time.monotonic() < end\n    time.sleep(0.05)\n"
    (tmp_path / "meet.py").write_text(meet)
    stages = {
        "one": {"cmd": "python meet.py one.txt two.txt", "outs": ["one.txt"]},
        "two": {"cmd": "python meet.py two.txt one.txt", "outs": ["two.txt"]},
        "bad": {"cmd": "python -c 'raise SystemExit(\"bad: no such map\")'", "deps": ["one.txt"]},
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setattr(run.paths, "ROOT", tmp_path)
    monkeypatch.setattr(run.paths, "STATE", tmp_path / "state")
    monkeypatch.setattr(run, "declared", lambda: {"one": ["env", "device"], "two": ["env"]})
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=tmp_path, check=True, env=dvc_stage.surroundings())
    return tmp_path


def test_dvc_runs_them_side_by_side_and_then_finds_them_up_to_date(tiny, capsys):
    assert run.main(["one", "two", "--jobs", "2"]) == 0
    said = capsys.readouterr().out
    assert re.match(r"on cpu, \w+, torch [\d.]+, 1 thread: rmiov2 on smax/3m, 64,000 steps\n", said)
    assert "Running stage 'one':" in said and "one.txt 50%" in said and "run: 2 stages up to date" in said
    assert run.main(["one", "two", "--jobs", "2"]) == 0
    assert re.fullmatch(r"run: 2 stages up to date, \d+ s\n", capsys.readouterr().out)
    assert run.main(["one", "two", "bad", "--jobs", "2"]) == 2
    said = capsys.readouterr()
    assert "bad: no such map" in said.err and "Stage 'two' didn't change, skipping" in said.out
    assert "torch" not in said.out  # nothing that calculates was out of date
    (tiny / "one.txt").unlink()
    assert run.main(["bad", "--jobs", "2"]) == 2 and (tiny / "one.txt").exists()


def test_wrong_arguments_are_refused(tiny, capsys):
    assert run.main(["three", "--jobs", "1"]) == 2 and "no stage three" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run.main(["--jobs", "0"])
    assert "expected a whole number of 1 or more" in capsys.readouterr().err


def test_only_one_runs_at_a_time(tiny, capsys):
    with alone("run"):
        assert run.main(["one", "--jobs", "1"]) == 2
    assert f"process {os.getpid()} is at run already" in capsys.readouterr().err


def test_there_is_room_for_as_many_as_was_said_or_while_cores_are_idle(monkeypatch):
    idle = [1]
    monkeypatch.setattr(run, "idle_cores", lambda: idle[0])

    def room(jobs, *settings):
        given = run.room_of(jobs, composed(*settings))
        return [given(running) for running in (1, 3, 4)]

    assert room(4) == [True, True, False] and room(1) == [False] * 3
    assert room(None) == [True] * 3 and room(None, "threads=2") == [False] * 3
    assert room(None, "device=cuda") == [True, True, False]
    idle[0] = 11
    assert room(None, "env=smac_2s3z") == [False] * 3
    idle[0] = 12
    assert room(None, "env=smac_2s3z") == [True] * 3
    idle[0] = 0
    assert room(None) == [False] * 3


def test_one_that_had_no_room_begins_when_there_is():
    room, begun = threading.Event(), []

    def work(stage):
        begun.append(stage)
        if stage == "x":
            room.set()
            until = time.monotonic() + 60
            while "y" not in begun:
                assert time.monotonic() < until
                time.sleep(0.05)

    assert run.side_by_side([("x", []), ("y", [])], lambda running: room.is_set(), work, threading.Event()) == []
    assert begun == ["x", "y"]


SLEEP = "import time; print('here', flush=True); time.sleep(600)"


def sleeping(**more):
    process = subprocess.Popen([sys.executable, "-c", SLEEP], env=os.environ | more, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"here\n"
    return process


def test_a_dvc_is_an_orphan_once_whoever_it_works_for_is_dead_or_a_zombie():
    starter = sleeping()
    process, own = sleeping(**{WATCHED: str(starter.pid)}), sleeping()
    try:
        assert not orphaned(psutil.Process(process.pid)) and not orphaned(psutil.Process(own.pid))
        starter.kill()
        until = time.monotonic() + 30
        while not orphaned(psutil.Process(process.pid)):
            assert time.monotonic() < until
        own.kill()
        while not orphaned(psutil.Process(own.pid)):  # killed, waited for by nobody
            assert time.monotonic() < until
    finally:
        for started in (starter, process, own):
            started.kill()
            started.communicate()


def test_orphans_are_waited_for_and_others_are_not(monkeypatch, capsys):
    others = iter([[psutil.Process()], [psutil.Process()], []])
    monkeypatch.setattr(run, "living", lambda root: next(others))
    monkeypatch.setattr(run, "orphaned", lambda process: True)
    run.wait_for_orphans()
    assert capsys.readouterr().out == f"waits for process {os.getpid()}, left behind by a kill, to end\n"
    monkeypatch.setattr(run, "living", lambda root: [psutil.Process()])
    monkeypatch.setattr(run, "orphaned", lambda process: False)
    with pytest.raises(UserError, match=f"process {os.getpid()} runs DVC here already"):
        run.wait_for_orphans()


def console(**more):
    return Console(file=io.StringIO(), width=60, highlight=False, markup=False, emoji=False, **more)


def test_on_a_terminal_each_has_a_line_that_moves_and_words_that_stay():
    with Screen(console(force_terminal=True)) as screen:
        assert screen.variables
        for line in (
            "Running stage 'one':",
            "one  10% 00:01<00:09 [it]",
            "one 100% 00:10<00:00",
            "x.py:100: 95% of it",
        ):
            screen.of("one")(line)
        screen.of("two")("two  20% 00:01<00:04")
        screen.of("three")("three:  20%|##   ")
        screen.ended("three")
        assert [text.plain for text in screen._lines().renderables] == ["two  20% 00:01<00:04"]
        said = screen._console.file.getvalue()
    for stays in ("Running stage 'one':", "one 100% 00:10<00:00", "x.py:100: 95% of it"):
        assert said.count(stays) == 1


def test_in_a_log_moving_lines_are_few_and_dvcs_advice_is_left_out():
    with Screen(console()) as screen:
        say = screen.of("one")
        for percent in range(50):
            say(f"one {percent}% 00:01<00:09")
        for line in (
            "Updating lock file 'dvc.lock'",
            "To track the changes with git, run:",
            "\tgit add dvc.lock",
            "one: 3 s",
        ):
            say(line)
        assert not screen.variables
    assert screen._console.file.getvalue().splitlines() == ["one 0% 00:01<00:09", "one: 3 s"]
