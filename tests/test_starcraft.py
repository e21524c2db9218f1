"""The public `smac` package, unmodified, on the stand-in for StarCraft II: what plays, and what each failure does."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
from starcraft.field import FIELDS, SIZE
from starcraft.install import install, launched, running
from starcraft.needs import NEEDS_SMAC

pytestmark = NEEDS_SMAC

SHAPES = {  # agents, enemies, actions, size of obs, of the state with last actions, limit
    "2s3z": [5, 5, 11, 80, 120, 120],
    "3s_vs_5z": [3, 5, 11, 48, 68, 250],
    "2s_vs_1sc": [2, 1, 7, 17, 27, 300],
    "1c3s5z": [9, 9, 15, 162, 270, 180],
    "corridor": [6, 24, 30, 156, 282, 400],
    "3m": [3, 3, 9, 30, 48, 60],
    "MMM": [10, 10, 16, 160, 290, 150],
}


@pytest.fixture(scope="module")
def child():
    """Calls a function of starcraft.plays in a process that may load it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pool.submit(int).result()  # starts the process, while the variable is set
            yield lambda name, *args, **kwargs: pool.submit(call, name, *args, **kwargs).result()


def call(name, *args, **kwargs):
    from starcraft import plays

    return getattr(plays, name)(*args, **kwargs)


@pytest.fixture(scope="module")
def game(tmp_path_factory):
    folder = install(tmp_path_factory.mktemp("starcraft") / "game")
    yield folder
    assert launched(folder) and not running(folder)


@pytest.fixture
def fresh(tmp_path):
    """An installation of which no game was launched yet."""
    folder = install(tmp_path / "game")
    yield folder
    assert not running(folder)


@pytest.mark.parametrize("map_name", SHAPES)
def test_strolling_teams_lose_whole_episodes_of_the_documented_shapes(map_name, child, game):
    played = child("episodes", str(game), map_name, 2 if map_name == "2s_vs_1sc" else 4, policy="stroll")
    assert all(episode["shapes"] == SHAPES[map_name] for episode in played)
    assert all(1 < episode["steps"] <= SHAPES[map_name][-1] for episode in played)
    assert not any(episode["battle_won"] for episode in played)
    assert all(0 <= episode["return"] < 20 for episode in played)


@pytest.mark.parametrize("map_name", ["2s3z", "3m"])
def test_teams_that_focus_their_fire_win_sometimes(map_name, child, game):
    played = child("episodes", str(game), map_name, 16, policy="focus")
    won = [episode for episode in played if episode["battle_won"]]
    assert 0 < len(won) < len(played)
    for episode in won:
        assert episode["return"] >= 20 - 1e-9 and episode["dead_enemies"] == SHAPES[map_name][1]


def test_the_seed_decides_whole_episodes(child, game):
    def digests(seed):
        return [each["digest"] for each in child("episodes", str(game), "2s3z", 2, policy="stroll", seed=seed)]

    first = digests(3)
    assert digests(3) == first and len(set(first)) == 2
    assert digests(4)[0] != first[0]


def test_the_protocol_beyond_what_smac_asks(child, tmp_path):
    told = child("tour", str(install(tmp_path, build=76052)))
    field = FIELDS["corridor"]
    assert told["pathing"] == [[field.free(x, y) for y in range(SIZE)] for x in range(SIZE)]
    assert told["build"] == 76052 and told["units"][74] == "stalker"
    assert (told["loop"], told["loop again"]) == (8, 0)
    assert told["replay"] == b"no replay: a test double made it"
    assert told["refused"] == ["the stand-in does not know leave_game", "join_game while in state in_game"]
    assert told["elsewhere"] == 404 and not running(tmp_path)


def test_without_maps_the_game_is_started_and_ended(child, tmp_path):
    told = child("trouble", str(install(tmp_path, maps=False)))
    assert (told["where"], told["raised"]) == ("reset", "ValueError")
    assert len(launched(tmp_path)) == 1 and not running(tmp_path)


def only(launch, **modes):
    return modes | {"launches": [launch]}


