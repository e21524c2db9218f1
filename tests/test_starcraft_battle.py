"""The stand-in for StarCraft II by itself, without the package that talks to it: its fight, its modes, its process."""

import importlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from starcraft.battle import REST, SHIELD_BACK, THEM, US, Battle, Unit
from starcraft.field import FIELDS, SIZE, Field
from starcraft.install import launched, running
from starcraft.modes import VARIABLE, Modes, Moments, read
from starcraft.needs import missing
from starcraft.units import CUSTOM_TYPES, KINDS, TEAMS


def unit(name, x=16.0, y=16.0, owner=US, tag=0, **state):
    made = Unit(tag, owner, KINDS[name], KINDS[name].type_id, x, y)
    for key, value in state.items():
        setattr(made, key, value)
    return made


def arena(*units, map_name="3m"):
    """A battle of these units alone."""
    battle = Battle(map_name, seed=0)
    battle.units = list(units)
    for tag, each in enumerate(units):
        each.tag = tag
    return battle


@pytest.mark.parametrize(
    ("attacker", "victim", "shield", "after"),
    [
        ("marine", "marine", 0, (0, 39)),
        ("stalker", "zealot", 50, (37, 100)),
        ("stalker", "stalker", 80, (62, 80)),  # five more against the armoured
        ("stalker", "marauder", 0, (0, 125 - 17)),  # of which armour takes one
        ("zealot", "stalker", 5, (0, 80 - (3 - 1) - (8 - 1))),  # the shield takes of the first blow what it has
        ("colossus", "marine", 0, (0, 45 - 2 * 15)),
        ("zergling", "spine_crawler", 0, (0, 297)),
        ("baneling", "zealot", 50, (15, 100)),
    ],
)
def test_an_attack_takes_what_it_should(attacker, victim, shield, after):
    hit = unit(victim, shield=float(shield))
    hit.suffer(KINDS[attacker])
    assert (hit.shield, hit.health) == after


def test_attacks_come_once_a_cooldown_and_only_within_reach():
    marine, target = unit("marine", 10.0), unit("spine_crawler", 18.0, owner=THEM)
    battle, reach = arena(marine, target), KINDS["marine"].reach + 0.375 + 1.125
    assert battle.order(0, ("attack", 1))
    while target.health == 300:
        x = marine.x
        battle.advance(1)
    assert 18.0 - x <= reach < 18.0 - x + KINDS["marine"].stride  # at the first point of the way that is near enough
    battle.advance(200)
    shots = (300 - target.health) / 4
    pause = KINDS["marine"].pause
    assert 1 + 200 // (pause + 1) <= shots <= 1 + math.ceil(200 / (pause - 1))


def test_who_is_told_nothing_does_nothing():
    battle = Battle("3m", seed=1)
    for enemy in battle.side(THEM):
        enemy.order = None
    battle.advance(50)  # until nobody stands in another
    before = [(each.x, each.y, each.health) for each in battle.units]
    battle.advance(50)
    assert [(each.x, each.y, each.health) for each in battle.units] == before


def test_shields_come_back_after_a_rest_and_health_does_not():
    hurt = unit("stalker", shield=10.0, health=30.0)
    battle = arena(hurt, unit("marine", 5.0, owner=THEM))
    battle.advance(REST - 1)
    assert (hurt.shield, hurt.health) == (10, 30)
    battle.advance(80)
    assert (hurt.shield, hurt.health) == (10 + 80 * SHIELD_BACK, 30)
    battle.advance(1000)
    assert hurt.shield == 80


def test_a_medivac_heals_at_its_rate_for_its_energy():
    medivac, marine = unit("medivac", 10.0), unit("marine", 12.0, health=5.0)
    battle = arena(medivac, marine, unit("spine_crawler", 25.0, owner=THEM))
    assert battle.order(0, ("heal", 1))
    battle.advance(40)
    assert marine.health == pytest.approx(5 + 40 * 0.5625)
    assert medivac.energy == pytest.approx(50 + 40 * 0.035 - 40 * 0.5625 / 3)
    assert not battle.order(1, ("heal", 0)) and not battle.order(0, ("attack", 2))


