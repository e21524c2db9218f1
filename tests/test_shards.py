"""Shards: what was appended is what is read, whatever is killed when, and what was damaged is never read."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from storage_cases import CONTINUOUS, DISCRETE, killed_at_every_line, named

from rmiov2.replay import shards
from rmiov2.types import EnvSpec, Trajectory, UserError

FIRST, SECOND = "shard-000001.safetensors", "shard-000002.safetensors"


def same(left: list[Trajectory], right: list[Trajectory]) -> bool:
    return len(left) == len(right) and all(map(_same, left, right))


def _same(left: Trajectory, right: Trajectory) -> bool:
    for name in ("obs", "avail", "state", "act", "rew", "con"):
        one, two = getattr(left, name), getattr(right, name)
        if (one is None) != (two is None):
            return False
        if one is not None and (one.dtype != two.dtype or not np.array_equal(one, two)):
            return False
    return (left.start, left.won) == (right.start, right.won)


def episodes(spec: EnvSpec, first: int, lengths: list[int]) -> list[Trajectory]:
    return [named(spec, first + index, steps, start=index != 1) for index, steps in enumerate(lengths)]


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards, of 2 and of 3 trajectories."""
    shards.append(tmp_path / "replay", episodes(DISCRETE, 0, [3, 5]), DISCRETE)
    shards.append(tmp_path / "replay", episodes(DISCRETE, 2, [1, 7, 2]), DISCRETE)
    return tmp_path / "replay"


@pytest.mark.parametrize("spec", [DISCRETE, CONTINUOUS])
def test_what_is_read_is_what_was_appended_in_order_and_writable(tmp_path: Path, spec: EnvSpec) -> None:
    parts = [episodes(spec, 0, [4]), [], episodes(spec, 1, [1, 30, 2])]
    for part in parts:
        shards.append(tmp_path, part, spec)
    found = shards.read(tmp_path, spec)
    assert same(found, sum(parts, []))
    assert same(shards.read(tmp_path), found) and shards.spec_of(tmp_path) == spec
    assert names(tmp_path) == ["manifest.json", FIRST, SECOND]
    found[0].obs[:] = 0


def test_the_same_trajectories_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        shards.append(tmp_path / name, episodes(DISCRETE, 0, [3, 5]), DISCRETE)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_cut_keeps_whole_shards_and_refuses_to_cut_inside_one(folder: Path) -> None:
    for inside in (1, 3, 6, -1):
        with pytest.raises(UserError, match=r"shards end after \[0, 2, 5\]"):
            shards.cut(folder, inside)
    shards.cut(folder, 5)
    assert len(shards.read(folder)) == 5
    shards.cut(folder, 2)
    assert same(shards.read(folder), episodes(DISCRETE, 0, [3, 5]))
    assert names(folder) == ["manifest.json", FIRST]
    shards.append(folder, episodes(DISCRETE, 8, [6]), DISCRETE)
    assert [len(trajectory) for trajectory in shards.read(folder)] == [3, 5, 6]
    shards.cut(folder, 0)
    assert shards.read(folder) == []
    shards.append(folder, episodes(DISCRETE, 0, [3]), DISCRETE)
    assert len(shards.read(folder)) == 1


def test_the_oldest_shards_are_forgotten_and_what_is_left_counts_on(folder: Path) -> None:
    shards.append(folder, episodes(DISCRETE, 5, [4]), DISCRETE)  # 8, 10 and 4 steps
    shards.forget(folder, 15)
    assert len(shards.read(folder)) == 6, "without the first 14 would be left"
    shards.forget(folder, 14)
    assert [len(trajectory) for trajectory in shards.read(folder)] == [1, 7, 2, 4]
    with pytest.raises(UserError, match=r"shards end after \[2, 5, 6\]"):
        shards.cut(folder, 2)
    shards.cut(folder, 5)
    shards.append(folder, episodes(DISCRETE, 5, [9]), DISCRETE)
    shards.forget(folder, 0)
    assert names(folder) == ["manifest.json", "shard-000003.safetensors"]
    assert same(shards.read(folder), episodes(DISCRETE, 5, [9]))
    shards.cut(folder, 6)
    assert len(shards.read(folder)) == 1


def test_cutting_to_nothing_before_anything_was_written_is_fine(tmp_path: Path) -> None:
    shards.cut(tmp_path / "replay", 0)
    with pytest.raises(UserError, match="no trajectories in"):
        shards.cut(tmp_path / "replay", 3)


def test_replacing_gives_few_shards_and_the_same_bytes_however_they_were_appended(tmp_path: Path) -> None:
    lengths = [3, 5, 8, 20, 1, 1, 9]
    whole = episodes(DISCRETE, 0, lengths)
    for trajectory in whole:
        shards.append(tmp_path / "single", [trajectory], DISCRETE)
    shards.append(tmp_path / "once", whole, DISCRETE)
    for source in ("single", "once"):
        shards.replace(tmp_path / f"{source} compact", shards.read(tmp_path / source), DISCRETE, steps_per_shard=16)
    assert content(tmp_path / "single compact") == content(tmp_path / "once compact")
    assert same(shards.read(tmp_path / "single compact"), whole) and same(shards.read(tmp_path / "single"), whole)
    manifest = json.loads((tmp_path / "once compact" / "manifest.json").read_text())
    assert [(line["trajectories"], line["steps"]) for line in manifest["shards"]] == [(3, 16), (1, 20), (3, 11)]
    assert len(names(tmp_path)) == 4


