"""The variants in a table, the paper's findings row by row, and the paper's numbers beside ours (tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from rmiov2.reporting.kept import Method, read_kept, task_of
from rmiov2.reporting.tables import ABSENT, Cell, Row, Table, estimate_cell, markdown, words_cell
from rmiov2.reporting.variants import (
    CLAIMS,
    HALF,
    A,
    B,
    C,
    Claim,
    Family,
    Paired,
    claims,
    estimate,
    family,
    inert_trend,
    judged,
    measured,
    paired,
    rates,
    same_test,
    same_windows,
)
from rmiov2.reporting.words import (
    NARROW_SPACE,
    WHOLE,
    count,
    decimals_of,
    duration,
    measure_name,
    number,
    part_name,
)
from rmiov2.types import UserError

VARIANTS_NOTE = (
    "AUC and performance are those of the team’s own answer to a lost observation after masked fine-tuning; L_rec is"
    " that of lost observations, on games that each team plays with its own policy. Brackets are 95 % intervals:"
    " Student’s t over the seeds (for a difference, over the seeds that both teams have) or, for AUC and performance,"
    " the uncertainty from the luck of the episodes alone where that is wider; a single seed has none. A finding is"
    " confirmed if the whole interval lies on its side of zero, not confirmed if it lies on the other side, and"
    " undecided at this size if it contains zero. No difference is given for a variant that was evaluated differently"
    f" from the whole method, nor for L_rec over windows of another length. {len(CLAIMS)} findings and one difference"
    " for each variant are tested at 95 % each, so on every task about one in twenty may show an effect that is not"
    " there."
)
PRINTED_NOTE = "The paper’s AUC is divided by 100. A dash: not run here."
STAGES_TIMED = ("pretrain", "finetune")
MAPS = ("2s3z", "3s_vs_5z", "1c3s5z", "corridor")
# RMIOv2, tables 1 and 2: AUC in per cent and L_rec on each of MAPS. The paper's whole method is HALF, p_mask 0.5.
WHOLE_PRINTED = ((93.8, 0.071), (68.8, 0.073), (86.6, 0.443), (61.3, 0.871))
PRINTED = {
    WHOLE: WHOLE_PRINTED,
    A: ((84.3, 0.174), (31.4, 0.193), (80.5, 1.062), (37.5, 1.657)),
    B: ((68.1, 0.151), (32.0, 0.125), (42.3, 0.785), (28.2, 1.453)),
    C: ((8.1, 0.254), (7.3, 0.246), (13.9, 1.534), (6.7, 2.032)),
    "no_masking": ((27.9, 8.76), (10.3, 4.96), (25.4, 15.4), (14.3, 6.39)),
    "p_mask_0.125": ((54.9, 0.136), (30.1, 0.133), (36.2, 0.576), (20.3, 1.032)),
    "p_mask_0.25": ((81.7, 0.102), (53.3, 0.106), (77.9, 0.505), (45.1, 0.982)),
    "p_mask_0.375": ((90.6, 0.091), (65.4, 0.095), (85.4, 0.462), (58.5, 0.892)),
    HALF: WHOLE_PRINTED,
    "p_mask_0.75": ((92.4, 0.079), (69.0, 0.081), (81.3, 0.485), (51.7, 0.961)),
}
SIMULATORS = {
    "smax": "SMAX is not StarCraft II: it has SMAC’s units and maps, but another engine and another enemy",
    "mamujoco": "The robots are those of Gymnasium-Robotics, which are newer versions than the paper’s",
}


def variants_table(found: Family) -> Table:
    """A row for the whole method and for each variant."""
    first = found.whole.seeds[0].evaluate
    digits = _decimals(found)
    head = (
        *("part", "seeds", "AUC", "AUC by seed", "AUC minus the whole method’s"),
        *("L_rec", "L_rec minus the whole method’s", "nothing lost", "AUC, true mask", "settings changed"),
    )
    rows = tuple(Row(part_name(m.ablation), tuple(_cells(m, found, digits))) for m in (found.whole, *found.variants))
    caption = f"Variants of {found.whole.agent} on {first['env']}, {found.whole.scale}: {measure_name(first)}"
    return Table(caption, head, rows)


def _decimals(found: Family) -> int:
    return max(decimals_of(seed.evaluate) for method in found.named.values() for seed in method.seeds)


def _cells(method: Method, found: Family, digits: int) -> Iterator[Cell]:
    alone = method is found.whole or not same_test(method)
    yield words_cell(str(len(method.seeds)))
    yield estimate_cell(estimate(method, "AUC"), digits)
    yield words_cell(", ".join(number(value, digits) for value, _ in measured(method, "AUC")))
    yield ABSENT if alone else _difference(paired(method, found.whole, "AUC"), digits)
    yield estimate_cell(estimate(method, "L_rec"), digits + 1)
    yield ABSENT if alone or not same_windows(method) else _difference(paired(method, found.whole, "L_rec"), digits + 1)
    yield estimate_cell(estimate(method, "performance with nothing lost"), digits)
    yield estimate_cell(estimate(method, "AUC, true availability"), digits)
    yield words_cell(", ".join(f"{key} = {value}" for key, value in method.changes.items()))


def _difference(found: Paired | None, digits: int) -> Cell:
    return estimate_cell(None if found is None else found.estimate, digits + 1)


def findings_table(found: Family) -> Table:
    """What the paper found, a row each, whether it is so here, and by how much; those that were not run say so."""
    digits = _decimals(found)
    first = found.whole.seeds[0].evaluate
    head = ("the paper’s finding", "here", "difference", "by seed")
    rows = tuple(Row(said(claim), tuple(_finding(claim, found, digits))) for claim in claims(found))
    return Table(f"The paper’s findings on {first['env']}, {found.whole.scale}", head, rows, words=True)


def said(claim: Claim) -> str:
    """A finding in words, and the paper's own maps on which its numbers say the opposite."""
    relation = "above" if claim.more else "below"
    told = f"{claim.place}, {claim.measure}: {part_name(claim.better)} {relation} {part_name(claim.worse)}"
    against = contrary(claim)
    return f"{told} (in the paper, not on {', '.join(against)})" if against else told


