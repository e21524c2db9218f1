"""A stage run from outside: what it says arrives, how it ended is told, and nothing of it outlives a stop."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psutil
import pytest
import yaml

from pipelines import run
from pipelines.processes import dvc_stage
from pipelines.processes.heal import damaged, heal, living
from pipelines.processes.lifeline import CLOCK_SLACK, WATCHED, still_lives
from rmiov2.types import UserError

SAY = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('made'); print('a\\rb'); print('two words')"
REFUSE = "print('bad: no such map', file=__import__('sys').stderr); raise SystemExit(2)"
LARGE_BYTES = 2**24
LARGE = f"""
import os, resource
resource.setrlimit(resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)[1:] * 2)
os.makedirs("large", exist_ok=True)
open("large/file", "wb").write(os.urandom({LARGE_BYTES}))
"""
SLEEP = "import pathlib, time; pathlib.Path('began').write_text('x'); time.sleep(600)"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A DVC project of stages that take no time, two of which have run, and one that would take ten minutes."""
    root, monkey = tmp_path_factory.mktemp("tiny"), pytest.MonkeyPatch()
    for name, code in {"say": SAY, "refuse": REFUSE, "sleep": SLEEP, "large": LARGE}.items():
        (root / f"{name}.py").write_text(code)
    stages = {
        "first": {"cmd": "python say.py first.txt", "outs": ["first.txt"], "deps": ["say.py"], "params": ["word"]},
        "cells": {"matrix": {"x": [1, 2]}, "cmd": "python say.py ${key}.txt", "deps": ["first.txt"],
                  "outs": ["${key}.txt"]},
        "bad": {"cmd": "python refuse.py", "deps": ["first.txt"]},
        "long": {"cmd": "python sleep.py", "deps": ["first.txt"], "outs": ["never.txt"]},
        "large": {"cmd": "python large.py", "deps": ["first.txt"], "params": ["word"], "outs": ["large"]},
        "shot": {"cmd": "echo aiming; kill -SEGV $$", "deps": ["first.txt"]},
    }  # fmt: skip
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (root / "params.yaml").write_text("word: one\n")
    monkey.setenv("DVC_SITE_CACHE_DIR", str(root / "site"))
    dvc = f"{sys.executable} -m dvc"
    for command in ("git init -q", f"{dvc} init -q", f"{dvc} repro -q first cells@1"):
        subprocess.run(command.split(), cwd=root, check=True, env=dvc_stage.surroundings())
    yield root
    monkey.undo()


def test_the_graph_is_dvc_yaml_s_with_its_matrix_written_out(tiny):
    graph = dict(dvc_stage.dag(tiny))
    assert list(graph)[:2] == ["first", "bad"]
    assert graph == {"first": []} | dict.fromkeys(("bad", "cells@1", "cells@2", "long", "large", "shot"), ["first"])


def test_what_most_wait_for_comes_first():
    needs = {"a": [], "light": ["a"], "z": ["a"], "heavy": ["z"], "end": ["heavy", "light"], "b": []}
    assert dvc_stage.by_those_behind(needs) == ["a", "z", "heavy", "light", "b", "end"]


def test_a_stage_runs_once_is_skipped_and_restored(tiny):
    lines = []
    assert dvc_stage.run_stage("first", tiny, lines.append, force=True).outcome == "ran"
    assert [line for line in lines if line in ("a", "b", "two words")] == ["a", "b", "two words"]
    assert dvc_stage.run_stage("first", tiny, lines.append).outcome == "up-to-date"
    (tiny / "params.yaml").write_text("word: two\n")
    assert dvc_stage.run_stage("first", tiny, lines.append).outcome == "ran"
    (tiny / "params.yaml").write_text("word: one\n")
    assert dvc_stage.run_stage("first", tiny, lines.append).outcome == "cached"
    assert "is cached" in dvc_stage.log_of(tiny, "first").read_text()


def test_a_stage_that_fails_says_its_own_sentence(tiny):
    with pytest.raises(dvc_stage.StageFailed, match="bad: no such map$") as failed:
        dvc_stage.run_stage("bad", tiny, print)
    assert failed.value.status == 2