def test_replacing_is_whole_and_only_if_the_source_is_sound(folder: Path) -> None:
    target = folder.with_name("target")
    shards.append(target, episodes(DISCRETE, 50, [4]), DISCRETE)
    (target / "stray").write_text("")
    before = content(target)
    sound = (folder / SECOND).read_bytes()
    (folder / SECOND).write_bytes(sound[:-1])
    with pytest.raises(UserError, match=SECOND):
        shards.replace(target, shards.read(folder), DISCRETE)
    assert content(target) == before
    (folder / SECOND).write_bytes(sound)
    shards.replace(target, shards.read(folder), DISCRETE)
    assert names(target) == ["manifest.json", FIRST]
    assert names(folder.parent) == ["replay", "target"]
    shards.replace(target, episodes(DISCRETE, 9, [4]), DISCRETE)
    assert same(shards.read(target), episodes(DISCRETE, 9, [4])) and names(target) == ["manifest.json", FIRST]
    with pytest.raises(UserError, match="got no trajectories"):
        shards.replace(target, [], DISCRETE)
    assert len(shards.read(target)) == 1


def damage(folder: Path, kind: str) -> None:
    path = folder / SECOND
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    elif kind == "altered":
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
    else:
        shutil.copy(folder / FIRST, path)


@pytest.mark.parametrize("kind", ["missing", "truncated", "altered", "swapped"])
def test_a_damaged_shard_is_refused_by_name(folder: Path, kind: str) -> None:
    damage(folder, kind)
    with pytest.raises(UserError, match=f"{SECOND}.*collect again"):
        shards.read(folder)


def rewrite(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def test_a_manifest_of_another_format_or_an_altered_one_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    lines, spec = manifest["shards"], manifest["spec"]
    mistakes = {
        "format 99, expected 2": {"format": 99},
        "not numbered one by one": {"shards": lines[::-1]},
        "0 trajectories lie before it": {"shards": lines[1:]},
        "2 trajectories lie before it": {"forgotten": 2},
        "trajectories end": {"shards": [lines[0], lines[1] | {"steps": lines[1]["steps"] + 1}]},
        "cannot be read": {"shards": [{"file": FIRST}]},
        "environment of": {"spec": {"name": "toy/x"}},
        "holds the arrays": {"spec": spec | {"discrete": False}},
        "obs of a trajectory": {"spec": spec | {"obs_dim": 4}},
    }
    for sentence, changes in mistakes.items():
        rewrite(folder, **(manifest | changes))
        with pytest.raises(UserError, match=sentence):
            shards.read(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest)[:-20])
    with pytest.raises(UserError, match="manifest.json was altered"):
        shards.read(folder)


def test_another_environment_is_refused_and_the_difference_named(folder: Path) -> None:
    other = replace(DISCRETE, name="toy/other")
    for refuse in (lambda: shards.read(folder, other), lambda: shards.append(folder, episodes(other, 0, [3]), other)):
        with pytest.raises(UserError, match="name is toy/named, expected toy/other"):
            refuse()
    assert len(shards.read(folder, DISCRETE)) == 5


def test_a_malformed_trajectory_is_not_written(folder: Path) -> None:
    before = content(folder)
    bad = named(DISCRETE, 0, 4)
    bad.rew[1] = np.nan
    with pytest.raises(UserError, match="rew .*not finite"):
        shards.append(folder, [named(DISCRETE, 0, 3), bad], DISCRETE)
    assert content(folder) == before


def test_killed_at_any_line_of_append_the_folder_holds_what_was_there_or_all_of_it(tmp_path: Path) -> None:
    folder, clean = tmp_path / "replay", tmp_path / "clean"
    before, after = episodes(DISCRETE, 0, [3]), episodes(DISCRETE, 1, [2, 4])
    shards.append(clean, before, DISCRETE)
    shutil.copytree(clean, folder)
    found = set()

    def check(_: int) -> None:
        held = shards.read(folder, DISCRETE)
        assert same(held, before) or same(held, before + after)
        if len(held) not in found:
            shards.cut(folder, 1)
            shards.append(folder, after[:1], DISCRETE)
            assert same(shards.read(folder), before + after[:1])
        found.add(len(held))
        shutil.rmtree(folder)
        shutil.copytree(clean, folder)

    assert killed_at_every_line(lambda: shards.append(folder, after, DISCRETE), check) > 50
    assert found == {1, 3}


def test_killed_at_any_line_of_cut_the_folder_holds_what_was_there_or_what_was_kept(folder: Path) -> None:
    clean = folder.with_name("clean")
    shutil.copytree(folder, clean)
    found = set()

    def check(_: int) -> None:
        found.add(len(shards.read(folder)))
        shutil.rmtree(folder)
        shutil.copytree(clean, folder)

    assert killed_at_every_line(lambda: shards.cut(folder, 2), check) > 20
    assert found == {2, 5}


def test_killed_at_any_line_of_forget_the_folder_holds_all_or_what_is_left(folder: Path) -> None:
    clean = folder.with_name("clean")
    shutil.copytree(folder, clean)
    found = set()

    def check(_: int) -> None:
        found.add(len(shards.read(folder)))
        shards.cut(folder, 5)
        shutil.rmtree(folder)
        shutil.copytree(clean, folder)

    assert killed_at_every_line(lambda: shards.forget(folder, 10), check) > 20
    assert found == {5, 3}


def test_a_leftover_of_an_append_that_was_killed_is_ignored_and_overwritten(tmp_path: Path) -> None:
    whole = episodes(DISCRETE, 0, [2, 4])
    (tmp_path / FIRST).write_bytes(b"half a shard")
    (tmp_path / f".{FIRST}.partial").write_bytes(b"less than half")
    shards.cut(tmp_path, 0)
    shards.append(tmp_path, whole, DISCRETE)
    assert same(shards.read(tmp_path), whole)
    assert names(tmp_path) == ["manifest.json", FIRST]