def contrary(claim: Claim) -> list[str]:
    """The maps of tables 1 and 2 on which the paper printed the opposite."""
    if not claim.place.startswith("table"):
        return []
    column = ("AUC", "L_rec").index(claim.measure)
    both = zip(MAPS, PRINTED[claim.better], PRINTED[claim.worse], strict=True)
    return [name for name, better, worse in both if (better[column] > worse[column]) != claim.more]


def _finding(claim: Claim, found: Family, digits: int) -> Iterator[Cell]:
    pair, verdict = judged(claim, found)
    yield words_cell("equal in every seed" if pair and not any(pair.values) else verdict)
    yield _difference(pair, digits)
    yield words_cell(", ".join(number(value, digits + 1) for value in pair.values) if pair else "")


def reproduced_table(found: Family) -> Table:
    """Ours beside the paper's tables 1 and 2."""
    first, digits = found.whole.seeds[0].evaluate, _decimals(found)
    head = ("part", "seeds", "AUC here", "L_rec here", *(f"{name}, paper: AUC / L_rec" for name in MAPS))
    masked = rates(found)
    names = [name for name in PRINTED if name != HALF or name in masked]
    rows = tuple(Row(_rated(name, masked), tuple(_beside(name, found, digits))) for name in names)
    return Table(f"Our results on {first['env']} and the paper’s tables 1 and 2", head, rows)


def _rated(ablation: str, masked: Mapping[str, float]) -> str:
    told = ablation in masked and not ablation.startswith("p_mask")
    return part_name(ablation) + (f", p_mask {masked[ablation]:g}" if told else "")


def _beside(name: str, found: Family, digits: int) -> Iterator[Cell]:
    method = found.named.get(name)
    yield words_cell(str(len(method.seeds)) if method else "")
    yield estimate_cell(estimate(method, "AUC") if method else None, digits)
    yield estimate_cell(estimate(method, "L_rec") if method else None, digits + 1)
    for area, error in PRINTED[name]:
        yield words_cell(f"{area / 100:.3f} / {error:g}")


def what_differs(found: Family) -> tuple[str, ...]:
    """In sentences: the simulator first, then size, seeds and steps, and what of the method is ours."""
    whole, first = found.whole, found.whole.seeds[0]
    suite = first.evaluate["env"].partition("/")[0]
    simulator = SIMULATORS.get(suite, f"The paper has no experiments on {suite}")
    seeds = ", ".join(seed.name for seed in whole.seeds)
    size = (
        f"Here: preset {first.pretrain['preset']}{_of_list(whole)}; seeds {seeds} of the whole method;"
        f" {count(first.pretrain['env_steps'])} environment steps, {count(first.finetune['updates'])} masked updates,"
        f" {count(first.evaluate['episodes'])} episodes per point. {took(found)}"
    )
    paper = (
        "The paper: three seeds, 15,000 to 50,000 masked updates, 1,000 episodes per point; its hyper-parameters are"
        " not public, and it does not say whether a blind agent knows which actions are legal: here it does not."
    )
    own = (
        "Every preset except paper switches on additions of ours; a variant without an addition shows what it is worth,"
        " where that variant was run. L_rec is on the scale of each simulator’s observations (on robots, in their"
        " standard deviations) and is measured on games of each team’s own policy."
    )
    inert = (INERT,) if inert_trend(found) else ()
    made = (*made_by(found), *made_on(found))
    return (f"{simulator}. So absolute numbers are not comparable; trends may be.", size, paper, own, *inert, *made)


