"""The `rmiov2` command on real, untrained teams: what it prints, writes, and says when it refuses."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from pandas import DataFrame
from PIL import Image

import rmiov2
from pipelines.params import compose_values
from rmiov2 import cli
from rmiov2.agents.registry import make_agent
from rmiov2.cli import watch
from rmiov2.config import Evaluate, parse
from rmiov2.envs.base import Adapter
from rmiov2.envs.registry import list_envs, make_env
from rmiov2.evaluation.sweep import Sweep, evaluate_own
from rmiov2.execution.team import MODES, Team
from rmiov2.program import UNREAD, exit_code
from rmiov2.progress import news
from rmiov2.reporting.run.costs import communication
from rmiov2.training import checkpoint
from rmiov2.types import UserError

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("envs", "check-env", "evaluate", "watch")


def untrained(folder, *overrides, env="toy_lights"):
    """The folder, with the checkpoint of a team that learned nothing."""
    config = parse(compose_values(["preset=toy", f"env={env}", *overrides]), "toy")
    env = make_env(config.env.name, 1)
    agent = make_agent(config, env.spec)
    checkpoint.save(
        folder / "checkpoint.safetensors", {"agent": dict(agent.state_dict())}, config=config, spec=env.spec
    )
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the checkpoint of a team for toy/lights."""
    return untrained(tmp_path_factory.mktemp("team"))


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_explains_each_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(name in out for name in COMMANDS) if not command else len(out.splitlines()) > 4