def test_splash_reaches_who_stands_beside_and_a_baneling_ends_with_its_blow():
    victims = [unit("marine", 16.0 + 1.5 * i, owner=US) for i in range(3)]
    baneling = unit("baneling", 15.2, owner=THEM, order=("march", 16.0, 16.0))
    medivac = unit("medivac", 16.0)
    battle = arena(*victims, medivac, baneling)
    battle.advance(1)
    assert [victim.health for victim in victims] == [10, 10, 45]
    assert medivac.health == 150 and battle.side(THEM) == []


@pytest.mark.parametrize("attacker", ["marine", "zealot", "stalker"])
def test_medivacs_are_struck_last_and_only_by_who_shoots_up(attacker):
    medivac, marauder = unit("medivac", 15.0), unit("marauder", 13.0)
    battle = arena(medivac, marauder, unit(attacker, 16.0, owner=THEM, order=("march", 9.0, 16.0)))
    battle.advance(20)
    assert marauder.health < 125 and medivac.health == 150
    battle.kill({marauder.tag})
    battle.advance(60)
    assert (medivac.health < 150) == KINDS[attacker].shoots_up


def test_blows_of_one_moment_fall_together():
    ours, theirs = unit("marine", 14.0, health=3.0), unit("marine", 17.0, owner=THEM, health=3.0)
    battle = arena(ours, theirs)
    battle.order(0, ("attack", 1))
    theirs.order = ("march", 9.0, 16.0)
    battle.advance(1)
    assert battle.units == []


@pytest.mark.parametrize("map_name", TEAMS)
def test_every_map_has_its_teams_on_free_ground_in_types_as_smac_expects(map_name):
    battle = Battle(map_name, seed=5)
    ours, theirs = TEAMS[map_name]
    for owner, team in ((US, ours), (THEM, theirs)):
        names = [each.kind.name for each in battle.side(owner)]
        assert {name: names.count(name) for name in team} == team
    assert all(battle.field.free(each.x, each.y) for each in battle.units)
    copies = {each.kind.name: each.type_id for each in battle.side(US)}
    assert [copies[name] for name in sorted(copies)] == list(range(CUSTOM_TYPES, CUSTOM_TYPES + len(copies)))
    assert {each.type_id for each in battle.side(THEM)} == {KINDS[name].type_id for name in theirs}


@pytest.mark.parametrize("map_name", ["3m", "2s3z", "corridor", "MMM", "so_many_baneling"])
def test_idle_teams_are_run_over(map_name):
    battle = Battle(map_name, seed=2)
    for _ in range(150):
        battle.advance(8)
        if not battle.side(US):
            break
    left = [each.kind.name for each in battle.side(US)]
    assert left in ([], ["zealot"] * len(left)) and len(left) < 7  # banelings may all burst before the last zealot