INERT = (
    "The reward trend: no step of these battles pays enough to open a window of eq. (11), so the whole method’s rewards"
    " are the task’s own, and removing the trend would change nothing. The variant that normalises the variance, so"
    " that windows open, shows what the trend is worth then."
)


def made_by(found: Family) -> tuple[str, ...]:
    """Which code made all of it, as far as that was recorded; nothing where no commit was."""
    commits = sorted({commit[:10] for method in found.named.values() for commit in method.commits})
    code = {digest for method in found.named.values() for digest in method.code}
    if not commits:
        return ()
    named = f"Made at {'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)} of the code"
    if "" in code:
        return (f"{named}, and some of it before versions were recorded: differences may also be due to the code.",)
    if len(code) > 1:
        return (f"{named}, in {len(code)} versions of what was run: differences may also be due to the code.",)
    alike = "which are one version of what was run, or reproduce the committed run’s team to the byte"
    return (f"{named}, {alike}.",) if len(commits) > 1 else (f"{named}.",)


def made_on(found: Family) -> tuple[str, ...]:
    """That processors differ, and which variants have no pair for it; nothing where all of them were alike."""
    known = {seed.processor for method in found.named.values() for seed in method.seeds}
    if len(known) < 2:
        return ()
    pairs = {seed.pair for seed in found.whole.seeds}
    alone = [part_name(m.ablation) for m in found.variants if pairs.isdisjoint(seed.pair for seed in m.seeds)]
    names = " and ".join(name or "a processor that was not recorded" for name in sorted(known, reverse=True))
    told = f" These variants have no such pair with the whole method: {', '.join(alone)}." if alone else ""
    return (
        f"Trained on {names}, which round differently, so that the same seed yields another team on each: differences"
        f" are between teams with the same seed and the same processor.{told}",
    )


def took(found: Family) -> str:
    """How long all of it was trained, where, and how much of that was shared."""
    seeds = [seed for method in found.named.values() for seed in method.seeds]
    # What is shared was restored to the byte, so that its record is equal.
    runs = [{str(getattr(seed, stage)): getattr(seed, stage) for seed in seeds} for stage in STAGES_TIMED]
    before, after = (sum(run["wall_s"] for run in of_stage.values()) for of_stage in runs)
    where = sorted({str(seed.finetune.get("device", "cpu")) for seed in seeds})
    return (
        f"Training the whole method and {len(found.variants)} variants, {len(seeds)} teams on {' and '.join(where)},"
        f" took {duration(before)} in {len(runs[0])} pre-trainings and {duration(after)} in {len(runs[1])} fine-tunings"
        ", not counting collection and evaluation; teams that do not differ in a stage share it."
    )


def _of_list(whole: Method) -> str:
    preset = whole.seeds[0].pretrain["preset"]
    return "" if whole.scale == preset else f", the list {whole.scale}"


def variants_markdown(kept: Path, agent: str) -> str:
    """What each part is worth, of every task and scale of which variants of the agent are kept."""
    methods = [method for method in read_kept(kept) if method.agent == agent]
    parts = []
    for _, group in groupby(sorted(methods, key=task_of), key=task_of):
        whole, variants = whole_and_variants(list(group))
        if variants and whole is None:
            absent = variants[0]
            parts.append(f"For {absent.seeds[0].evaluate['env']}, {absent.scale}, the whole method is not kept.")
        found = family(whole, variants) if whole else None
        if found is None:
            continue
        tables = [findings_table(found), variants_table(found)]
        if found.whole.seeds[0].evaluate["measure"] == "win_rate":
            tables.append(reproduced_table(found))
        parts += [*what_differs(found), *map(markdown, tables)]
    text = "\n\n".join([*parts, VARIANTS_NOTE] if parts else [NOTHING])
    return text.replace(NARROW_SPACE, ",")


NOTHING = "No variant is kept yet: `.venv/bin/python -m pipelines.paper` makes them."


def whole_and_variants(methods: Sequence[Method]) -> tuple[Method | None, list[Method]]:
    """Of one method's studies on one task; None without the whole one. Raises UserError for two of them."""
    whole = [method for method in methods if method.ablation == WHOLE]
    if len(whole) > 1:
        env = whole[0].seeds[0].evaluate["env"]
        raise UserError(f"docs/seeds has {len(whole)} whole methods on {env}, {whole[0].scale}; leave one there")
    return whole[0] if whole else None, [method for method in methods if method.ablation != WHOLE]
