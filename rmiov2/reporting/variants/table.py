"""The variants in a table, and in words how far they can be compared with the paper's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rmiov2.reporting.estimates import holm
from rmiov2.reporting.kept import Method, by_task, read_kept
from rmiov2.reporting.methods.measures import own_auc
from rmiov2.reporting.methods.reached import decimals, numbers, sample
from rmiov2.reporting.tables import Cell, Row, Table, estimate_cell, markdown, values_cell, words_cell
from rmiov2.reporting.variants.findings import difference_cell, findings_table, p_cell, reproduced_table
from rmiov2.reporting.variants.worth import (
    CLAIMS,
    Family,
    Paired,
    estimate,
    family,
    inert_trend,
    less_whole,
)
from rmiov2.reporting.words import (
    NARROW_SPACE,
    WHOLE,
    count,
    duration,
    measure_name,
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
    " in AUC for each variant are tested at 95 % each, so on every task about one in twenty may show an effect that is"
    " not there; Holm’s p-value is corrected for all those tested in its column. All of this trusts that differences"
    " are spread normally: a test that does not, that of signs, gives three pairs no p-value below 0.25."
)
STAGES_TIMED = ("pretrain", "finetune")
SIMULATORS = {
    "smax": "SMAX is not StarCraft II: it has SMAC’s units and maps, but another engine and another enemy",
    "mamujoco": "The robots are those of Gymnasium-Robotics, which are newer versions than the paper’s",
}


def variants_table(found: Family) -> Table:
    """A row for the whole method and for each variant."""
    first = found.whole.evaluate
    digits = decimals(found.named.values())
    head = (
        *("part", "seeds", "AUC", "AUC by seed", "AUC minus the whole method’s", "p by Holm"),
        *("L_rec", "L_rec minus the whole method’s", "nothing lost", "AUC, true mask", "settings changed"),
    )
    apart = {m.ablation: less_whole(m, found, "AUC") for m in found.variants}
    adjusted = holm({name: pair.estimate for name, pair in apart.items() if pair})
    rows = [
        Row(name, tuple(_cells(m, found, apart.get(m.ablation), adjusted.get(m.ablation), digits)))
        for name, m in _rows(found)
    ]
    caption = f"Variants of {found.whole.agent} on {first['env']}, {found.whole.scale}: {measure_name(first)}"
    return Table(caption, head, tuple(rows))


def _rows(found: Family) -> Iterator[tuple[str, Method]]:
    """The whole method, also by processor, as variants are paired with that of one; then every variant."""
    name, processors = part_name(WHOLE), sorted({seed.processor for seed in found.whole.seeds})
    yield name, found.whole
    for processor in processors if len(processors) > 1 else ():
        teams = tuple(seed for seed in found.whole.seeds if seed.processor == processor)
        yield f"{name}, {processor or 'processor not recorded'}", replace(found.whole, seeds=teams)
    yield from ((part_name(method.ablation), method) for method in found.variants)


def _cells(method: Method, found: Family, apart: Paired | None, adjusted: float | None, digits: int) -> Iterator[Cell]:
    """apart: its AUC less the whole method's."""
    yield words_cell(str(len(set(numbers(method)))))
    yield estimate_cell(estimate(method, "AUC"), digits)
    yield values_cell(sample(method, own_auc).values, digits)
    yield difference_cell(apart, digits)
    yield p_cell(adjusted)
    yield estimate_cell(estimate(method, "L_rec"), digits + 1)
    yield difference_cell(less_whole(method, found, "L_rec") if method.ablation != WHOLE else None, digits + 1)
    yield estimate_cell(estimate(method, "performance with nothing lost"), digits)
    yield estimate_cell(estimate(method, "AUC, true availability"), digits)
    yield words_cell(", ".join(f"{key} = {value}" for key, value in method.changes.items()))


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
    unknown = "; those without a record are taken to be of one" if "" in known else ""
    told = f" These variants have no such pair with the whole method: {', '.join(alone)}." if alone else ""
    return (
        f"Trained on {names}, which round differently, so that the same seed yields another team on each: differences"
        f" are between teams with the same seed and the same processor{unknown}.{told}",
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
    parts = []
    for group in by_task(method for method in read_kept(kept) if method.agent == agent):
        whole, variants = whole_and_variants(group)
        if variants and whole is None:
            absent = variants[0]
            parts.append(f"For {absent.evaluate['env']}, {absent.scale}, the whole method is not kept.")
        found = family(whole, variants) if whole else None
        if found is None:
            continue
        tables = [findings_table(found), variants_table(found)]
        if found.whole.evaluate["measure"] == "win_rate":
            tables.append(reproduced_table(found))
        parts += [*what_differs(found), *map(markdown, tables)]
    text = "\n\n".join([*parts, VARIANTS_NOTE] if parts else [NOTHING])
    return text.replace(NARROW_SPACE, ",")


NOTHING = "No variant is kept yet: `.venv/bin/python -m pipelines.paper` makes them."


def whole_and_variants(methods: Sequence[Method]) -> tuple[Method | None, list[Method]]:
    """Of one method's studies on one task; None without the whole one. Raises UserError for two of them."""
    whole = [method for method in methods if method.ablation == WHOLE]
    if len(whole) > 1:
        env = whole[0].evaluate["env"]
        raise UserError(f"docs/seeds has {len(whole)} whole methods on {env}, {whole[0].scale}; leave one there")
    return whole[0] if whole else None, [method for method in methods if method.ablation != WHOLE]