def test_the_version_names_what_decides_which_team_a_seed_gives(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    used = re.search(r"CPU capability usage: (\S+)", torch.__config__.show()).group(1)
    assert stop.value.code == 0
    said = f"rmiov2 {project['version']}, torch {torch.__version__}, CPU capability {used}\n"
    assert capsys.readouterr().out == said


def test_envs_lists_every_environment_with_what_it_needs(capsys):
    assert cli.main(["envs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [row.name for row in list_envs()]
    assert all(row.needs in line for row, line in zip(list_envs(), lines, strict=True))


def test_check_env_passes_an_environment_of_ours(capsys):
    assert cli.main(["check-env", "toy/lights"]) == 0
    assert "toy/lights" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check-env", "toy/light"], "did you mean 'lights'"),
        (["check-env", "nothing/here"], "nothing"),
        (["check-env", "3m"], "got '3m', expected suite/map; did you mean smax/3m or smac/3m?"),
        (["evaluate", "no/such/folder"], "no/such/folder"),
        (["watch", "no/such/folder"], "no/such/folder"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, said, capsys):
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("rmiov2: ") and said in err and "Traceback" not in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--p-loss", "1.5"], "--p-loss: got 1.5, expected a probability from 0 to 1"),
        (["--p-loss", "abc"], "--p-loss: got abc, expected a probability from 0 to 1"),
        (["--p-loss", "nan"], "--p-loss: got nan, expected a probability from 0 to 1"),
        (["--episodes", "0"], "--episodes: got 0"),
        (["--mode", "guess"], "guess"),
    ],
)
def test_an_option_out_of_range_is_refused(arguments, said, trained, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", str(trained), *arguments])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--p-loss", "0", "0.5", "0.50"], "--p-loss: got 0.5 more than once, expected each once"),
        (["--mode", "zeros", "--mode", "zeros"], "--mode: got zeros more than once, expected each once"),
        (["--episodes", "1"], "--episodes: got 1, expected 2 or more"),
    ],
)
def test_what_no_table_can_be_made_of_is_refused_before_the_team_is_read(arguments, said, tmp_path, capsys):
    out = tmp_path / "a.json"
    assert cli.main(["evaluate", "no/such/team", *arguments, "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith(f"rmiov2: {said}") and not out.exists()


@pytest.mark.parametrize(("command", "out"), [("evaluate", "a.json"), ("watch", "a.gif")])
@pytest.mark.parametrize(
    ("game", "said"),
    [
        ("toy/clock", "got toy/clock, of 2 agents with"),
        ("toy/dials", "got toy/dials, of 3 agents with 2/4/6 numbers seen and 1/1/2 continuous actions each"),
    ],
)
def test_a_game_of_other_agents_or_widths_is_refused_before_it_is_played(
    command, out, game, said, trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(Adapter, "reset", lambda *_: pytest.fail("it was played"))
    assert cli.main([command, str(trained), "--env", game, "--out", str(tmp_path / out)]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1
    expected = "toy/lights, which the team was trained on, of 3 agents with 15 numbers seen and 6 discrete actions each"
    assert f"expected a game like {expected}; choose another --env, or train a team for {game}" in err
    assert not (tmp_path / out).exists()


def test_a_game_of_the_same_widths_can_be_another(trained, tmp_path, monkeypatch):
    (tmp_path / "dimmer.py").write_text("from rmiov2.envs.toy import Lights\nclass Dim(Lights): limit = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    asked = ["--env", "python/dimmer:Dim", "--p-loss", "0", "--episodes", "2"]
    assert evaluated(trained, tmp_path / "a.json", *asked)["env"] == "python/dimmer:Dim"


def evaluated(team, out, *arguments):
    """What `rmiov2 evaluate` wrote."""
    assert cli.main(["evaluate", str(team), *arguments, "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_evaluate_prints_a_line_per_rate_and_says_where_the_result_is(trained, tmp_path, capsys):
    out = tmp_path / "evaluation.json"
    result = evaluated(trained, out, "--p-loss", "0.5", "0", "--episodes", "4")
    title, head, *lines, last = capsys.readouterr().out.splitlines()
    assert title == "toy/lights, completion, independent loss, 4 episodes per p_loss"
    assert head.split() == ["p_loss", "win_rate", "95", "%", "messages/step", "bytes/step"]
    assert [line.split()[0] for line in lines] == ["0", "0.5"]
    assert last == f"result: {out}"
    assert (result["env"], result["mode"], result["episodes"]) == ("toy/lights", "completion", 4)
    assert (result["checkpoint"], result["seed"]) == (str(trained), 0)
    assert (result["pattern"], result["availability"], result["other_modes"]) == ("independent", "lost", {})
    for row, line in zip(result["table"], lines, strict=True):
        assert row["ci95"][0] <= row["performance"] <= row["ci95"][1]
        assert len(row["by_episode"]) == 4 and sum(row["by_episode"]) / 4 == pytest.approx(row["performance"])
        assert f"{row['performance']:.3f}" in line and line.endswith(f" {row['bytes']:.0f}")
    assert result["table"][0]["messages"] == 0 < result["table"][1]["messages"]


@pytest.fixture(scope="module")
def dials(tmp_path_factory):
    """A folder with the checkpoint of a team for toy/dials, whose episodes differ in what they earn."""
    return untrained(tmp_path_factory.mktemp("dials"), env="toy_dials")


def test_evaluate_plays_the_games_of_the_evaluate_stage(dials, tmp_path, capsys):
    modes = ("zeros", "completion")
    result = evaluated(
        dials, tmp_path / "evaluation.json", "--pattern", "bursty", "--seed", "7", "--episodes", "6", "--games", "2",
        "--p-loss", "0", "0.5", "1", *(word for mode in modes for word in ("--mode", mode)),
    )  # fmt: skip
    agent, env = rmiov2.load(dials), make_env("toy/dials", 6)
    settings = Evaluate(p_loss=(0, 0.5, 1), pattern="bursty", episodes=6, num_envs=6, seed=7, bootstrap=2000)
    own = evaluate_own(agent, lambda rows: env, settings)
    assert result["mode"] == "zeros" and list(result["other_modes"]) == ["completion"]
    found = result["other_modes"]["completion"]
    assert {name: [row[name] for row in found["table"]] for name in ("performance", "ci95")} == {
        name: own[name] for name in ("performance", "ci95")
    }
    assert (found["auc"], found["auc_ci95"]) == (own["auc"], own["auc_ci95"])
    assert result["table"] != found["table"] and result["table"][0]["by_episode"] == found["table"][0]["by_episode"]
    sweep = Sweep(agent, env, settings)
    for mode, kept in zip(modes, (result, found), strict=True):
        played = sweep.play(mode, False, None)
        sent = communication(DataFrame({**played, "mode": "completion"}))
        assert [[row[name] for row in kept["table"]] for name in sent if name != "p_loss"] == [
            pytest.approx(values) for name, values in sent.items() if name != "p_loss"
        ]
    said = capsys.readouterr().out.splitlines()
    assert [line.split(", ")[1:3] for line in said if line.startswith("toy/")] == [[m, "bursty loss"] for m in modes]
    areas = [line.split()[1] for line in said if line.startswith("AUC")]
    assert areas == [f"{result['auc']:.3f}", f"{found['auc']:.3f}"]


def test_an_area_needs_all_rates_from_0_to_1(dials, tmp_path, capsys):
    result = evaluated(dials, tmp_path / "evaluation.json", "--p-loss", "0", "0.9", "--episodes", "2")
    assert result["auc"] is None and result["auc_ci95"] is None
    assert "AUC" not in capsys.readouterr().out


@pytest.mark.parametrize("true_mask", [False, True])
def test_a_blind_agent_keeps_its_mask_only_where_that_is_asked_for(true_mask, trained, tmp_path, monkeypatch, capsys):
    told, act = [], Team.act

    def spied(self, obs, seen=None, avail=None, first=None):
        told.append((self.true_availability, bool(avail.any())))
        return act(self, obs, seen=seen, avail=avail, first=first)

    monkeypatch.setattr(Team, "act", spied)
    asked = ["--true-availability"] if true_mask else []
    result = evaluated(trained, tmp_path / "evaluation.json", "--p-loss", "1", "--episodes", "2", *asked)
    assert set(told) == {(true_mask, true_mask)}
    assert result["availability"] == ("true" if true_mask else "lost")
    assert ("true mask" in capsys.readouterr().out) == true_mask


@pytest.mark.parametrize("sampled", [False, True])
def test_actions_are_drawn_only_where_that_is_asked_for(sampled, trained, tmp_path, monkeypatch, capsys):
    told, act = set(), Team.act

    def spied(self, *given, **named):
        told.add(self.greedy)
        return act(self, *given, **named)

    monkeypatch.setattr(Team, "act", spied)
    asked = ["--sampled"] if sampled else []
    result = evaluated(trained, tmp_path / "evaluation.json", "--p-loss", "0.5", "--episodes", "2", *asked)
    assert told == {not sampled} and result["actions"] == ("sampled" if sampled else "greedy")
    assert ("sampled actions" in capsys.readouterr().out) == sampled


def test_a_true_mask_is_refused_where_there_is_none(dials, tmp_path, capsys):
    assert cli.main(["evaluate", str(dials), "--true-availability", "--out", str(tmp_path / "a.json")]) == 2
    assert "got toy/dials, whose actions are continuous" in capsys.readouterr().err


def test_what_cannot_reconstruct_is_refused_before_anything_is_played(tmp_path, monkeypatch, capsys):
    team = untrained(tmp_path, "agent=mappo")
    monkeypatch.setattr(rmiov2, "make_env", lambda *_: pytest.fail("a game was built"))
    asked = ["--mode", "zeros", "--mode", "completion", "--out", str(tmp_path / "a.json")]
    assert cli.main(["evaluate", str(team), *asked]) == 2
    assert "cannot reconstruct observations" in capsys.readouterr().err


def test_modes_are_those_that_are_played():
    assert cli.MODES == MODES


@pytest.mark.parametrize(("command", "out"), [("evaluate", "a.json"), ("watch", "a.gif")])
def test_an_unknown_pattern_is_refused_before_a_team_is_looked_for(command, out, tmp_path, capsys):
    assert cli.main([command, str(tmp_path), "--pattern", "bursty:0", "--out", str(tmp_path / out)]) == 2
    said = capsys.readouterr().err
    assert "unknown loss pattern 'bursty:0', expected one of independent, bursty, one_agent, whole_team" in said


def test_the_same_seed_gives_the_same_result(trained, tmp_path):
    results = []
    for name in ("a.json", "b.json"):
        cli.main(["evaluate", str(trained), "--p-loss", "0.5", "--episodes", "4", "--out", str(tmp_path / name)])
        results.append((tmp_path / name).read_text())
    assert results[0] == results[1]


@pytest.fixture
def busy():
    """Torch on three threads, as if it had taken every core; what it had comes back."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("command", "out"), [("evaluate", "a.json"), ("watch", "a.gif")])
def test_a_team_plays_on_the_threads_that_it_was_trained_with(command, out, tmp_path, busy):
    folder = untrained(tmp_path, "threads=2")
    rmiov2.load(folder)
    assert torch.get_num_threads() == 3, "the library leaves that to who calls it"
    few = ["--episodes", "2"] if command == "evaluate" else []
    assert cli.main([command, str(folder), "--p-loss", "0.5", *few, "--out", str(tmp_path / out)]) == 0
    assert torch.get_num_threads() == 2


def test_watch_draws_every_step(trained, tmp_path, capsys):
    out = tmp_path / "watch.gif"
    assert cli.main(["watch", str(trained), "--p-loss", "0.5", "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"result: {out}"
    with Image.open(out) as picture:
        assert f"drawing {picture.n_frames} steps" in said and picture.n_frames > 1


def test_an_episode_is_watched_as_it_would_be_evaluated(trained, tmp_path, monkeypatch):
    scene, seen = watch.record_scene, {}

    def spied(env, team, p_loss, seed, trend, pattern):
        seen.update(mode=team.mode, greedy=team.greedy, pattern=pattern)
        return scene(env, team, p_loss, seed, trend, pattern)

    monkeypatch.setattr(watch, "record_scene", spied)
    asked = ["--mode", "zeros", "--pattern", "bursty", "--sampled", "--out", str(tmp_path / "watch.gif")]
    assert cli.main(["watch", str(trained), *asked]) == 0
    assert seen == {"mode": "zeros", "greedy": False, "pattern": "bursty"}


README = (ROOT / "README.md").read_text()
GUIDE = "\n".join([README, *((ROOT / "docs" / name).read_text() for name in ("results.md", "smac.md"))])


@pytest.mark.parametrize("line", re.findall(r"^rmiov2 (.*?)(?:  +#.*)?$", README, re.MULTILINE))
def test_a_command_that_the_readme_shows_is_understood(line):
    options = cli.parser().parse_args(line.split())
    assert callable(options.run)


def test_the_python_of_the_readme_runs(trained):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert '"smax/3m"' in code and '"models/finetune"' in code
    names = {}
    exec(code.replace("smax/3m", "toy/lights").replace("models/finetune", str(trained)), names)
    assert names["team"].messages.shape == (8,) and names["team"].messages.max() > 0
    assert names["step"].obs.shape == names["team"].completed.shape


PLAYS = """
import sys
import numpy as np
import rmiov2
team = rmiov2.load(sys.argv[1]).team(num_envs=1, seed=0)
n, width, actions = team.spec.num_agents, team.spec.obs_dim, team.spec.act_dim
obs, avail, seen = np.zeros((1, n, width), np.float32), np.ones((1, n, actions), bool), np.arange(n)[None] > 0
assert team.act(obs, seen=seen, avail=avail).shape == (1, n)
assert team.messages > 0  # it reconstructed
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_where_a_team_plays_the_library_alone_is_needed(trained, tmp_path):
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    extras = {re.split(r"[^\w-]", line)[0].replace("-", "_") for lines in wanted.values() for line in lines}
    done = subprocess.run(
        [sys.executable, "-c", PLAYS, str(trained)], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert "torch" in loaded and loaded.isdisjoint(extras | {"jax", "pipelines", "matplotlib", "pandas", "scipy"})


def test_the_readme_shows_every_command():
    assert set(re.findall(r"^rmiov2 ([a-z-]+)", README, re.MULTILINE)) == set(COMMANDS)


def test_make_and_python_commands_of_readme_and_guide_exist():
    rules = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "test"} <= set(re.findall(r"(?:^|`)make ([a-z]+)", GUIDE, re.MULTILINE)) <= rules
    for module in re.findall(r"python -m ([a-z_.]+)", GUIDE):
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


# STUDY and mine stand for the names of a study and a method of the reader's own.
@pytest.mark.parametrize("overrides", re.findall(r'make params ARGS="((?!tuned=STUDY|agent=mine).*?)"', README))
def test_settings_that_the_readme_shows_compose(overrides):
    assert compose_values(overrides.split())


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (lambda: None, 0, ""),
        (lambda: 3, 3, ""),
        (lambda: _raise(UserError("got 1, expected 2")), 2, "it: got 1, expected 2\n"),
        (lambda: _raise(KeyboardInterrupt()), 130, "\nit: stopped; all is kept\n"),
    ],
)
def test_an_exit_code_comes_with_what_the_user_can_mend_in_one_sentence(capsys, end, code, said):
    assert exit_code("it", end, "all is kept") == code
    assert capsys.readouterr() == ("", said)


def test_a_mistake_has_a_line_of_its_own_beside_one_that_moves(monkeypatch, capsys):
    monkeypatch.setenv("RMIOV2_PROGRESS_SECONDS", "0")
    say = news("training")

    def work():
        say("halfway", 0.5)
        raise UserError("it broke")

    assert exit_code("it", work, "") == 2
    moving, last = re.split(r"[\r\n]+", capsys.readouterr().err.strip())[-2:]
    assert "halfway" in moving and last == "it: it broke"


def test_a_wrong_pace_of_progress_is_a_sentence(monkeypatch):
    monkeypatch.setenv("RMIOV2_PROGRESS_SECONDS", "soon")
    with pytest.raises(UserError, match="RMIOV2_PROGRESS_SECONDS is 'soon'"):
        news("training")("begun", 0.0)


def test_an_evaluation_is_whole_though_nobody_reads_what_it_prints(trained, tmp_path):
    out = tmp_path / "evaluation.json"
    command = [sys.executable, "-m", "rmiov2.cli", "evaluate", str(trained), "--p-loss", "0", "--episodes", "2"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*command, "--out", str(out)], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == UNREAD and "Traceback" not in done.stderr
    assert json.loads(out.read_text())["episodes"] == 2


def test_an_evaluation_never_takes_the_place_of_a_checkpoint(trained, capsys):
    before = (trained / "checkpoint.safetensors").read_bytes()
    assert cli.main(["evaluate", str(trained), "--out", str(trained / "checkpoint.safetensors")]) == 2
    assert "expected a name that ends in .json" in capsys.readouterr().err
    assert (trained / "checkpoint.safetensors").read_bytes() == before


def test_a_mistake_of_ours_is_not_told_as_the_users():
    with pytest.raises(ZeroDivisionError):
        exit_code("it", lambda: 1 // 0, "all is kept")


def _raise(error):
    raise error
