"""Algorithm 1 and 2 as runs: repeatable to the bit, and going on where they were killed."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning_cases import ROOT, random_games, settings

from rmiov2.agents.registry import make_agent
from rmiov2.config import Config
from rmiov2.envs.registry import make_env
from rmiov2.files import write_json
from rmiov2.progress import Say
from rmiov2.replay import shards
from rmiov2.training import checkpoint
from rmiov2.training.collect import Rollout, Sweep, random_policy
from rmiov2.training.finetune import Finetuning, finetune
from rmiov2.training.pretrain import Pretraining, pretrain
from rmiov2.training.resuming import kept
from rmiov2.training.warmup import warmup
from rmiov2.types import Trajectory, UserError
from rmiov2.world_model.reward_trend import reward_trend


def tiny(**changes: object) -> Config:
    return settings(
        "toy/lights",
        **{
            "collect__num_envs": 4, "collect__warmup_steps": 96, "pretrain__env_steps": 480, "pretrain__segment": 5,
            "pretrain__policy_after": 150, "pretrain__e_m": 0.05, "pretrain__e_pi": 0.03, "pretrain__eval_every": 120,
            "pretrain__eval_episodes": 4, "finetune__updates": 40, "finetune__env_steps": 150,
            "finetune__held_out_episodes": 4, "execution__history": 5,
        } | changes,
    )  # fmt: skip


def quiet(text: str, share: float) -> None:
    assert text and 0 <= share


def run(config: Config, folder: Path, say: Say = quiet) -> None:
    """Every training stage, saving at every chance; whatever an earlier, killed run left is taken up."""
    if not (folder / "collect" / "manifest.json").is_file():
        warmup(config, folder / "collect", quiet)
    if not (folder / "pretrain" / "checkpoint.safetensors").is_file():
        pretrain(
            config, folder / "collect", folder / "pretrain", folder / "replay", folder, folder / "r1", say, 0.0
        )  # fmt: skip
    finetune(
        config, folder / "pretrain", folder / "replay", folder / "finetune", folder, folder / "r2", say, 0.0
    )  # fmt: skip


def run_with_stops(config: Config, folder: Path) -> None:
    """The same, stopped three times on the way and started again."""
    left = [2, 3, 1]

    def stop(text: str, share: float) -> None:
        if left and left[0] == 0:
            left.pop(0)
            raise KeyboardInterrupt
        if left:
            left[0] -= 1

    while left:
        try:
            run(config, folder, stop)
        except KeyboardInterrupt:
            continue
    run(config, folder)


def digests(folder: Path) -> dict[str, str]:
    """Of all that a run made."""
    made = [folder / "pretrain.csv", folder / "learning.csv", folder / "finetune.csv"]
    for part in ("collect", "replay", "pretrain", "finetune"):
        made += sorted((folder / part).iterdir())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in made}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    run(tiny(), folder)
    return folder


def test_two_runs_of_one_seed_are_equal_to_the_bit_and_of_two_seeds_are_not(straight: Path, tmp_path: Path) -> None:
    run(tiny(), tmp_path / "again")
    assert digests(tmp_path / "again") == digests(straight)
    warmup(tiny(seed=1), tmp_path / "other", quiet)
    assert (tmp_path / "other" / "manifest.json").read_text() != (straight / "collect" / "manifest.json").read_text()


CHILD = """
import sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from test_training import run
from rmiov2.config import load
folder = Path(sys.argv[1])
print("begun", flush=True)
run(load(folder / "config.json"), folder)
"""


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3, 4))])
def test_killed_at_a_random_moment_and_started_again_it_is_the_straight_run(
    seed: int, straight: Path, tmp_path: Path
) -> None:
    write_json(tmp_path / "config.json", tiny().model_dump(mode="json"))
    command = [sys.executable, "-c", CHILD.format(tests=str(ROOT / "tests")), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"begun\n"
    awaited = random.Random(seed).choice(["collect", "r1", "r1/replay", "pretrain", "r2", "r2/replay"])
    while child.poll() is None and not (tmp_path / awaited).exists():
        time.sleep(0.01)
    time.sleep(random.Random(seed + 100).uniform(0, 0.7))
    killed = child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert killed, "the run was over before it was killed"
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert digests(tmp_path) == digests(straight)


def test_a_run_that_forgot_what_its_replay_no_longer_needs_goes_on_as_the_straight_run(tmp_path: Path) -> None:
    config = tiny(collect__capacity=60, reward_trend__mode="conserving", reward_trend__normalise=True)
    run(config, tmp_path / "straight")

    def stop(text: str, share: float) -> None:
        if share > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "stopped", stop)
    left = shards.read(tmp_path / "stopped/r1/replay")
    assert 120 <= sum(map(len, left)) < 250, "of some 340 steps"
    run(config, tmp_path / "stopped")
    assert digests(tmp_path / "stopped") == digests(tmp_path / "straight")


def test_data_that_the_checkpoint_counts_and_that_are_gone_are_missed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trajectories in"):
        kept(tmp_path, make_env("toy/lights", 2, 0).spec, 3)


def test_masked_fine_tuning_improves_what_is_said_of_lost_agents_and_leaves_the_policy(straight: Path) -> None:
    before, after = (
        checkpoint.load(straight / stage / "checkpoint.safetensors").state["agent"]
        for stage in ("pretrain", "finetune")
    )
    assert all((before["actor"][name] == after["actor"][name]).all() for name in before["actor"])
    rows = (straight / "finetune.csv").read_text().splitlines()
    column = rows[0].split(",").index("l_rec")
    assert float(rows[-1].split(",")[column]) < float(rows[1].split(",")[column])


def test_a_sweep_plays_one_whole_episode_in_every_row_in_pieces_that_join() -> None:
    env = make_env("toy/clock", 16)
    policy = random_policy(env.spec, np.random.default_rng(0))
    whole = [piece for pieces in Sweep(env, policy, 3, 100).pieces() for piece in pieces]
    policy = random_policy(env.spec, np.random.default_rng(0))
    cut = [pieces for pieces in Sweep(env, policy, 3, 4).pieces()]
    assert len(whole) == 16 and all(3 <= len(game) <= 7 for game in whole)
    assert all(np.allclose(game.rew, (np.arange(len(game)) + 1) / 8) for game in whole)
    assert all(game.con[:-1].all() and game.con[-1] == len(game) % 2 for game in whole), "even lengths terminate"
    assert sum(map(len, cut[0])) + sum(map(len, cut[1])) == sum(map(len, whole))
    assert all(piece.start for piece in cut[0]) and not any(piece.start for piece in cut[1])
    assert all(len(game) == len(game.obs) - 1 for game in whole + cut[0] + cut[1])
    assert np.array_equal(cut[0][0].obs[-1], whole[0].obs[len(cut[0][0])])


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, learn = tiny(), Pretraining.learn
    warmup(config, tmp_path / "collect", quiet)

    def broken(run: Pretraining, pieces: list[Trajectory], steps: int) -> dict[str, float]:
        if run.sweeps == 3:
            run.agent.state_dict()["model"]["encoder.0.weight"] *= 1e38
        return learn(run, pieces, steps)

    monkeypatch.setattr(Pretraining, "learn", broken)
    with pytest.raises(UserError, match="not finite; the last good checkpoint is kept"):
        pretrain(
            config, tmp_path / "collect", tmp_path / "out", tmp_path / "replay", tmp_path, tmp_path / "r", quiet, 0.0
        )  # fmt: skip
    state = checkpoint.load(tmp_path / "r" / "checkpoint.safetensors").state
    assert state["counters"]["sweeps"] == 3 and not (tmp_path / "out").exists()
    assert all(np.isfinite(weights).all() for weights in state["agent"]["model"].values())


def test_a_first_save_that_was_stopped_before_its_manifest_counts_for_nothing(tmp_path: Path) -> None:
    """A full disk did this: the shard is there, or half of it, and every later run was refused."""
    (tmp_path / "replay").mkdir()
    (tmp_path / "replay" / "shard-000001.safetensors").write_bytes(b"half")
    assert kept(tmp_path, make_env("toy/lights", 2, 0).spec, 0) == []


def test_no_room_for_training_after_random_play_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pretrain.env_steps: got 90, expected more than the \d+ steps of random play"):
        run(tiny(pretrain__env_steps=90), tmp_path)
    assert not (tmp_path / "pretrain").exists() and not (tmp_path / "r1").exists()


# What it plays and learns from.


def begun(config: Config, games: list[Trajectory]) -> tuple[Pretraining, Finetuning]:
    """Both training stages of a new agent, with a replay of these games."""
    env = make_env(config.env.name, config.collect.num_envs)
    agent = make_agent(config, env.spec)
    before = checkpoint.Checkpoint(config, env.spec, {"agent": dict(agent.state_dict())})
    return Pretraining(config, env, games), Finetuning(config, env, before, games)


def test_no_two_sweeps_play_the_same_games_nor_do_the_two_stages() -> None:
    still = {"pretrain__e_m": 1e-6, "pretrain__e_pi": 1e-6, "pretrain__segment": 12}
    pre, fine = begun(tiny(collect__num_envs=16, **still), [])
    sweeps = [pre.sweep(), pre.sweep(), fine._played(), fine._played()]
    assert len({tuple(int(piece.obs[0, 0].argmax()) for piece in pieces) for pieces in sweeps}) == 4


@pytest.mark.parametrize(("stage", "play"), [(0, "sweep"), (1, "_played")])
def test_what_is_collected_in_either_stage_explores(stage: int, play: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, greedy = begun(tiny(), [])[stage], []
    act = run.agent.act

    def spy(*given: Any) -> Any:
        greedy.append(given[-1])
        return act(*given)

    monkeypatch.setattr(run.agent, "act", spy)
    getattr(run, play)()
    assert len(greedy) == 12 and not any(greedy)


@pytest.mark.parametrize("mode", ["fixed", "paper", "conserving"])
def test_the_replay_of_either_stage_holds_the_trend_beside_the_reward(mode: str) -> None:
    config = tiny(reward_trend__mode=mode, reward_trend__beta=40.0, reward_trend__h_min=0, reward_trend__h_max=2)
    games = random_games("toy/lights", 2)
    for run in begun(config, games):
        batch = run.replay.sample(len(games), 13, np.random.default_rng(0))
        whole = batch.start & batch.step[:, :12].all(1)
        assert whole.sum() > 3 and not np.allclose(batch.trend[whole], batch.rew[whole])
        for rew, trend in zip(batch.rew[whole, :12], batch.trend[whole, :12], strict=True):
            assert np.allclose(trend, reward_trend(rew, config.reward_trend, 1.0)[0], atol=1e-6)


@pytest.mark.parametrize("kind", [Sweep, Rollout])
def test_returns_to_go_are_discounted_from_every_state_played_to_the_end_of_its_game(
    kind: type[Sweep] | type[Rollout],
) -> None:
    env = make_env("toy/clock", 8)
    game = kind(env, random_policy(env.spec, np.random.default_rng(0)), 0, 30)
    pieces = [piece for some in game.pieces() for piece in some]
    earned = [sum(0.5**k * r for k, r in enumerate(piece.rew[t:])) for piece in pieces for t in range(len(piece))]
    assert game.returns_to_go(0.5) == pytest.approx(np.mean(earned))
