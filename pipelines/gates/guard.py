"""What stands between two stages: data that break an expectation go no further. The only file with Great Expectations.

A gate writes metrics/gates/NAME.json if its data pass, and pages into reports/data_docs/NAME in any case. What comes
after it depends on results/passed/NAME.json, which says only that they did, so one more expectation looks at the data
again and does not train again.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from pipelines import environment, paths
from pipelines.gates import data_docs
from pipelines.gates.suites import Rule, Table, Verdict
from rmiov2.config import Config
from rmiov2.files import read_bytes, write_json
from rmiov2.types import EnvSpec, UserError

PLACES = 3  # that a sentence names


def collected(config: Config) -> list[Table]:
    """data/collect, of which metrics/collect.json says how much there is."""
    from pipelines.gates.shard_facts import Expected, shard_tables

    said = _metrics("collect")
    trajectories, steps = said["trajectories"], said["env_steps"]
    expected = Expected(
        spec=_spec(config),
        segment=config.pretrain.segment,
        num_envs=config.collect.num_envs,
        trajectories=(trajectories, trajectories),
        steps=(steps, steps),
    )
    return shard_tables(paths.COLLECTED, expected)


def replayed(config: Config) -> list[Table]:
    """data/replay, which holds all that metrics/pretrain.json counts, or the newest that fit into collect.capacity."""
    from pipelines.gates.shard_facts import Expected, shard_tables

    spec, steps, capacity = _spec(config), _metrics("pretrain")["env_steps"], config.collect.capacity
    forgetful = steps > capacity
    longest = min(config.pretrain.segment, spec.episode_limit or config.pretrain.segment)
    least, most = (capacity - longest + 1, capacity) if forgetful else (steps, steps)
    expected = Expected(
        spec=spec,
        segment=config.pretrain.segment,
        num_envs=config.collect.num_envs,
        trajectories=(-(-least // longest), most),
        steps=(least, most),
        forgetful=forgetful,
    )
    return shard_tables(paths.REPLAY, expected)


def evaluated(config: Config) -> list[Table]:
    """results/episodes.parquet, and what metrics/evaluate.json says of it."""
    from pipelines.gates.result_facts import result_tables
    from rmiov2.replay import shards

    summary, spec = _metrics("evaluate"), shards.spec_of(paths.REPLAY)
    return result_tables(paths.RESULTS / "episodes.parquet", summary, config, spec)


@dataclass(frozen=True)
class Gate:
    """The stage that made the data, where they are, and how their tables are made."""

    stage: str
    data: str
    tables: Callable[[Config], list[Table]]


GATES = {
    "collect": Gate("collect", "data/collect", collected),
    "replay": Gate("pretrain", "data/replay", replayed),
    "results": Gate("evaluate", "results/episodes.parquet", evaluated),
}


def guard(name: str, config: Config) -> Path:
    """Write the two files of NAME; raises UserError with a sentence for each broken expectation, and writes none."""
    receipt, word = paths.GATES / f"{name}.json", paths.PASSED / f"{name}.json"
    for old in (receipt, word):
        old.unlink(missing_ok=True)
    verdicts = examine(name, GATES[name].tables(config))
    broken = [verdict for verdict in verdicts if not verdict.passed and not verdict.rule.warns]
    for verdict in verdicts:
        if verdict.rule.warns and not verdict.passed:
            print(f"gate {name}: warning: {verdict.sentence()}", file=sys.stderr)
    if broken:
        raise UserError("\n".join([refusal(name, len(broken), len(verdicts)), *(v.sentence() for v in broken)]))
    write_json(receipt, summary(name, config, verdicts))
    write_json(word, {"gate": name, "passed": True})
    return receipt


def refusal(name: str, broken: int, total: int) -> str:
    """The sentence before those of the broken expectations."""
    gate, docs = GATES[name], (paths.DATA_DOCS / name / "index.html").relative_to(paths.ROOT)
    return (
        f"{gate.data} breaks {broken} of {total} expectations, named below and shown in {docs};"
        f" mend what made it, then make it again with `dvc repro -f -s {gate.stage}`"
    )


def summary(name: str, config: Config, verdicts: list[Verdict]) -> dict[str, Any]:
    """The receipt: equal data give equal bytes."""
    warned = [verdict.rule.name for verdict in verdicts if not verdict.passed]
    return {
        "gate": name,
        "env": config.env.name,
        "expectations": len(verdicts),
        "met": len(verdicts) - len(warned),
        "warnings": warned,
        "checked": [
            {"name": v.rule.name, "table": v.table, "rows": v.rows, "unexpected": v.unexpected} for v in verdicts
        ],
    }


def examine(name: str, tables: list[Table]) -> list[Verdict]:
    """Run every rule, and draw Data Docs anew into reports/data_docs/NAME."""
    environment.prepare()
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    docs = paths.DATA_DOCS / name
    shutil.rmtree(docs, ignore_errors=True)
    context.add_data_docs_site(site_name=name, site_config=_site(docs))
    source = context.data_sources.add_pandas(name)
    verdicts = [verdict for table in tables for verdict in _validate(context, source, table)]
    context.build_data_docs(site_names=[name])
    data_docs.finish(docs, name, GATES[name].data, verdicts)
    return verdicts


def _site(folder: Path) -> Any:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
    }


def _validate(context: Any, source: Any, table: Table) -> list[Verdict]:
    import great_expectations as gx

    batch = source.add_dataframe_asset(table.name).add_batch_definition_whole_dataframe("whole")
    suite = gx.ExpectationSuite(name=table.name, expectations=[_expectation(rule) for rule in table.rules])
    definition = gx.ValidationDefinition(name=table.name, data=batch, suite=context.suites.add(suite))
    checkpoint = gx.Checkpoint(
        name=table.name,
        validation_definitions=[context.validation_definitions.add(definition)],
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": list(table.where)},
    )
    ran = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": table.frame})
    (result,) = ran.run_results.values()
    found = {one.expectation_config.meta["name"]: one for one in result.results}
    return [_verdict(rule, table, found[rule.name]) for rule in table.rules]


def _expectation(rule: Rule) -> Any:
    import great_expectations.expectations as gxe

    column = {} if "column_list" in rule.arguments else {"column": rule.column}
    return getattr(gxe, rule.kind)(
        **column,
        **rule.arguments,
        meta={"name": rule.name},
        description=f"{rule.name}: {rule.says}",
        severity="warning" if rule.warns else "critical",
    )


def _verdict(rule: Rule, table: Table, found: Any) -> Verdict:
    if found.success:
        return Verdict(rule, table.name, len(table.frame), 0, ())
    if "unexpected_index_list" not in found.result:
        raise RuntimeError(f"{rule.name} could not be judged: {found.exception_info}")
    broken = found.result["unexpected_index_list"]
    places = tuple(_place(rule, table, entry) for entry in broken[:PLACES])
    return Verdict(rule, table.name, len(table.frame), len(broken), places)


def _place(rule: Rule, table: Table, entry: dict[str, Any]) -> str:
    where = ", ".join(f"{name} {_text(entry[name])}" for name in table.where)
    return where if rule.column in table.where else f"{where} has {rule.column} {_text(entry[rule.column])}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, Real) else str(value)


def _spec(config: Config) -> EnvSpec:
    from rmiov2.envs.registry import make_env

    env = make_env(config.env.name, 1)
    env.close()
    return env.spec


def _metrics(stage: str) -> Any:
    path = paths.METRICS / f"{stage}.json"
    try:
        return json.loads(read_bytes(path, f"{path} is missing; write it with `dvc repro {stage}`"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); write it anew with `dvc repro -f -s {stage}`") from error
