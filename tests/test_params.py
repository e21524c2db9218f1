"""conf/ composes into params.yaml: the committed file is the defaults, and every choice of every group is valid."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipelines import params, seeds
from pipelines.studies.workspace import folder_of, overrides_of
from rmiov2.config import Finetune, RewardTrend, known_keys
from rmiov2.envs.registry import list_envs
from rmiov2.training.finetune import rates_of
from rmiov2.types import UserError
from rmiov2.world_model.reward_trend import reward_trend

ROOT = Path(__file__).resolve().parent.parent
ABLATIONS = [name for name in params.choices("ablation") if name != "none"]


@cache
def composed(*overrides):
    return params.flat(params.compose_values(overrides))


def changed(*overrides, env="smax_3m"):
    base, other = composed(f"env={env}"), composed(f"env={env}", *overrides)
    return {key: other[key] for key in base if base[key] != other[key]}


def taken_out(name):
    """What an ablation changes: of smax/3m, or of robots or another battle where that does without it."""
    others = (changed(f"ablation={name}", env=env) for env in ("mamujoco_HalfCheetah-2x3", "smax_2s3z"))
    return changed(f"ablation={name}") or next(filter(None, others), {})


def test_the_committed_file_is_what_the_defaults_compose_to():
    assert (ROOT / "params.yaml").read_text() == params.as_text(params.compose_values())


@pytest.mark.parametrize("damage", [b"a: [", b"", b"\xff\xfe", b"- 1"])
def test_settings_that_cannot_be_read_are_mended_by_composing_them(damage, tmp_path, monkeypatch):
    monkeypatch.setattr(params.paths, "PARAMS", tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes(damage)
    assert params.main([]) == 0
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_heads_that_do_not_divide_the_width_are_refused_before_anything_is_trained():
    with pytest.raises(UserError, match="fusion_heads: got 3, expected a divisor of hidden = 128$"):
        params.compose_values(["world_model.fusion_heads=3"])


def test_composing_gives_every_key_and_no_other():
    assert sorted(params.flat(params.compose_values())) == sorted(known_keys("rmiov2"))


@pytest.mark.parametrize("name", params.choices("env"))
def test_every_env_composes_to_an_environment_there_is(name):
    value = params.compose_values([f"env={name}"])["env"]["name"]
    assert value in {row.name for row in list_envs()}
    assert name == value.replace("/", "_")


@pytest.mark.parametrize("preset", params.choices("preset"))
@pytest.mark.parametrize("env", ["smax_2s3z", "smac_2s3z", "mamujoco_Ant-4x2", "toy_lights"])
def test_every_preset_fits_every_suite(preset, env):
    values = params.compose_values([f"preset={preset}", f"env={env}"])
    assert values["preset"] == preset and values["env"]["name"] == env.replace("_", "/", 1)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_a_short_diff_that_cites_its_source_and_changes_what_it_names(name):
    text = (ROOT / "conf" / "ablation" / f"{name}.yaml").read_text()
    lines = text.splitlines()
    assert len(lines) <= 5
    assert lines[1].startswith("# ")
    named = params.flat(yaml.safe_load(text))
    assert 1 <= len(named) <= 2
    assert taken_out(name) == named


def test_every_addition_that_is_on_by_default_can_be_switched_off():
    """Whatever preset=paper has otherwise is its size or its budget, or an ablation sets it as there."""
    sized = {"preset", "finetune.lr", "finetune.updates", "finetune.env_steps", "evaluate.episodes"}
    sized |= {f"world_model.{k}" for k in ("deter", "categoricals", "classes", "hidden", "layers", "fusion_heads")}
    sized |= {f"world_model.{k}" for k in ("batch", "length", "lr")} | {"policy.hidden", "policy.critic_hidden"}
    sized |= {f"policy.{k}" for k in ("horizon", "lr_actor", "lr_critic", "starts", "e_sample", "minibatches")}
    sized |= {"policy.entropy", "policy.grad_clip", "collect.num_envs", "collect.warmup_steps"}
    sized |= {f"pretrain.{k}" for k in ("env_steps", "e_m", "e_pi")}
    off = {}
    for name in ABLATIONS:
        for key, value in taken_out(name).items():
            off.setdefault(key, []).append(value)
    paper = changed("preset=paper")
    at_warmup = {"pretrain.policy_after"}  # the first number of steps from which there is anything to learn from
    of_the_map = {"world_model.pad_ends"}  # which smax/3m alone of all battles does without
    missing = {key: value for key, value in paper.items() if key not in sized and value not in off.get(key, [])}
    assert set(missing) == at_warmup | of_the_map and sized <= set(paper)
    assert min(off["pretrain.policy_after"]) <= composed()["collect.warmup_steps"]
    for key in ("world_model.agent_ids", "world_model.normalise_obs", "reward_trend.normalise"):
        assert False in off[key]  # on in both presets, of robots or of all, and printed in no equation


def test_the_papers_masking_rates_are_all_there():
    found = [composed(f"ablation={name}") for name in ABLATIONS if "mask" in name and "bit" not in name]
    masked = [rates_of(Finetune(**section(values, "finetune")), 64, np.random.default_rng(0)) for values in found]
    assert {rate for rates in masked for rate in rates.tolist()} == {0, 0.125, 0.25, 0.375, 0.5, 0.75}
    assert all(len(set(rates.tolist())) == 1 for rates in masked)


def section(values, name):
    return {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{name}.")}


@pytest.mark.parametrize("largest", [1.2, 1.41])
def test_no_window_opens_where_battles_pay(largest):
    """So no list takes the trend out of battles: 1.2 is the most that one of 40,000 steps of smax/3m paid."""
    settings = RewardTrend(**section(composed(), "reward_trend"))
    rew = np.random.default_rng(0).choice(np.array([0, largest], np.float32), 4000)
    trend, half = reward_trend(rew, settings, 1.0)
    np.testing.assert_array_equal(trend, rew)
    assert not half.any()
    assert reward_trend(rew * np.float32(1.5), settings, 1.0)[1].any()


@pytest.mark.parametrize("name", params.choices("tuned"))
def test_what_a_study_found_is_a_short_diff_that_cites_it_and_fits_the_defaults(name):
    lines = (ROOT / "conf" / "tuned" / f"{name}.yaml").read_text().splitlines()
    assert len(lines) <= 5 and lines[1].startswith("# ")
    assert (changed(f"tuned={name}") == {}) == (name == "none")


def test_no_ablation_is_the_defaults():
    assert changed("ablation=none") == {}


def test_the_paper_preset_switches_every_addition_off():
    paper = params.flat(params.compose_values(["preset=paper"]))
    off = {
        "world_model.mask_bit": False,
        "world_model.start_bit": False,
        "world_model.unimix": 0,
        "world_model.free_nats": 0,
        "policy.unimix": 0,
        "finetune.vary_p_mask": False,
        "reward_trend.mode": "paper",
    }
    assert {key: paper[key] for key in off} == off
    size = (paper["world_model.deter"], paper["world_model.categoricals"], paper["world_model.classes"])
    assert size == (256, 32, 32)


BUDGETS = {"3s_vs_5z": (200_000, 20_000), "corridor": (400_000, 50_000)}  # of maps that SMAX has, too
OF_SMAC = {"1c3s5z": (100_000, 20_000), "2c_vs_64zg": (200_000, 15_000), "2s3z": (100_000, 15_000)}
NEITHER = {"smax_2s3z": (100_000, 15_000), "smac_MMM2": (100_000, 15_000), "toy_dials": (100_000, 15_000)}


def budget(*overrides):
    """Environment steps, and masked updates, for which the preset plays as many steps."""
    found = composed(*overrides)
    if found["preset"] == "paper" and not any(text.startswith("finetune.") for text in overrides):
        assert found["finetune.env_steps"] == found["finetune.updates"]
    return found["pretrain.env_steps"], found["finetune.updates"]


def test_the_paper_preset_has_the_published_budget_of_a_map_in_smac_and_in_smax():
    smac, smax = ({f"{suite}_{name}": steps for name, steps in BUDGETS.items()} for suite in ("smac", "smax"))
    expected = smac | smax | {f"smac_{name}": steps for name, steps in OF_SMAC.items()} | NEITHER
    assert {env: budget(f"env={env}", "preset=paper") for env in expected} == expected
    for agent in ("gawm", "mamba_paper", "mag_paper"):
        assert budget("env=smax_corridor", "preset=paper", f"agent={agent}") == BUDGETS["corridor"]


def test_a_budget_yields_to_what_is_said_and_to_a_method_with_a_length_of_its_own_and_is_no_other_presets():
    asked = ("env=smac_corridor", "preset=paper")
    assert budget(*asked, "pretrain.env_steps=7000", "finetune.updates=7") == (7000, 7)
    assert budget(*asked, "agent=mappo") == (1_000_000, 50_000)
    assert budget("env=smac_corridor") == (400_000, 1600) and budget("env=smax_corridor") == (64_000, 1600)
    assert budget("env=smac_corridor", "preset=toy") == (600, 30)


@pytest.mark.parametrize("path", sorted((ROOT / "conf/budget").rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_budget_is_of_a_preset_and_a_map_there_are_and_sets_nothing_but_lengths(path):
    assert path.parent.name in params.choices("preset") and path.stem in params.choices("env")
    assert path.read_text().splitlines()[0] == params.PACKAGE
    found = set(params.flat(yaml.safe_load(path.read_text()))) - {"defaults"}
    assert found <= {"pretrain.env_steps", "finetune.updates", "finetune.env_steps"}


def test_an_environment_may_be_called_by_its_own_name(tmp_path, monkeypatch, capsys):
    assert composed("env=smax/2s3z") == composed("env=smax_2s3z")
    monkeypatch.setattr(params.paths, "PARAMS", tmp_path / "params.yaml")
    assert params.main(["env=smac/2s3z"]) == 0
    assert yaml.safe_load((tmp_path / "params.yaml").read_text())["env"]["name"] == "smac/2s3z"
    assert folder_of(overrides_of(["env=toy/dials"])) == folder_of(overrides_of(env="toy_dials"))
    begun = []
    monkeypatch.setattr("sys.argv", ["seeds", "0", "env=smax/3m"])
    monkeypatch.setattr(seeds, "run", lambda *told: begun.append(told) or seeds.paths.ROOT)
    assert seeds.main() == 0 and begun == [([0], ["env=smax_3m"], 1)]


def test_one_value_overrides_one_value():
    assert changed("finetune.p_mask=0.25") == {"finetune.p_mask": 0.25}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("finetune.pmask=0.5", "did you mean finetune.p_mask?"),
        ("environment=smax_3m", "unknown key environment"),
        ("env=smax_4m", "conf/env has no 'smax_4m'; did you mean smax_8m? It has mamujoco_Ant-4x2, "),
        ("env=smax/4m", "conf/env has no 'smax/4m'; did you mean smax_"),
        ("env=python/own_env:Meeting", "say env.name=python/own_env:Meeting"),
        ("env=2s3z", "did you mean smac_2s3z or smax_2s3z? It has "),
        ("agent=mapo", "did you mean mappo?"),
        ("p_mask=0.25", "unknown key p_mask; did you mean finetune.p_mask or ablate.p_mask?"),
        ("policy.deter=8", "unknown key policy.deter; did you mean world_model.deter?"),
        ("smax_3m", "expected key=value"),
        ("finetune.p_mask=2", "finetune.p_mask"),
        ("finetune.p_mask=[", "cannot compose"),
        ("seed=${oops}", "cannot compose"),
    ],
)
def test_a_wrong_override_is_a_sentence(override, said):
    with pytest.raises(UserError, match=re.escape(said)):
        params.compose_values([override])


REPEATED = [
    (("ablation=no_observation_fusion", "ablation=no_action_fusion"), "ablation=no_fusion holds both"),
    (("ablation=no_masking", "env=toy_lights", "ablation=no_unimix"), "or write a file of conf/ablation with both"),
    (("ablation=p_mask_0.25", "ablation=p_mask_0.75"), "p_mask_0.25 and p_mask_0.75; say one of them\n"),
    (("ablation=no_masking", "ablation=no_masking"), "no_masking and no_masking; say it once"),
    (("env=smax/3m", "env=smax_3m"), "env: got two, smax_3m and smax_3m; say it once"),
    (("env.name=smax/3m", "env=smax_2s3z"), "env=smax_2s3z and env.name=smax/3m both name one; say one of them"),
    (("finetune.p_mask=0.25", "finetune.p_mask=0.75"), "finetune.p_mask: got two, 0.25 and 0.75; say one of them"),
]


@pytest.mark.parametrize(("overrides", "said"), REPEATED)
def test_what_a_user_says_twice_is_refused_and_nothing_is_written(overrides, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(params.paths, "PARAMS", tmp_path / "params.yaml")
    assert params.main(overrides) == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "params.yaml").exists()
    monkeypatch.setattr("sys.argv", ["seeds", "0", *overrides])
    monkeypatch.setattr(seeds, "run", lambda *told: pytest.fail("it began"))
    assert seeds.main() == 2 and said in capsys.readouterr().err


def test_an_option_and_a_setting_of_the_same_key_are_two():
    with pytest.raises(UserError, match="finetune.p_mask: got two, 0.25 and 0.75"):
        overrides_of(["finetune.p_mask=0.75"], p_mask=0.25)
    with pytest.raises(UserError, match="env: got two, smax_3m and smax_2s3z"):
        overrides_of(["env=smax_2s3z"], env="smax/3m")
    assert overrides_of(["preset=toy"], env="smax/3m", seed=None) == ["env=smax_3m", "preset=toy"]


def test_a_list_of_experiments_layers_its_settings():
    assert composed("finetune.p_mask=0.25", "finetune.p_mask=0.75")["finetune.p_mask"] == 0.75


def test_the_command_writes_the_file_whole_and_says_what_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(params.paths, "PARAMS", tmp_path / "params.yaml")
    assert params.main([]) == 0
    assert params.main(["finetune.p_mask=0.25"]) == 0
    out = capsys.readouterr().out
    assert "finetune.p_mask: 0.5 -> 0.25" in out
    assert out.splitlines()[-1] == f"settings: {tmp_path / 'params.yaml'}"
    assert yaml.safe_load((tmp_path / "params.yaml").read_text())["finetune"]["p_mask"] == 0.25
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_a_refused_command_leaves_the_file_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(params.paths, "PARAMS", tmp_path / "params.yaml")
    assert params.main(["finetune.p_mask=7"]) == 2
    assert "finetune.p_mask = 7" in capsys.readouterr().err
    assert not (tmp_path / "params.yaml").exists()


def test_the_command_refuses_what_changes_nothing_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(params.paths, "PARAMS", tmp_path / "params.yaml")
    assert params.main(["agent=qmix", "policy.horizon=3"]) == 2
    assert "policy.horizon=3 changes nothing: qmix does not read policy.horizon" in capsys.readouterr().err
    assert not (tmp_path / "params.yaml").exists()


@pytest.mark.parametrize("p_mask", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_rates_that_vary_have_the_mean_that_was_asked_for(p_mask: float) -> None:
    section = params.compose_values([f"finetune.p_mask={p_mask}", "finetune.vary_p_mask=true"])["finetune"]
    rates = rates_of(Finetune(**section), 20_000, np.random.default_rng(0))
    assert rates.mean() == pytest.approx(p_mask, abs=0.01) and 0 <= rates.min() <= rates.max() <= 1
