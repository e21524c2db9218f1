"""What a study was made of goes with it: no variant, and no half of one, is ever taken for the whole method."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from synthetic_run import CELLS, write_run
from test_variants import keep_variant, kept_family, of_kept, record

from pipelines import paths, seeds
from pipelines.params import as_text, compose_values
from pipelines.studies import cells
from pipelines.studies import workspace as workspaces
from pipelines.studies.cells import Cell
from pipelines.studies.records import record_in, refuse_unnamed
from rmiov2.files import write_json
from rmiov2.reporting.kept import SAME_CODE, read_kept, same_version
from rmiov2.reporting.methods.reached import own_method
from rmiov2.reporting.pages.run import variants_chapters
from rmiov2.reporting.run.results import read_results
from rmiov2.reporting.variants.table import what_differs
from rmiov2.reporting.variants.worth import of_run, paired
from rmiov2.types import UserError

TOY = ["preset=toy", "env=toy_lights"]


def test_seeds_of_one_study_are_of_one_variant(tmp_path: Path) -> None:
    kept_family(tmp_path, {"none": [0.5], "no_fusion": [0.1, 0.2]})
    path = tmp_path / "smax-3m+no_fusion/seed-1/variant.json"
    elsewhere = record("no_fusion") | {"settings": {"agent.name": "rmio", "x.y": False}}
    for other in (record("no_fusion", "paper"), elsewhere):
        write_json(path, other)
        with pytest.raises(UserError, match="its seeds differ in ablation, scale or settings"):
            list(read_kept(tmp_path))


def test_a_setting_that_a_seed_does_not_know_is_newer_than_it(tmp_path: Path) -> None:
    kept_family(tmp_path, {"none": [0.5], "no_fusion": [0.1, 0.2, 0.3]})
    made = record("no_fusion")
    for seed, newer in enumerate(({"lr": 1}, {}, {"lr": 1, "clip": 9})):
        path = tmp_path / f"smax-3m+no_fusion/seed-{seed}/variant.json"
        write_json(path, made | {"settings": made["settings"] | newer})
    known = made["settings"] | made["instead"] | {"lr": 1, "clip": 9}
    assert of_kept(tmp_path).named["no_fusion"].settings == known
    write_json(path, made | {"settings": made["settings"] | {"lr": 2}})  # beside it in order is one that knows no lr
    with pytest.raises(UserError, match="its seeds differ in ablation, scale or settings"):
        list(read_kept(tmp_path))


@pytest.mark.parametrize("knowing", [0, 1])
def test_what_held_before_a_setting_could_be_said_is_known_of_a_seed_that_does_not_say_it(
    tmp_path: Path, knowing: int
) -> None:
    kept_family(tmp_path, {"none": [0.5], "no_fusion": [0.1, 0.2]})
    made, path = record("no_fusion"), tmp_path / f"smax-3m+no_fusion/seed-{knowing}/variant.json"
    write_json(path, made | {"settings": made["settings"] | {"world_model.foresight": 0.0}})
    assert of_kept(tmp_path).named["no_fusion"].settings["world_model.foresight"] == 0
    write_json(path, made | {"settings": made["settings"] | {"world_model.foresight": 1.0}})
    with pytest.raises(UserError, match="its seeds differ in ablation, scale or settings"):
        list(read_kept(tmp_path))


def test_a_name_and_a_record_say_the_same(tmp_path: Path) -> None:
    """What was half kept, or moved, is never taken for the whole method."""
    kept_family(tmp_path, {"none": [0.5], "no_fusion": [0.1]})
    path = tmp_path / "smax-3m+no_fusion/seed-0/variant.json"
    text = path.read_text()
    path.unlink()
    with pytest.raises(UserError, match=r"no variant.json in .*smax-3m\+no_fusion/seed-0, so what it is of"):
        list(read_kept(tmp_path))
    path.write_text(text)
    shutil.move(path.parent, tmp_path / "smax-3m/seed-1")
    with pytest.raises(UserError, match="is of no_fusion at small, which is not kept as smax-3m; move it"):
        list(read_kept(tmp_path))
    shutil.move(tmp_path / "smax-3m/seed-1", tmp_path / "smax-3m+no_fusion@paper/seed-0")
    with pytest.raises(UserError, match="which is not kept as smax-3m.no_fusion@paper"):
        list(read_kept(tmp_path))


def test_a_seed_kept_before_records_stands_beside_one_with_a_record(tmp_path: Path) -> None:
    found = kept_family(tmp_path, {"none": [0.5, 0.5], "no_fusion": [0.1]})
    assert found.whole.settings == {} and found.named["no_fusion"].settings == {"agent.name": "rmiov2", "x.y": True}
    assert what_differs(found)[-1].startswith("Made at commit c0ffee of the code, and some of it before")
    write_json(tmp_path / "smax-3m/seed-1/variant.json", record("none", commit="decade"))
    found = of_kept(tmp_path)
    assert found.whole.settings == found.named["no_fusion"].settings and found.whole.commits == ("decade",)
    assert what_differs(found)[-1].startswith("Made at commits c0ffee, decade of the code, and some of it before")
    for ablation, commit, digest in (("none", "decade", "1f"), ("no_fusion", "c0ffee", "2e")):
        for path in tmp_path.glob(f"smax-3m{'' if ablation == 'none' else '+no_fusion'}/seed-*"):
            write_json(path / "variant.json", record(ablation, commit=commit) | {"code": digest})
    assert what_differs(of_kept(tmp_path))[-1].endswith(
        "2 versions of what was run: differences may also be due to the code."
    )
    for path in tmp_path.glob("smax-3m*/seed-*/variant.json"):
        write_json(path, json.loads(path.read_text()) | {"code": "1f"})
    assert what_differs(of_kept(tmp_path))[-1] == (
        "Made at commits c0ffee, decade of the code, which are one version of what was run, or reproduce the committed"
        " run’s team to the byte."
    )


def test_two_versions_count_as_one_where_the_folder_says_so(tmp_path: Path) -> None:
    kept_family(tmp_path, {"none": [0.5], "no_fusion": [0.1]})
    for study, digest in (("smax-3m", "1f"), ("smax-3m+no_fusion", "2e")):
        path = tmp_path / study / "seed-0/variant.json"
        write_json(path, record("none" if study == "smax-3m" else "no_fusion") | {"code": digest})
    assert what_differs(of_kept(tmp_path))[-1].endswith("differences may also be due to the code.")
    write_json(tmp_path / SAME_CODE, {"2e": "1f"})
    assert not what_differs(of_kept(tmp_path))[-1].endswith("differences may also be due to the code.")


def test_a_version_counts_as_another_only_if_it_makes_the_committed_team_the_same() -> None:
    """When the code changes and its run does not, docs/seeds/same_code.json is to say so; and not when it does."""
    place = seeds.SEEDS / "smax-3m" / "seed-0-AVX2"
    texts = {name: (paths.ROOT / name).read_bytes() for name in (*workspaces.FILES, workspaces.TUNING_CURVE)}
    names = ("metrics/evaluate.json", "plots/learning.csv", "plots/finetune.csv")
    same = workspaces.same_results(place, texts, names)
    now, then = workspaces.code_of(paths.ROOT), str(record_in(place / "variant.json")["code"])
    assert (same_version(seeds.SEEDS, now) == same_version(seeds.SEEDS, then)) == same


def test_only_teams_of_one_seed_and_one_processor_are_pairs(tmp_path: Path) -> None:
    kept_family(tmp_path, {"none": [0.5, 0.5], "no_fusion": [0.1, 0.2], "no_masking": [0.3]})
    assert what_differs(of_kept(tmp_path))[-1].startswith("Made at commit")

    def put(study: str, folder: str, processor: str) -> None:
        made = record(study.partition("+")[2] or "none")
        write_json(tmp_path / study / folder / "variant.json", made | {"machine": {"processor": processor}})

    put("smax-3m+no_fusion", "seed-1", "AVX2")
    put("smax-3m+no_masking", "seed-0", "AVX2")
    found = of_kept(tmp_path)
    pair = paired(found.named["no_fusion"], found.whole, "AUC")
    assert pair and pair.seeds == (0,) and pair.values == pytest.approx([-0.4])
    assert paired(found.named["no_masking"], found.whole, "AUC") is None
    told = what_differs(found)[-1]
    assert told.startswith("Trained on AVX2 and a processor that was not recorded, which round differently")
    assert told.endswith("These variants have no such pair with the whole method: no masking.")

    keep_variant(tmp_path, "none", 2, 0.6)
    (tmp_path / "smax-3m/seed-2").rename(tmp_path / "smax-3m/seed-0-AVX2")
    put("smax-3m", "seed-0-AVX2", "AVX2")
    found = of_kept(tmp_path)
    assert [seed.name for seed in found.whole.seeds] == ["0", "0 on AVX2", "1"]
    pair = paired(found.named["no_masking"], found.whole, "AUC")
    assert pair and pair.seeds == (0,) and pair.values == pytest.approx([-0.3])
    told = "differences are between teams with the same seed and the same processor"
    assert what_differs(found)[-1].endswith(f"{told}; those without a record are taken to be of one.")


@pytest.mark.parametrize("told", ["params", "record"])
def test_a_run_that_is_itself_a_variant_is_never_called_the_whole_method(tmp_path: Path, told: str) -> None:
    root = write_run(tmp_path, "smax")
    kept_family(root / "docs/seeds", {"none": [0.5, 0.6], "no_fusion": [0.1, 0.2]})
    (root / "params.yaml").write_text("{agent: {name: rmiov2}, x: {y: true}}")
    assert of_run(read_results(root, CELLS)) is not None
    if told == "params":
        (root / "params.yaml").write_text("{agent: {name: rmiov2}, x: {y: false}}")
    else:
        write_json(root / "state/variant.json", record("no_fusion"))
    results = read_results(root, CELLS)
    assert of_run(results) is None
    assert [seed.evaluate for seed in own_method(results).seeds] == [results.evaluate]  # no kept seed joins it
    (chapter,) = variants_chapters(results)
    why = "its x.y is False, the whole method’s True" if told == "params" else "it was made with ablation=no_fusion"
    assert chapter.lead[0].startswith(f"This run is not the whole method: {why}.")
    assert not chapter.tables and not chapter.pictures


def test_a_run_of_a_list_stands_beside_that_lists_cells(tmp_path: Path) -> None:
    root = write_run(tmp_path, "smax")
    kept_family(root / "docs/seeds", {"none": [0.5], "no_fusion": [0.1]}, scale="longer")
    assert not read_results(root, CELLS).variants
    write_json(root / "state/variant.json", record("none", "longer"))
    results = read_results(root, CELLS)
    assert [method.ablation for method in results.variants] == ["no_fusion"] and own_method(results).scale == "longer"


# Of workspaces, and of what is kept of them.


def made(folder: Path, values: dict[str, Any], **record: Any) -> Path:
    """A workspace with nothing but settings and, if it has one, a record."""
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(as_text(values))
    if record:
        write_json(folder / workspaces.VARIANT, record)
    return folder


def test_an_ablation_without_a_record_is_not_kept_as_the_whole_method(tmp_path: Path) -> None:
    """A checkout whose params.yaml was composed by hand has none."""
    whole, bare = (compose_values(TOY + more) for more in ([], ["ablation=no_fusion"]))
    assert seeds.name_of(made(tmp_path / "whole", whole), whole) == "toy-lights@toy"
    with pytest.raises(UserError, match=r"world_model.\w+_fusion = False, .*ablation=no_fusion or no_"):
        seeds.name_of(made(tmp_path / "bare", bare), bare)
    with pytest.raises(UserError, match=r"finetune.p_mask = 0.3, but rmiov2 has 0.5"):
        Cell((*TOY, "finetune.p_mask=0.3"), 0).make()
    for agent in ("gawm", "mappo_smax", "qmix_classic", "facmac_discrete", "mag_paper"):
        refuse_unnamed(compose_values([f"agent={agent}"]))  # whose settings are the method's own


def test_a_record_of_other_settings_names_nothing(tmp_path: Path) -> None:
    """A kill between the two leaves a workspace with the record of one study and the settings of another."""
    cell = Cell((*TOY, "ablation=no_fusion"), 0)
    folder = made(tmp_path / "one", cell.values, **cell.record)
    assert seeds.name_of(folder, cell.values) == "toy-lights+no_fusion@toy"
    with pytest.raises(UserError, match="params.yaml has world_model.observation_fusion = True, expected False"):
        seeds.name_of(folder, compose_values(TOY))


def test_a_workspace_appears_with_its_record_its_commit_and_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    for words in (["init", "--quiet", str(root)], ["-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b",
                  "commit", "--quiet", "--allow-empty", "-m", "first"]):  # fmt: skip
        subprocess.run(["git", *words], check=True)
    monkeypatch.setattr(workspaces.paths, "ROOT", root)
    folder = workspaces.make(tmp_path / "made", TOY, share=False, record={"ablation": "none"})
    asked = ["git", "-C", str(root), "rev-parse", "HEAD"]
    commit = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    assert record_in(folder / workspaces.VARIANT) == {"ablation": "none", "commit": commit}
    assert yaml.safe_load((folder / "params.yaml").read_text()) == compose_values(TOY)


class Kill(BaseException):
    """Nothing after it changes a file, as after a real one."""


KILLED = {"after": -1}  # file operations; -1: never
CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "shutil.rmtree"}


def _kill(event: str, arguments: tuple[Any, ...]) -> None:
    """Python asks here before each of its file operations, and would never forget another hook."""
    if event in CHANGES and KILLED["after"] >= 0:
        if KILLED["after"] == 0:
            raise Kill
        KILLED["after"] -= 1


sys.addaudithook(_kill)


def keep_killed(texts: dict[str, bytes], target: Path, after: int) -> bool:
    """Whether so many file operations were not all."""
    KILLED["after"] = after
    try:
        workspaces.keep(texts, target)
    except Kill:
        return True
    finally:
        KILLED["after"] = -1
    return False


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("before", ["nothing", "another"])
def test_a_kill_between_any_two_file_operations_leaves_no_half_kept_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # of power cuts, and slow
    new = contents(seeds.SEEDS / "smax-3m/seed-0")
    old = new | {"learning.csv": b"env_steps,performance,lo,hi,episodes\n1,0.5,0.4,0.6,8\n", "strange.json": b"{}"}
    after, killed, seen = 0, True, set()
    while killed:
        target = tmp_path / f"{after}/smax-3m/seed-0"
        if before == "another":
            workspaces.keep(old, target)
        killed = keep_killed(new, target, after)
        found = contents(target) if target.exists() else {}
        assert found in ({}, new, old) if killed else found == new
        if len(found) not in seen:
            seen.add(len(found))
            assert sum(len(method.seeds) for method in read_kept(tmp_path / str(after))) == bool(found)
        workspaces.keep(new, target)  # which takes away what the kill has left
        assert contents(target) == new and list(target.parent.iterdir()) == [target]
        after += 1
    assert after > len(new) and seen == {0, len(new)} | ({len(old)} if before == "another" else set())


def test_rounds_in_which_the_model_learned_nothing_are_left_out_of_its_curve(tmp_path: Path) -> None:
    """The first rounds may have earned no update yet, and of a method without a model no round has one."""
    curve = tmp_path / "pretrain.csv"
    curve.write_text("env_steps,loss_policy,loss_model\n100,1.0,\n200,,3.0\n300,1.0,2.0\n")
    assert workspaces._losses(curve) == b"env_steps,loss_model\n200,3.0\n300,2.0\n"
    for text in ("env_steps,loss_policy\n100,1.0\n", "env_steps,loss_model\n100,\n"):
        curve.write_text(text)
        assert workspaces._losses(curve) == b""


def test_results_that_are_the_same_keep_the_record_of_what_made_them_first(tmp_path: Path) -> None:
    target = tmp_path / "smax-3m/seed-0"
    first = {name: b"the same" for name in workspaces.FILES} | {workspaces.VARIANT: b"first"}
    workspaces.keep(first, target)
    workspaces.keep(first | {workspaces.VARIANT: b"again", workspaces.STRESS: b"new"}, target)
    assert contents(target)["variant.json"] == b"first" and contents(target)["stress.json"] == b"new"
    workspaces.keep(first | {workspaces.VARIANT: b"again", "metrics/evaluate.json": b"other"}, target)
    assert contents(target)["variant.json"] == b"again" and "stress.json" not in contents(target)


def test_a_full_disk_leaves_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "smax-3m/seed-0"
    workspaces.keep({"metrics/evaluate.json": b"{}", "plots/finetune.csv": b"update"}, target)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="evaluate.json cannot be written: No space"):
        patch.setattr(os, "fsync", full)
        workspaces.keep({"metrics/evaluate.json": b"[]"}, target)
    assert contents(target) == {"evaluate.json": b"{}", "finetune.csv": b"update"}
    workspaces.keep({"metrics/evaluate.json": b"[]"}, target)
    assert contents(target) == {"evaluate.json": b"[]"} and list(target.parent.iterdir()) == [target]


def test_only_a_whole_cell_of_these_settings_counts_as_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells.paths, "STATE", tmp_path / "state")
    kept, cell = tmp_path / "kept", Cell((*TOY, "ablation=no_masking"), 0)
    assert cells.state_of(cell, kept) == "open"
    cell.folder.mkdir(parents=True)
    assert cells.state_of(cell, kept) == "begun"
    names = (*workspaces.FILES, workspaces.COSTS, workspaces.LOSSES, workspaces.VARIANT)
    texts = {name: b"{}" for name in names} | {workspaces.VARIANT: json.dumps(cell.record).encode()}
    for name in names:
        workspaces.keep({other: text for other, text in texts.items() if other != name}, kept / cell.label)
        assert cells.state_of(cell, kept) == "incomplete", name
    workspaces.keep(texts, kept / cell.label)
    assert cells.state_of(cell, kept) == cells.state_of(replace(cell, machine=("device=cuda",)), kept) == "kept"
    other = Cell((*TOY, "ablation=no_masking", "pretrain.segment=3"), 0)
    assert other.label == cell.label and cells.state_of(other, kept) == "kept with other settings"
    with pytest.raises(UserError, match=r"seed-0 was made with pretrain.segment = \d+, expected 3; move"):
        cells.refuse_kept_otherwise([cell, other], kept)


def test_a_setting_that_the_agent_does_not_read_makes_no_other_cell_of_it(tmp_path: Path) -> None:
    changed = "policy.entropy=0.2"
    for agent, state in (("qmix", "kept"), ("mappo", "kept with other settings")):
        cell, other = (Cell((*TOY, f"agent={agent}", *more), 0) for more in ((), (changed,)))
        names = (*workspaces.FILES, workspaces.VARIANT)
        texts = {name: b"{}" for name in names} | {workspaces.VARIANT: json.dumps(cell.record).encode()}
        workspaces.keep(texts, tmp_path / cell.label)
        assert (cells.state_of(cell, tmp_path), cells.state_of(other, tmp_path)) == ("kept", state)


def test_what_variants_are_compared_to_is_kept_with_an_episode_and_under_stress(tmp_path: Path) -> None:
    whole, part = Cell((*TOY,), 0), Cell((*TOY, "ablation=no_masking"), 0)
    assert list(whole.stages)[-1] == "stress" and "stress" not in part.stages
    names = (*workspaces.FILES, workspaces.COSTS, workspaces.LOSSES, workspaces.VARIANT)
    for cell, more in ((whole, (workspaces.SCENE, workspaces.STRESS)), (part, ())):
        record = {workspaces.VARIANT: json.dumps(cell.record).encode()}
        for missing in more:
            texts = {name: b"{}" for name in (*names, *more) if name != missing} | record
            workspaces.keep(texts, tmp_path / cell.label)
            assert cells.state_of(cell, tmp_path) == "incomplete", missing
        workspaces.keep({name: b"{}" for name in (*names, *more)} | record, tmp_path / cell.label)
        assert cells.state_of(cell, tmp_path) == "kept"


def test_other_methods_need_no_file_that_nothing_draws(tmp_path: Path) -> None:
    """Theirs were kept before the loss of the world model was, which is compared between variants alone."""
    for name in ("rmio", "rmiov2"):
        cell = Cell((f"agent={name}",), 0)
        shutil.copytree(seeds.SEEDS / cell.label, tmp_path / cell.label)
        assert cells.state_of(cell, tmp_path) == "kept"
        (tmp_path / cell.label / "pretrain.csv").unlink(missing_ok=True)
        assert cells.state_of(cell, tmp_path) == ("kept" if name == "rmio" else "incomplete")
