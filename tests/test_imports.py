"""Who imports whom, read off the source: the house stays the house that the README draws."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
ORCHESTRATION = ("pipelines", "prefect", "dvc", "mlflow", "optuna", "great_expectations", "hydra", "omegaconf")
HEAVY = {"torch", "jax", "scipy", "matplotlib", "pandas"}
CODE_ON_LOAD = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")

# All that the foundation may import of ours.
FOUNDATION = {"rmiov2.types": set(), "rmiov2.config": {"rmiov2.types"}, "rmiov2.seeding": {"rmiov2.types"}}

# What a part may never import, anywhere in its files.
NEVER = [
    (
        "rmiov2.envs",
        ("rmiov2.agents", "rmiov2.training", "rmiov2.execution", "rmiov2.evaluation", "rmiov2.world_model"),
    ),
    ("rmiov2.replay", ("rmiov2.agents", "rmiov2.training", "rmiov2.envs", "rmiov2.evaluation")),
    ("rmiov2.world_model", ("rmiov2.agents", "rmiov2.training", "rmiov2.envs", "rmiov2.policy", "rmiov2.evaluation")),
    ("rmiov2.policy", ("rmiov2.agents", "rmiov2.training", "rmiov2.envs", "rmiov2.evaluation")),
    ("rmiov2.world_model", ("rmiov2.execution", "rmiov2.replay")),
    ("rmiov2.policy", ("rmiov2.execution", "rmiov2.replay", "rmiov2.world_model")),
    (
        "rmiov2.execution",
        ("rmiov2.agents", "rmiov2.envs", "rmiov2.replay", "rmiov2.training", "rmiov2.evaluation", "rmiov2.policy"),
    ),
    ("rmiov2.agents", ("rmiov2.envs", "rmiov2.replay", "rmiov2.training", "rmiov2.evaluation")),
    ("rmiov2.evaluation", ("rmiov2.training", "rmiov2.replay")),
    (
        "rmiov2.reporting",
        ("torch", "rmiov2.agents", "rmiov2.envs", "rmiov2.training", "rmiov2.world_model", "rmiov2.seeding"),
    ),
    *(
        (f"rmiov2.reporting.{part}", tuple(f"rmiov2.reporting.{above}" for above in others))
        for part, others in (
            ("scene", ("run", "methods", "stress", "variants", "pages")),
            ("run", ("methods", "stress", "variants", "pages")),
            ("methods", ("stress", "variants", "pages")),
            ("stress", ("methods", "variants", "pages")),
            ("variants", ("pages",)),
        )
    ),
    ("rmiov2", ORCHESTRATION),
    ("rmiov2", CODE_ON_LOAD),
    ("pipelines", CODE_ON_LOAD),
]

# The only files that may import what is heavy or peculiar.
ONLY = [
    (("jax", "jaxlib", "jaxmarl"), {"rmiov2.envs.smax"}),
    (("mujoco", "gymnasium_robotics"), {"rmiov2.envs.mamujoco"}),
    (("pettingzoo",), {"rmiov2.envs.pettingzoo"}),
    (("smac", "pysc2", "absl", "s2clientprotocol"), {"rmiov2.envs.smac.starcraft"}),
    (("hydra", "omegaconf"), {"pipelines.params"}),
    (("prefect",), {"pipelines.flow", "pipelines.sweep"}),
    (
        ("mlflow",),
        {
            "pipelines.models.tracking",
            "pipelines.models.registration",
            "pipelines.registry",
            "pipelines.models.team_model",
            "pipelines.serving",
            "pipelines.tuning.trial_runs",
        },
    ),
    (("optuna",), {"pipelines.tuning.study", "pipelines.tuning.storage", "pipelines.tuning.plots"}),
    (("great_expectations",), {"pipelines.gates.guard"}),
]

# pipelines/ from the ground up; each imports of it only what stands before it, and the other commands come last.
HOUSE = (
    "paths", "environment", "refusals", "params", "processes", "models", "stage", "gates", "studies", "tuning", "stages"
)  # fmt: skip
# The only modules beside the commands. A stage's file is a dependency of what it trains, so what all of them import,
# paths and stage, stays where it is.
SHARED = {"paths", "environment", "refusals", "stage"}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """Every module that the file imports, also inside functions; `from a import b` counts as a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


IMPORTS = {
    module_name(p): imports_of(p) for part in ("rmiov2", "pipelines") for p in sorted((ROOT / part).rglob("*.py"))
}
PIPELINES = {name.removeprefix("pipelines."): found for name, found in IMPORTS.items() if name.startswith("pipelines.")}
PREFECT = yaml.safe_load((ROOT / "prefect.yaml").read_text())


def within(name, package):
    """Whether a module is the package, or inside it."""
    return name == package or name.startswith(package + ".")


def test_the_reader_of_imports_sees_them():
    assert within("rmiov2.envs.smax", "rmiov2.envs") and not within("rmiov2_other", "rmiov2")
    assert any(within(name, "jaxmarl") for name in IMPORTS["rmiov2.envs.smax"])
    assert "rmiov2.envs.base" in IMPORTS["rmiov2.envs.registry"]


@pytest.mark.parametrize(("module", "allowed"), FOUNDATION.items())
def test_the_foundation_imports_nothing_above_it(module, allowed):
    files = [name for name in IMPORTS if within(name, module)]
    ours = {i for name in files for i in IMPORTS[name] if within(i, "rmiov2") and not within(i, module)}
    assert [name for name in ours if not any(within(name, package) for package in allowed)] == []


