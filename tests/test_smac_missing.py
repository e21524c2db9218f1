"""Whatever of SMAC is not there is named in one sentence, with what to do."""

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from smac_worlds import world
from starcraft.install import install
from starcraft.needs import NEEDS_SMAC

from rmiov2.cli import main
from rmiov2.envs import make_env
from rmiov2.envs.smac.adapter import SOURCE
from rmiov2.types import UserError


def said(capfd):
    """What check-env says on standard error; it must refuse."""
    assert main(["check-env", "smac/2s3z"]) == 2
    return capfd.readouterr().err


@pytest.mark.skipif(find_spec("smac") is not None, reason="a package called smac is installed")
def test_without_the_package_it_is_named_with_its_home(capfd):
    assert "needs the package smac of github.com/oxwhirl/smac, which is missing" in said(capfd)


def test_the_other_smac_is_told_apart(tmp_path, monkeypatch, capfd):
    (tmp_path / "smac").mkdir()
    (tmp_path / "smac/__init__.py").write_text("raise SystemExit('SMAC3 was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    told = said(capfd)
    assert "another program of that name, SMAC3" in told and "pip uninstall smac" in told


@pytest.mark.skipif(
    bool(find_spec("pysc2")) and Path(find_spec("pysc2").origin).parents[1] == Path(pytest.__file__).parents[1],
    reason="pysc2 is installed beside what the tests need",
)
def test_without_pysc2_it_is_named_with_where_to_read(tmp_path, monkeypatch, capfd):
    (tmp_path / "smac/env/starcraft2").mkdir(parents=True)
    (tmp_path / "smac/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not has_pysc2(entry)])
    assert "needs pysc2, which is missing; the README's section SMAC" in said(capfd)


def test_packages_that_do_not_load_say_why(tmp_path, monkeypatch, capfd):
    for folder in ("smac/env/starcraft2", "absl", "pysc2"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "absl/__init__.py").write_text("flags = None")
    (tmp_path / "pysc2/__init__.py").write_text("raise TypeError('Descriptors cannot be created directly')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "do not load (Descriptors cannot be created directly); install them anew" in said(capfd)


def has_pysc2(entry):
    return find_spec("pysc2") is not None and str(find_spec("pysc2").origin).startswith(f"{entry}/pysc2") and entry


@NEEDS_SMAC
def test_without_the_game_sc2path_is_named(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SC2PATH", str(tmp_path / "nowhere"))
    assert "no StarCraft II that can be played" in said(capfd)
    (tmp_path / "nowhere/Versions").mkdir(parents=True)
    assert "set SC2PATH to" in said(capfd)
    (tmp_path / "nowhere/Versions/Base75689").mkdir()
    assert "set SC2PATH to a whole installation" in said(capfd)


@NEEDS_SMAC
def test_without_the_maps_they_are_named_with_their_home(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SC2PATH", str(install(tmp_path / "game", maps=False)))
    told = said(capfd)
    assert "no map at" in told and "SMAC_Maps/2s3z.SC2Map; unpack SMAC_Maps.zip" in told


@NEEDS_SMAC
def test_another_build_is_played_and_recorded_and_said(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SC2PATH", str(install(tmp_path / "game", build=69232)))
    env = make_env("smac/2s3z", 1)
    env.close()
    assert env.facts["build"] == 69232 and env.facts["difficulty"] == "7" and env.facts["step_mul"] == 8
    assert "build 69232, and results are not comparable between builds" in capfd.readouterr().err


@NEEDS_SMAC
def test_the_usual_build_needs_no_words(tmp_path, monkeypatch, capfd):
    env = world(SOURCE, tmp_path, monkeypatch).make(1)
    env.close()
    assert env.facts["build"] == 75689 and not capfd.readouterr().err


def test_a_process_that_ends_at_once_is_told_with_its_last_words(tmp_path, monkeypatch):
    here = world("smac_double:NoSuchSource", tmp_path, monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UserError, match="the process of the game ended at once: AttributeError: .*NoSuchSource"):
        here.make(1)
    assert "Traceback" in (tmp_path / "rmiov2-smac-3m.log").read_text()
