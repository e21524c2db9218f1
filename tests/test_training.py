"""Algorithm 1 and 2 as runs: repeatable to the bit, and going on where they were killed."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from learning_cases import ROOT, settings

from rmiov2.config import Config
from rmiov2.envs.registry import make_env
from rmiov2.files import write_json
from rmiov2.progress import Say
from rmiov2.replay import shards
from rmiov2.training import checkpoint
from rmiov2.training.collect import Sweep, random_policy
from rmiov2.training.finetune import finetune
from rmiov2.training.pretrain import pretrain
from rmiov2.training.resuming import kept
from rmiov2.training.warmup import warmup
from rmiov2.types import UserError


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


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    good = tiny(pretrain__env_steps=200)
    warmup(good, tmp_path / "collect", quiet)
    broken = tiny(world_model__lr=1.0, world_model__grad_clip=1e30, pretrain__e_m=3.0)
    kept: list[bytes] = []

    def watch(text: str, share: float) -> None:
        kept.append((tmp_path / "r" / "checkpoint.safetensors").read_bytes() if (tmp_path / "r").exists() else b"")

    pretrain(
        good, tmp_path / "collect", tmp_path / "out", tmp_path / "replay", tmp_path, tmp_path / "r", watch, 0.0
    )  # fmt: skip
    saved = (tmp_path / "r" / "checkpoint.safetensors").read_bytes()
    with pytest.raises(UserError, match="not finite; the last good checkpoint is kept"):
        _poisoned(broken, tmp_path)
    assert (tmp_path / "r" / "checkpoint.safetensors").read_bytes() == saved


def _poisoned(config: Config, folder: Path) -> None:
    """Go on from the saved run with weights that overflow."""
    state = checkpoint.load(folder / "r" / "checkpoint.safetensors")
    state.state["agent"]["model"]["encoder.0.weight"] *= 1e38
    path = folder / "poisoned" / "checkpoint.safetensors"
    checkpoint.save(path, state.state, config=config, spec=state.spec)
    shards.replace(folder / "poisoned" / "replay", shards.read(folder / "r" / "replay"), state.spec)
    pretrain(
        config, folder / "collect", folder / "bad", folder / "bad_replay", folder, folder / "poisoned", quiet, 0.0
    )  # fmt: skip


def test_a_first_save_that_was_stopped_before_its_manifest_counts_for_nothing(tmp_path: Path) -> None:
    """A full disk did this: the shard is there, or half of it, and every later run was refused."""
    (tmp_path / "replay").mkdir()
    (tmp_path / "replay" / "shard-000001.safetensors").write_bytes(b"half")
    assert kept(tmp_path, make_env("toy/lights", 2, 0).spec, 0) == []


def test_no_room_for_training_after_random_play_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pretrain.env_steps: got 90, expected more than the \d+ steps of random play"):
        run(tiny(pretrain__env_steps=90), tmp_path)
    assert not (tmp_path / "pretrain").exists() and not (tmp_path / "r1").exists()