@pytest.mark.parametrize(("part", "forbidden"), NEVER)
def test_a_part_never_imports_what_is_above_it(part, forbidden):
    modules = [name for name in IMPORTS if within(name, part)]
    assert modules
    wrong = {(name, i) for name in modules for i in IMPORTS[name] for package in forbidden if within(i, package)}
    assert wrong == set()


@pytest.mark.parametrize(("packages", "allowed"), ONLY)
def test_a_suite_or_a_tool_is_imported_in_one_place(packages, allowed):
    users = {name for name, found in IMPORTS.items() if any(within(i, package) for i in found for package in packages)}
    assert users <= allowed


def is_command(name):
    """Whether `python -m` runs a module of pipelines, or prefect.yaml names it."""
    file = f"pipelines/{name.replace('.', '/')}.py"
    if file in {deployed["entrypoint"].partition(":")[0] for deployed in PREFECT["deployments"]}:
        return True
    return (ROOT / file).is_file() and 'if __name__ == "__main__":' in (ROOT / file).read_text()


def test_whoever_lists_pipelines_sees_its_commands_and_its_rooms():
    rooms = {name.partition(".")[0] for name in PIPELINES if "." in name}
    commands = {name for name in PIPELINES if is_command(name)}
    assert {name for name in PIPELINES if "." not in name} - rooms - commands == SHARED
    assert {name for name in commands if "." in name and not within(name, "stages")} == {"tuning.__main__"}
    assert rooms | SHARED | {"params"} == set(HOUSE)


@pytest.mark.parametrize("module", sorted(SHARED))
def test_what_lies_beside_the_commands_is_needed_in_several_rooms(module):
    users = {name.partition(".")[0] for name in PIPELINES if "." in name and f"pipelines.{module}" in PIPELINES[name]}
    assert len(users) > 1


@pytest.mark.parametrize("part", HOUSE)
def test_a_room_imports_only_what_it_is_built_on(part):
    below = [f"pipelines.{name}" for name in HOUSE[: HOUSE.index(part) + 1]]
    found = {(name, i) for name in PIPELINES if within(name, part) for i in PIPELINES[name] if within(i, "pipelines")}
    assert found or part in ("paths", "refusals")
    assert {(name, i) for name, i in found if i != "pipelines" and not any(within(i, one) for one in below)} == set()


def test_nothing_in_pipelines_has_the_name_of_what_is_imported():
    """Prefect puts the folder of flow.py first on the path: a room called dvc would be taken for DVC from then on."""
    names = {name.partition(".")[0] for name in PIPELINES}
    imported = {i.partition(".")[0] for found in IMPORTS.values() for i in found}
    assert names.isdisjoint(imported | sys.stdlib_module_names)


def test_nothing_that_is_loaded_can_run_code():
    calls = set()
    for path in [*(ROOT / "rmiov2").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                calls.add(ast.unparse(node.func))
                assert "allow_pickle" not in {keyword.arg for keyword in node.keywords}, path
    assert calls.isdisjoint(
        {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "eval", "exec", "pd.read_pickle"}
    )


def loaded_after(statement):
    """The modules that a fresh Python has loaded after the statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_command_answers_before_anything_heavy_is_loaded():
    statement = "from rmiov2 import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass"
    assert loaded_after(statement).isdisjoint(HEAVY)


@pytest.mark.parametrize("command", ["run", "paper", "seeds", "study", "params"])
def test_what_runs_the_stages_loads_nothing_heavy_itself(command):
    loaded = loaded_after(f"import pipelines.{command}")
    assert f"pipelines.{command}" in loaded and loaded.isdisjoint(HEAVY)


def test_the_compiler_is_loaded_where_something_is_compiled():
    """Seconds, which every process would pay that only plays."""
    play = """
from pathlib import Path
import numpy as np
from rmiov2 import config
from rmiov2.agents.registry import make_agent
from rmiov2.envs.registry import make_env

env = make_env("toy/lights", 2)
step = env.reset()
seen = np.zeros((2, env.spec.num_agents), bool)
agent = make_agent(config.load(Path("params.yaml")), env.spec)
agent.model_optimiser.load_state_dict({})
agent.team(2, 0).act(step.obs, seen, step.avail)
"""
    loaded = loaded_after(play)
    assert "torch" in loaded and "torch._dynamo" not in loaded


@pytest.mark.parametrize("kind", ["Adam", "RMSprop"])
def test_a_step_down_a_loss_loads_no_compiler(kind):
    step = f"""
import torch
from rmiov2.agents.optimiser import {kind}, Optimiser

module = torch.nn.Linear(2, 1)
optimiser = Optimiser({kind}, module, 0.1)
optimiser.step(module(torch.ones(1, 2)).square().mean(), 1.0, 0.1)
optimiser.load_state_dict(optimiser.state_dict())
"""
    loaded = loaded_after(step)
    assert "torch" in loaded and "torch._dynamo" not in loaded


def test_the_page_is_drawn_without_torch():
    modules = [name for name in IMPORTS if name.startswith("rmiov2.reporting")]
    loaded = loaded_after("\n".join(f"import {name}" for name in modules))
    assert "matplotlib" in loaded and loaded.isdisjoint({"torch", "jax"})
