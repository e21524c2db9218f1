"""smac/MAP when the game crashes, hangs, will not start, talks nonsense: its battle is lost, counted, not learned."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import psutil
import pytest
from smac_worlds import DEATH_S, DOUBLE, TESTS, WORLDS, world
from starcraft.install import running
from test_smac import fight, idle

from rmiov2.envs.observation_loss import ObservationLoss
from rmiov2.evaluation.controls import play_random
from rmiov2.training.collect import Rollout, Sweep
from rmiov2.types import UserError


@pytest.fixture(params=WORLDS)
def here(request, tmp_path, monkeypatch):
    made = world(request.param, tmp_path, monkeypatch)
    yield made
    assert made.nothing_left()


def until_lost(env, step, most=200):
    """Steps of every row until a game breaks, that one included."""
    steps = [step]
    while not steps[-1].lost.any():
        steps.append(env.step(idle(steps[-1])))
        assert len(steps) < most
    return steps


@pytest.mark.parametrize("what", ["crash_at", "malformed_at", "error_at"])
def test_a_battle_whose_game_breaks_in_a_step_is_lost_and_no_other(here, what):
    here.modes(**{what: 4, "launches": [1]})
    env = here.make(num_envs=2)
    steps = until_lost(env, env.reset(0))
    last = steps[-1]
    assert len(steps) == 5 and last.lost.sum() == 1 and last.done.sum() == 1
    assert not (last.terminated | last.truncated | last.won).any() and not last.rew[last.lost].any()
    after = env.step(idle(last))
    assert np.array_equal(after.first, last.lost) and not after.lost.any()
    assert after.obs[last.lost].any() and env.lost_episodes == 1
    again = env.step(idle(after))
    assert not again.first.any() and not again.lost.any() and here.launches in (3, 4)  # SMAC may begin one in vain
    env.close()


def test_a_game_that_hangs_is_killed_after_its_patience(here):
    here.modes(hang_at=3, launches=[1])
    env = here.make(num_envs=1, patience=1 if here.source == DOUBLE else 4)
    began = time.monotonic()
    assert len(until_lost(env, env.reset(0))) == 4 and time.monotonic() - began < 30
    assert env.step(np.zeros((1, env.spec.num_agents), int)).first.all() and env.lost_episodes == 1
    env.close()


@pytest.mark.parametrize(
    "modes", [{"port_taken": True, "launches": [1]}, {"crash_at": ["create_game", 1], "launches": [1]}]
)
def test_a_game_that_does_not_start_is_started_again_and_nothing_is_lost(here, modes):
    here.modes(**modes)
    env = here.make(num_envs=1)
    step = env.reset(0)
    assert step.first.all() and step.obs.any() and here.launches == 2
    assert not env.step(idle(step)).lost.any() and not env.lost_episodes
    env.close()


def test_a_slow_start_is_waited_for(here):
    here.modes(slow_start_s=1.5)
    env = here.make(num_envs=1)
    assert env.reset(0).obs.any() and here.launches == 1
    env.close()


def test_a_game_that_breaks_between_two_battles_shows_nothing_of_the_old_one(here):
    here.modes(crash_at=["debug", 1], launches=[1])
    env = here.make(num_envs=1)
    step = env.reset(0)
    while not step.done[0]:
        step = env.step(fight(step))
    step = env.step(idle(step))
    assert step.first.all() and not step.avail[..., 0].any()  # all are alive
    assert here.launches >= 2 and not env.lost_episodes
    env.close()


def test_a_game_that_always_breaks_is_given_up_with_what_it_said(here):
    here.modes(crash_at=["create_game", 1])
    env = here.make(num_envs=1)
    with pytest.raises(UserError, match="broke 6 times within 100 battles, at last with: .+"):
        env.reset(0)
    env.close()


def random_play(env, seed=0):
    rng = np.random.default_rng(seed)
    return lambda step: np.asarray((rng.random(step.avail.shape) * step.avail).argmax(-1))


@pytest.mark.parametrize("segment", [3, 1000])
def test_a_sweep_hands_out_one_whole_episode_of_every_row_and_nothing_of_a_broken_one(here, segment):
    here.modes(crash_at=6, launches=[1])
    env = here.make(num_envs=2)
    game = Sweep(env, random_play(env), 0, segment)
    pieces = [piece for some in game.pieces() for piece in some]
    env.close()
    assert game.lost == env.lost_episodes == 1
    assert sum(piece.start for piece in pieces) == 2 and max(map(len, pieces)) <= segment
    assert sum(map(len, pieces)) == game.steps()
    assert sum(float(piece.rew.sum()) for piece in pieces) == pytest.approx(float(game.episode_returns().sum()))
    if segment == 1000:
        for piece in pieces:  # it ended: somebody won, or all fell, or time ran out
            assert piece.con[-1] == 0 or len(piece) == env.spec.episode_limit
            assert np.abs(piece.obs).sum((1, 2))[:-1].all()


def test_a_rollout_has_nothing_of_a_broken_episode(here):
    here.modes(crash_at=6, launches=[1])
    env = here.make(num_envs=2)
    game = Rollout(env, random_play(env), 0, 12)
    (pieces,) = game.pieces()
    env.close()
    assert game.lost == 1 and sum(map(len, pieces)) == game.steps() <= 2 * 12 - 7
    assert all(piece.start and piece.obs[0].any() for piece in pieces)


def test_a_rollout_of_which_all_is_lost_is_refused(here):
    here.modes(crash_at=3, launches=[1])
    env = here.make(num_envs=1)
    with pytest.raises(UserError, match="^smac/3m: all 1 episodes of a rollout got lost"):
        list(Rollout(env, random_play(env), 0, 3).pieces())
    env.close()


def test_an_answer_that_was_asked_for_before_an_interrupt_is_not_taken_for_the_next(here, monkeypatch):
    env = here.make(num_envs=2)
    step = env.reset(0)

    def interrupted(act):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(env._games[1], "play", interrupted)
        env.step(idle(step))
    with pytest.raises(UserError, match="step before the first reset"):
        env.step(idle(step))
    assert here.nothing_left() and env.reset(0).first.all()
    env.close()


def test_evaluation_plays_a_lost_episode_again(here):
    here.modes(crash_at=5, launches=[1, 4])  # 3 is the one that SMAC itself begins in vain
    env = here.make(num_envs=2)
    played = play_random(env, 6, 0)
    env.close()
    assert len(played["won"]) == 6 and env.lost_episodes == 2 and (played["length"] >= 4).all()


def test_losses_of_observations_go_on_after_a_broken_game(here):
    here.modes(crash_at=2, launches=[1])
    env = ObservationLoss(here.make(num_envs=1), "one_agent", 1.0)
    steps = until_lost(env, env.restart(0))
    after = env.step(np.zeros((1, env.spec.num_agents), int))
    env.close()
    assert len(steps) == 3 and after.first.all() and (~after.seen).sum() == 1


PARENT = """
import sys, time
sys.path.insert(0, {tests!r})
import numpy as np
from rmiov2.envs.smac.adapter import Smac
if __name__ == "__main__":
    env = Smac("3m", 2, 0, {source!r}, 60)
    step = env.reset(0)
    print("playing", flush=True)
    while True:
        step = env.step(np.where(step.avail[..., 0], 0, 1))