def test_a_stage_that_is_killed_is_said_to_be(tiny):
    with pytest.raises(dvc_stage.StageFailed, match="SIGSEGV killed it after: aiming$") as failed:
        dvc_stage.run_stage("shot", tiny, print)
    assert failed.value.status == -signal.SIGSEGV


@contextmanager
def no_file_beyond(size):
    """For what this process starts: a disk that is full for large files."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("meanwhile", ["nothing", "a setting"])
def test_what_the_cache_could_not_take_is_kept_later_and_made_anew_only_if_something_changed(tiny, meanwhile):
    """DVC itself calls it a success."""
    lines, unkept = [], "^large is made, but DVC could not keep it: File too large; mend that, then run again$"
    (tiny / "params.yaml").write_text(f"word: before {meanwhile}\n")
    with no_file_beyond(LARGE_BYTES // 4):
        for _ in range(2):  # still full when it is tried again
            with pytest.raises(dvc_stage.StageFailed, match=unkept):
                dvc_stage.run_stage("large", tiny, lines.append)
            assert (tiny / "large" / "file").stat().st_size == LARGE_BYTES
    if meanwhile == "a setting":
        (tiny / "params.yaml").write_text("word: after\n")
    expected = "ran" if meanwhile == "a setting" else "up-to-date"
    assert dvc_stage.run_stage("large", tiny, lines.append).outcome == expected
    assert sum("Running stage 'large'" in line for line in lines) == 1 + (expected == "ran")
    assert dvc_stage.run_stage("large", tiny, lines.append).outcome == "up-to-date"
    (tiny / "params.yaml").write_text("word: one\n")


def test_a_stage_that_does_not_exist_fails(tiny):
    with pytest.raises(dvc_stage.StageFailed, match="'nothing' not found") as failed:
        dvc_stage.run_stage("nothing", tiny, print)
    assert failed.value.status is None


def begun(tiny):
    (tiny / "began").unlink(missing_ok=True)
    raised = []

    def run():
        try:
            dvc_stage.run_stage("long", tiny, print)
        except dvc_stage.StageFailed as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_for((tiny / "began").exists)
    return thread, raised


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def sleepers(tiny):
    found = []
    for process in psutil.process_iter():
        try:
            found += [process] if "sleep.py" in process.cmdline() and process.cwd() == str(tiny) else []
        except psutil.Error:
            continue
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def test_a_stop_reaches_the_stage_and_gives_the_lock_back(tiny, monkeypatch, capsys):
    thread, raised = begun(tiny)
    again = [sys.executable, "-m", "dvc", "repro", "-s", "long"]
    other = subprocess.run(again, cwd=tiny, capture_output=True, text=True, timeout=60)
    assert other.returncode and "is busy" in other.stderr
    with pytest.raises(dvc_stage.DvcLocked, match="another DVC is at work"):
        dvc_stage.run_stage("long", tiny, print)
    assert living(tiny) and heal(tiny) == []  # what a living DVC holds is not taken away
    monkeypatch.setattr(run.paths, "ROOT", tiny)
    monkeypatch.setattr(run.paths, "STATE", tiny / "state")
    assert run.main([]) == 2 and "runs DVC here already; wait for it or end it" in capsys.readouterr().err
    began = time.monotonic()
    dvc_stage.kill_all()
    thread.join(30)
    assert time.monotonic() - began < 10 and len(raised) == 1 and sleepers(tiny) == []
    assert json.loads((tiny / ".dvc" / "tmp" / "rwlock").read_text()) == {}


@pytest.mark.parametrize("content", ["", '{"write": {"/a', '{"write": {"%s": {"pid": %d, "cmd": "dvc repro"}}}'])
def test_a_lock_that_a_kill_left_is_healed_and_the_stage_runs(tiny, content):
    """Cut short, or naming a process whose number another one has got: here, this test."""
    if "%d" in content:
        content = content % (tiny / "first.txt", os.getpid())
    (tiny / ".dvc" / "tmp" / "rwlock").write_text(content)
    lines = []
    assert dvc_stage.run_stage("first", tiny, lines.append, force=True).outcome == "ran"
    assert [line for line in lines if line.startswith("rwlock ")]


def test_a_lockfile_cut_anywhere_stands_in_no_way(tiny):
    path = tiny / "dvc.lock"
    whole = path.read_bytes()
    for length in range(0, len(whole), 60):
        path.write_bytes(whole[:length])
        heal(tiny)
        if path.exists():
            dvc_stage.dag(tiny)
    path.write_bytes(whole[: len(whole) // 2] + b"\xff: [")
    assert heal(tiny) == ["dvc.lock was cut short by a kill; removed"]
    assert dvc_stage.run_stage("first", tiny, print).outcome == "cached"
    assert dvc_stage.run_stage("cells@1", tiny, print).outcome == "cached"


def test_a_committed_lockfile_comes_back(tiny):
    path = tiny / "dvc.lock"
    whole = path.read_bytes()
    author = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", "add", "dvc.lock"], cwd=tiny, check=True)
    subprocess.run(["git", *author, "commit", "-qm", "run"], cwd=tiny, check=True)
    path.write_bytes(whole[:-40] + b"\x00")
    assert heal(tiny) == ["dvc.lock was cut short by a kill; the committed one is back"]
    assert path.read_bytes() == whole


def test_a_lockfile_in_the_middle_of_a_merge_is_left_to_its_owner(tiny):
    path = tiny / "dvc.lock"
    whole = path.read_bytes()
    merging = b"<<<<<<< HEAD\n" + whole + b"=======\n>>>>>>> theirs\n"
    path.write_bytes(merging)
    with pytest.raises(UserError, match="git checkout --ours dvc.lock"):
        heal(tiny)
    assert path.read_bytes() == merging
    path.write_bytes(whole)


def test_what_a_power_cut_did_to_the_cache_is_found(tiny):
    cache = tiny / ".dvc" / "cache" / "files" / "md5"
    good = next(path for path in cache.glob("??/*"))
    bad, half = good.with_name("0" * 30), good.with_name(".abc.tmp")
    bad.write_bytes(b"")
    half.write_bytes(b"half")
    assert heal(tiny) == [".abc.tmp was half copied; removed"]  # the other was written since the machine started
    assert list(damaged(tiny, 0, time.time() + 9)) == [bad]
    for path in (good, bad):
        os.utime(path, (psutil.boot_time() - 60,) * 2)
    assert heal(tiny) == [f"{bad.name} is not what its name says; removed"]
    assert good.exists() and not bad.exists() and not half.exists()


STAGE = """
import pathlib, sys, time
from pipelines import paths, stage
paths.STATE = pathlib.Path(sys.argv[1])
def work(config):
    print("works", flush=True)
    time.sleep(600)