@pytest.mark.parametrize(
    "modes", [{"crash_at": 5}, {"error_at": 5}, {"empty_at": ["observation", 6]}, {"crash_at": ["action", 5]}], ids=str
)
def test_a_failure_in_step_ends_the_episode_without_a_result(modes, child, fresh):
    told = child("trouble", str(fresh), modes=only(1, **modes))
    assert told["raised"] is None and told["answer"] == (0, True, {})
    assert (told["steps"], told["battles"], told["restarts"]) == (5, 0, 1)
    assert len(launched(fresh)) == 2


@pytest.mark.parametrize(("ignores", "seconds"), [(False, 3 + 3), (True, 3 + 3 + 3)])
def test_a_hang_costs_the_time_out_and_some_seconds_of_closing(ignores, seconds, child, fresh):
    told = child("trouble", str(fresh), timeout_s=3, modes=only(1, hang_at=5, ignore_sigterm=ignores))
    assert told["answer"] == (0, True, {}) and told["restarts"] == 1
    assert told["seconds"] > seconds
    assert not running(fresh)


def test_bytes_that_are_no_message_come_out_of_step(child, fresh):
    told = child("trouble", str(fresh), modes={"malformed_at": 5})
    assert (told["where"], told["raised"], told["steps"]) == ("step", "DecodeError", 4)


def test_when_the_relaunch_fails_step_raises(child, fresh):
    told = child("trouble", str(fresh), modes=[only(1, crash_at=5), only(2, port_taken=True)])
    assert (told["where"], told["raised"], told["steps"]) == ("step", "ConnectError", 4)


@pytest.mark.parametrize(
    ("modes", "raised"),
    [
        ({"crash_at": ["ping", 1]}, "ConnectionError"),
        ({"crash_at": ["create_game", 1]}, "ConnectionError"),
        ({"error_at": ["game_info", 1]}, "ProtocolError"),
        ({"refuse_join": True}, "RequestError"),
        ({"port_taken": True}, "ConnectError"),
        ({"crash_at": ["observation", 1], "launches": [1]}, "KeyError"),
    ],
    ids=str,
)
def test_a_failure_at_launch_comes_out_of_reset(modes, raised, child, fresh):
    told = child("trouble", str(fresh), modes=modes)
    assert (told["where"], told["raised"]) == ("reset", raised)


def test_a_crash_in_a_later_reset_shows_the_old_battle_as_if_it_were_new(child, fresh):
    whole = child("trouble", str(fresh))
    crash = ["observation", whole["steps"] + 2]
    told = child("trouble", str(fresh), count=2, modes=only(2, crash_at=crash))
    assert told["restarts"] == 1 and told["raised"] is None and told["battles"] == 2
    assert told["standing"] == 3 - whole["answer"][2]["dead_allies"] < 3


def test_a_crash_before_a_later_reset_looks_is_mended_by_the_package(child, fresh):
    told = child("trouble", str(fresh), count=2, modes=only(1, crash_at=["debug", 1]))
    assert (told["restarts"], told["standing"], told["raised"]) == (1, 3, None)


def test_late_units_spoil_the_scale_of_the_reward(child, fresh):
    assert child("trouble", str(fresh))["max_reward"] == 365
    assert child("trouble", str(fresh), modes={"late_spawn": 1})["max_reward"] == 365 + 2 * 45


def test_slow_games_are_slow(child, fresh):
    quick = child("trouble", str(fresh))
    slow = child("trouble", str(fresh), modes={"step_ms": 60, "slow_start_s": 2.5})
    assert slow["launching"] > 2.5 and slow["seconds"] >= 0.06
    assert quick["answer"] == slow["answer"] and quick["steps"] == slow["steps"]


def test_a_leak_grows_with_every_battle(child, fresh):
    lean, fat = (child("trouble", str(fresh), count=3, modes={"leak_mb": leak})["memory"] for leak in (0, 30))
    assert fat - lean == pytest.approx(2 * 30, abs=10)


def test_games_are_gone_soon_after_their_parent_was_killed(fresh, monkeypatch):
    monkeypatch.setenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool, pytest.raises(BrokenProcessPool):
        pool.submit(call, "abandon", str(fresh)).result()
    end = time.monotonic() + 10
    while running(fresh) and time.monotonic() < end:
        time.sleep(0.1)
    assert len(launched(fresh)) == 1 and not running(fresh)