def fate(seed, loops=400):
    """Where everybody is after a battle in which ours shoot at the enemy of the lowest number."""
    battle = Battle("2s3z", seed)
    for _ in range(loops // 8):
        for each in battle.side(US):
            if battle.side(THEM):
                battle.order(each.tag, ("attack", battle.side(THEM)[0].tag))
        battle.advance(8)
    return [(each.tag, each.x, each.y, each.health, each.shield, each.cooldown) for each in battle.units]


def test_the_seed_decides_everything():
    assert fate(7) == fate(7)
    assert fate(7) != fate(8)


def test_when_all_are_killed_both_teams_come_anew():
    battle = Battle("2s3z", seed=3)
    first = [(each.x, each.y) for each in battle.units]
    old = {each.tag for each in battle.units}
    battle.kill(old)
    assert battle.units == []
    battle.advance(2)
    assert len(battle.units) == 10 and not old & {each.tag for each in battle.units}
    assert all(each.health == each.kind.health for each in battle.units)
    assert [(each.x, each.y) for each in battle.units] != first
    battle.kill({each.tag for each in battle.side(US)})
    battle.advance(20)
    assert battle.battles == 2 and len(battle.units) == 5  # who won waits for the map to be cleared


def test_late_ones_come_loop_by_loop():
    battle = Battle("3m", seed=0, late=2)
    counts = []
    for _ in range(4):
        counts.append(len(battle.units))
        battle.advance(1)
    assert counts == [4, 5, 6, 6]


@pytest.mark.parametrize("place", [Field(), FIELDS["corridor"]])
def test_the_grid_of_the_map_says_where_one_may_stand(place):
    bits = "".join(f"{byte:08b}" for byte in place.pathing())
    cells = [place.free(x, y) for y in range(SIZE) for x in range(SIZE)]
    assert [bit == "1" for bit in bits] == cells
    assert len(set(place.heights())) == 2 and len(place.heights()) == SIZE * SIZE


def test_zerglings_come_through_the_gap_of_the_corridor():
    zergling = unit("zergling", 25.0, 25.0, owner=THEM, order=("march", 9.0, 6.0))
    battle = arena(zergling, unit("zealot", 3.0, 27.0), map_name="corridor")
    while zergling.x > 14:
        x = zergling.x
        battle.advance(1)
        assert battle.field.free(zergling.x, zergling.y)
        assert int(zergling.x) not in battle.field.wall or int(zergling.y) in battle.field.gap
        assert battle.loop < 500 and zergling.x <= x


def test_modes_fail_at_their_moment_in_their_launches():
    knob = {VARIABLE: json.dumps({"crash_at": 2, "hang_at": ["observation", 1], "launches": [2]})}
    assert read(1, knob) == Modes() == read(1, {})
    moments = Moments(read(2, knob))
    asked = ["create_game", "step", "observation", "step", "step", "observation"]
    assert [moments.failure(request) for request in asked] == [None, None, "hang", "crash", None, None]
    with pytest.raises(ValueError, match="crush_at"):
        read(1, {VARIABLE: '{"crush_at": 3}'})


def test_the_other_smac_is_told_from_the_one_that_is_needed(tmp_path, monkeypatch):
    (tmp_path / "smac").mkdir()
    (tmp_path / "smac/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert "another program" in missing()
    (tmp_path / "smac/env/starcraft2").mkdir(parents=True)
    (tmp_path / "pysc2.py").touch()
    (tmp_path / "s2clientprotocol.py").touch()
    importlib.invalidate_caches()
    assert missing() is None


def command(folder, port):
    return [
        sys.executable,
        "-m",
        "starcraft",
        "-build",
        "1",
        "-listen",
        "127.0.0.1",
        "-port",
        str(port),
        "-dataDir",
        str(folder),
    ]


def surroundings(**modes):
    return os.environ | {"PYTHONPATH": str(Path(__file__).parent), VARIABLE: json.dumps(modes)}


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("linger_s", [0, 1.5])
def test_it_goes_when_its_parent_was_killed(linger_s, tmp_path):
    program = f"import subprocess, time; subprocess.Popen({command(tmp_path, 1)}); time.sleep(60)"
    modes = surroundings(slow_start_s=60, linger_s=linger_s)
    parent = subprocess.Popen([sys.executable, "-c", program], env=modes)
    wait_until(lambda: running(tmp_path))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    start = time.monotonic()
    wait_until(lambda: not running(tmp_path))
    assert len(launched(tmp_path)) == 1 and time.monotonic() - start >= linger_s


def test_it_does_not_share_a_port(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        game = subprocess.run(command(tmp_path, port), env=surroundings(), capture_output=True, text=True, timeout=30)
    assert game.returncode == 1 and f"port {port} is taken" in game.stderr