sys.argv = ["collect"]
sys.exit(stage.main("collect", "It is slow.", work))
"""


def slow(state, **more):
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, str(state)],
        env=os.environ | more,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_stage_stops_on_sigterm_as_on_ctrl_c_and_never_works_twice(tmp_path):
    first = slow(tmp_path)
    assert first.stdout.readline() == "works\n"
    second = slow(tmp_path)
    time.sleep(3)
    assert second.poll() is None  # it waits, says nothing and does nothing
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 130 and "collect: stopped; " in first.stderr.read()
    assert second.stdout.readline() == "works\n"
    second.kill()
    second.communicate()


def test_a_process_lives_by_its_number_and_its_beginning_also_while_it_ends(monkeypatch):
    own = psutil.Process()
    number, began = own.pid, own.create_time()
    assert still_lives(number, began) and not still_lives(number, began - 2 * CLOCK_SLACK)

    def gone(process):
        raise psutil.NoSuchProcess(process.pid)

    monkeypatch.setattr(psutil.Process, "create_time", gone)  # it ended after it was found
    assert not still_lives(number, began)


def test_a_stage_ends_when_the_process_that_it_works_for_has_gone(tmp_path):
    watched = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process = slow(tmp_path, **{WATCHED: str(watched.pid)})
    assert process.stdout.readline() == "works\n"
    watched.kill()  # and nobody waits for it: a zombie is gone as well
    assert process.wait(30) == 130
    watched.wait()
    process = slow(tmp_path, **{WATCHED: str(watched.pid)})
    assert process.wait(60) == 130
    process = slow(tmp_path, **{WATCHED: "nobody"})
    assert process.wait(60) == 2 and "RMIOV2_WATCH_PID is 'nobody'" in process.stderr.read()
