"""The page of all that is kept: every task, its methods and variants, and what of the paper is reproduced.

It needs no run: whoever has docs/seeds, draws the same page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rmiov2.files import write_bytes
from rmiov2.reporting.html import Chapter, Front, present, render
from rmiov2.reporting.kept import Benched, Method, by_task, read_kept, read_times
from rmiov2.reporting.methods.figures import methods_pictures
from rmiov2.reporting.methods.standings import glance, verdict
from rmiov2.reporting.methods.summary import summary
from rmiov2.reporting.methods.table import INTERVALS, methods_tables
from rmiov2.reporting.pages.experiments import EXPERIMENTS, OVERVIEW_NOTE, Kept
from rmiov2.reporting.pages.fusion_cost import Fusions, fusion_chapters, read_fusions
from rmiov2.reporting.pages.run import episode_pictures, family_chapters, stress_chapter
from rmiov2.reporting.pages.sweeps import read_sweeps, sweeps_said
from rmiov2.reporting.pages.terms import terms
from rmiov2.reporting.run.results import COMPLETION_KEYS, read_scene
from rmiov2.reporting.stress.seeds import over_the_seeds
from rmiov2.reporting.style import styled
from rmiov2.reporting.tables import Row, Table, words_cell
from rmiov2.reporting.variants.table import SIMULATORS, whole_and_variants
from rmiov2.reporting.variants.worth import family
from rmiov2.reporting.words import WHOLE, count
from rmiov2.types import UserError

SUMMARY_NOTE = (
    "Each method plays with its own answer to a lost observation after masked fine-tuning; numbers are means over its"
    " seeds, with the 95 % intervals that the chapters on each task explain. Steps: environment steps of pre-training"
    " and masked fine-tuning on each task, as multiples of the first row’s. A dash: not kept."
)
# Of family_chapters' two, as this page, which is all of what is reproduced, calls them.
PARTS = (("parts", "what each part is worth"), ("paper", "compared with the paper’s numbers"))


def build_paper(kept: Path, agent: str, page: Path) -> Path:
    """Draw the page of what lies in the folder kept about the method agent; the path of the page.

    The same files give the same bytes. Raises UserError where no seed of the method is kept.
    """
    fusions, times = read_fusions(kept), read_times(kept)
    tasks = list(read_tasks(kept, agent, fusions))
    if not tasks:
        raise UserError(f"{kept} has no seed of {agent}, expected one at least; `python -m pipelines.paper` makes them")
    with styled():
        chapters = [
            *at_a_glance(tasks),
            overview(tasks, read_sweeps(kept)),
            *(c for task in tasks for c in chapters_of(task, times)),
            *fusion_chapters(fusions),
        ]
    write_bytes(page, render(front_of(tasks), chapters).encode())
    return page


def read_tasks(kept: Path, agent: str, fusions: Fusions) -> Iterator[Kept]:
    """Every task of which whole seeds of the method are kept, battles first."""
    for methods in by_task(read_kept(kept)):
        own, parts = whole_and_variants([method for method in methods if method.agent == agent])
        if own is not None:
            others = [method for method in methods if method.ablation == WHOLE and method is not own]
            task = Kept((own, *others), family(own, parts))
            yield replace(task, fusions=fusions.get((task.env, task.scale)))


def front_of(tasks: Sequence[Kept]) -> Front:
    """How much there is, and that the simulator is another one."""
    methods = {method.agent for task in tasks for method in task.methods}
    variants = sum(len(task.family.variants) for task in tasks if task.family)
    names = ", ".join(task.env for task in tasks)
    suites = dict.fromkeys(task.env.partition("/")[0] for task in tasks)
    others = ". ".join(SIMULATORS[suite] for suite in suites if suite in SIMULATORS)
    headline = (
        f"{others}. {count(len(methods))} methods and {count(variants)} variants of {tasks[0].own.agent} on {names}:"
        f" {count(teams_of(tasks))} teams, each trained, fine-tuned on masked observations, and evaluated over p_loss."
    )
    own = tasks[0].own
    source = "docs/seeds alone, by `python -m pipelines.paper --page`"
    return Front(f"{own.agent} and the paper", "What we reproduce", headline, terms(own.evaluate), source)


def teams_of(tasks: Sequence[Kept]) -> int:
    """How many teams there are, variants among them."""
    return sum(len(m.seeds) for t in tasks for m in (*t.methods, *(t.family.variants if t.family else ())))


def overview(tasks: Sequence[Kept], sweeps: Sequence[Mapping[str, Any]] = ()) -> Chapter:
    """Every experiment of the paper, and how it stands on each task; sweeps: the runs that made it."""
    head = ("experiment", "the paper finds", *(f"{task.env}, {task.scale}" for task in tasks))
    rows = tuple(Row(name, (words_cell(finding), *(of(task) for task in tasks))) for name, finding, of in EXPERIMENTS)
    table = Table("On each task", head, rows, words=True)
    lead = tuple(said for said in [sweeps_said(sweeps, teams_of(tasks))] if said)
    return Chapter("overview", "The paper’s experiments", (), lead, (table,), OVERVIEW_NOTE)


def at_a_glance(tasks: Sequence[Kept]) -> list[Chapter]:
    """What every method reaches on every task; none where the method stands alone."""
    if all(len(task.methods) == 1 for task in tasks):
        return []
    agent = tasks[0].own.agent
    lead = tuple(said for task in tasks if (said := glance(task.methods, agent)))
    table = summary([task.methods for task in tasks], agent)
    return [Chapter("summary", "Every method at a glance", (), lead, (table,), SUMMARY_NOTE)]


def chapters_of(task: Kept, times: Benched) -> list[Chapter]:
    """Its methods, what each part is worth, ours beside the paper's numbers, and an episode."""
    pictures = present(methods_pictures(task.methods, task.own.evaluate))
    lead = tuple(verdict(task.methods, task.own.agent))
    tables = methods_tables(task.methods, times)
    methods = Chapter("methods", "every method (figures 7 to 9)", pictures, lead, tables, INTERVALS)
    parts = [
        replace(chapter, anchor=anchor, heading=heading)
        for chapter, (anchor, heading) in zip(family_chapters(task.family) if task.family else (), PARTS, strict=False)
    ]
    return [_of_task(task, chapter) for chapter in (methods, *unmet(task.own), *parts, *episode_of(task.own))]


def episode_of(own: Method) -> list[Chapter]:
    """An episode whole, of the first of its seeds of which one is kept."""
    for seed in own.seeds:
        if seed.scene is not None:
            pictures = episode_pictures(read_scene(seed.scene, COMPLETION_KEYS))
            lead = f"Training seed {seed.name}, the first of which an episode is kept; another may look different."
            return [Chapter("episode", "one episode (figure 13, appendix E)", pictures, (lead,))]
    return []


def unmet(own: Method) -> list[Chapter]:
    """The method under loss that it was not trained on, over those of its seeds of which that was kept."""
    found = [(seed.seed, seed.stress) for seed in own.seeds if seed.stress is not None]
    return [stress_chapter(over_the_seeds(found), "observation loss not seen in training")] if found else []


def _of_task(task: Kept, chapter: Chapter) -> Chapter:
    """The chapter under names that no other task has."""
    pictures = tuple(replace(picture, name=f"{task.slug}-{picture.name}") for picture in chapter.pictures)
    anchor, heading = f"{task.slug}-{chapter.anchor}", f"{task.env}: {chapter.heading}"
    return replace(chapter, anchor=anchor, heading=heading, pictures=pictures)