"""


@pytest.mark.parametrize("modes", [{"hang_at": 3}, {"linger_s": 600, "ignore_sigterm": True}], ids=str)
@pytest.mark.parametrize("with_workers", [False, True])
def test_no_game_outlives_a_parent_that_was_killed(here, modes, with_workers):
    here.modes(**modes)
    code = PARENT.format(tests=str(TESTS), source=here.source)
    path = {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), *filter(None, sys.path)])}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ | path)
    assert parent.stdout.readline() == b"playing\n"
    time.sleep(0.5)
    assert len(running(here.folder)) == 2
    if with_workers:
        for worker in psutil.Process(parent.pid).children():
            worker.kill()
    parent.kill()
    parent.wait()
    assert here.nothing_left()
    parent.stdout.close()


def test_a_game_whose_smac_was_killed_is_killed_too_and_its_battle_lost(here):
    here.modes(linger_s=600)
    env = here.make(num_envs=1)
    step = env.reset(0)
    (game,) = running(here.folder)
    os.kill(env._games[0]._process._process.pid, signal.SIGKILL)
    step = env.step(idle(step))
    assert step.lost.all() and env.lost_episodes == 1
    assert env.step(idle(step)).first.all() and game not in running(here.folder)
    env.close()


GUARDED = """
import os, sys
from rmiov2.envs.smac.worker import guard
os.setpgrp()
lifeline, held = os.pipe()
guard(sys.argv[1], os.open(os.devnull, os.O_RDONLY), lifeline)
"""


def test_the_guard_takes_the_folder_it_was_given_and_no_other(tmp_path):
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir(), other.mkdir()
    for folder in (own, other):
        (folder / "left").touch()
    path = os.pathsep.join([str(TESTS.parent), *filter(None, sys.path)])
    surroundings = os.environ | {"PYTHONPATH": path, "TMPDIR": str(other)}
    subprocess.run([sys.executable, "-P", "-c", GUARDED, str(own)], env=surroundings, check=True, cwd=other)
    until = time.monotonic() + DEATH_S
    while own.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not own.exists() and (other / "left").exists()


def test_what_got_lost_is_in_the_metrics_of_every_stage(here, tmp_path, monkeypatch):
    from pipelines import paths, stage
    from pipelines.params import compose_values
    from pipelines.stages.ablate import ablate
    from rmiov2.config import parse
    from rmiov2.evaluation import sweep
    from rmiov2.training.finetune import finetune
    from rmiov2.training.pretrain import pretrain
    from rmiov2.training.warmup import warmup

    here.register()
    settings = ["env=smac_3m", "preset=toy", "collect.num_envs=2", "collect.warmup_steps=40", "pretrain.env_steps=80"]
    settings += ["pretrain.eval_episodes=2", "finetune.updates=20", "finetune.env_steps=20", "evaluate.num_envs=2"]
    settings += ["ablate.updates=20", "ablate.episodes=7", "evaluate.p_loss=[0,1]"]
    config = parse(compose_values([*settings, "pretrain.policy_after=60", "finetune.held_out_episodes=2"]), "test")
    quiet = lambda text, share: None  # noqa: E731
    here.modes(crash_at=3, launches=[1])
    told = warmup(config, tmp_path / "collect", quiet)
    assert told["game"] == {**here.make(1).facts, "episodes_lost": 1}
    before = here.launches
    here.modes(crash_at=3, launches=[before + 1])
    told = pretrain(
        config, tmp_path / "collect", tmp_path / "pretrain", tmp_path / "replay", tmp_path, tmp_path / "resume", quiet
    )
    assert told["game"]["episodes_lost"] == 1
    before = here.launches
    here.modes(crash_at=3, launches=[before + 1])
    told = finetune(
        config, tmp_path / "pretrain", tmp_path / "replay", tmp_path / "finetune", tmp_path, tmp_path / "resume2", quiet
    )
    assert told["game"]["episodes_lost"] == 1
    json.dumps(told)
    evaluate_own = sweep.evaluate_own

    def judged(*given):
        here.modes(crash_at=3, launches=[here.launches + 1])
        return evaluate_own(*given)

    monkeypatch.setattr(sweep, "evaluate_own", judged)
    monkeypatch.setattr(stage, "resumable", lambda name, cell: nullcontext(tmp_path / "resume3"))
    for name, value in {"PRETRAINED": "pretrain", "REPLAY": "replay", "METRICS": "metrics"}.items():
        monkeypatch.setattr(paths, name, tmp_path / value)
    before = here.launches
    here.modes(crash_at=3, launches=[before + 1])
    told = json.loads(ablate(config, "0.5").read_text())
    assert told["game"]["episodes_lost"] == 2
