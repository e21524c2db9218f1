"""Settings: mistakes are refused with a sentence that helps, and every setting has a reader."""

import ast
import copy
import json
from pathlib import Path

import pytest
import yaml

from rmiov2.config import Config, known_keys, load, parse
from rmiov2.types import UserError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def values():
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def refusal(values):
    with pytest.raises(UserError) as caught:
        parse(values, "params.yaml")
    return str(caught.value)


def test_the_committed_settings_are_complete_and_valid(values):
    assert load(ROOT / "params.yaml") == parse(values, "params.yaml")


def test_an_unknown_key_names_the_nearest(values):
    values["finetune"]["pmask"] = 0.5
    said = refusal(values)
    assert "finetune.pmask" in said and "did you mean finetune.p_mask?" in said


def test_an_unknown_section_is_refused(values):
    values["fine_tune"] = values["finetune"]
    assert "unknown key fine_tune" in refusal(values)


def test_a_missing_key_is_named(values):
    del values["policy"]["gamma"]
    assert "policy.gamma is missing" in refusal(values)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("finetune", "p_mask", 1.5),
        ("world_model", "deter", 0),
        ("world_model", "classes", 1),
        ("policy", "lr_actor", -1.0),
        ("policy", "gamma", 0.0),
        ("policy", "return_floor", float("inf")),
        ("pretrain", "e_m", 1e308),
        ("reward_trend", "mode", "smooth"),
        ("finetune", "pattern", "bursty:0"),
        ("execution", "availability", 0.0),  # any action would do
        ("execution", "availability", 1.0),  # none ever would
        ("evaluate", "p_loss", [0.0, 2.0]),
        ("evaluate", "episodes", "many"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_key_and_itself(values, section, name, value):
    values[section][name] = value
    said = refusal(values)
    assert f"{section}.{name}" in said and ("2.0" if isinstance(value, list) else repr(value)) in said


@pytest.mark.parametrize("grid", [[0.0, 0.5], [0.5, 1.0], [0.0, 0.6, 0.4, 1.0], [0.0, 0.5, 0.5, 1.0]])
def test_p_loss_must_rise_from_0_to_1(values, grid):
    values["evaluate"]["p_loss"] = grid
    assert "expected a rising grid from 0 to 1" in refusal(values)


def test_the_window_of_the_reward_trend_must_be_ordered(values):
    values["reward_trend"] |= {"h_min": 4, "h_max": 3}
    assert "h_min: 4 is above h_max: 3" in refusal(values)


def test_every_mistake_is_told_at_once(values):
    values["finetune"]["p_mask"] = 2
    values["policy"]["lam"] = 3
    assert len(refusal(values).splitlines()) == 2


def test_settings_cannot_be_changed_behind_the_back_of_a_run(values):
    config = parse(values, "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1


def test_settings_survive_json(values, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(parse(values, "params.yaml").model_dump(mode="json")))
    assert load(path) == parse(values, "params.yaml")


def test_a_file_that_is_missing_or_broken_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"pipelines\.params"):
        load(tmp_path / "params.yaml")
    for broken in (b"a: [1", b"# \xe9t\xe9", b"[" * 5000):
        (tmp_path / "params.yaml").write_bytes(broken)
        with pytest.raises(UserError, match="cannot be read"):
            load(tmp_path / "params.yaml")


def test_known_keys_are_those_of_the_file(values):
    flat = {f"{section}.{name}" for section, part in values.items() if isinstance(part, dict) for name in part}
    flat |= {name for name, part in values.items() if not isinstance(part, dict)}
    assert set(known_keys("rmiov2")) == flat < set(known_keys())


def attributes_read() -> set[str]:
    """Every name that comes after a dot somewhere in the code."""
    names = set()
    for path in [*ROOT.glob("rmiov2/**/*.py"), *ROOT.glob("pipelines/**/*.py")]:
        if path.parent != ROOT / "rmiov2" / "config":
            tree = ast.parse(path.read_text())
            names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return names


def test_no_setting_without_a_reader():
    """By name only; tests/test_pipeline.py sees which stage reads what."""
    read = attributes_read()
    assert "p_mask" in read and "no_such_setting" not in read
    assert [key for key in known_keys() if key.rpartition(".")[2] not in read] == []


def test_every_key_that_needs_words_has_them():
    """A key is either said by its own name or described; the letters of the paper never stand alone."""
    letters = {"deter", "categoricals", "classes", "e_m", "e_pi", "h_base", "horizon", "history", "starts", "segment"}
    described = set()
    for section in Config.model_fields.values():
        fields = getattr(section.annotation, "model_fields", {})
        described |= {name for name, field in fields.items() if field.description}
    assert letters - described == set()


def test_parse_leaves_its_input_alone(values):
    before = copy.deepcopy(values)
    parse(values, "params.yaml")
    assert values == before
