"""The page of all that is kept: every task, its methods and variants, and what of the paper is reproduced.

It needs no run: whoever has docs/seeds, draws the same page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from rmiov2.reporting.attention_figure import above_even
from rmiov2.reporting.files import write_bytes
from rmiov2.reporting.fusion_cost import Fusions, Modules, cost_said, fusion_chapters, read_fusions
from rmiov2.reporting.html import Chapter, Front, present, render
from rmiov2.reporting.kept import Benched, Method, read_kept, read_times, task_of
from rmiov2.reporting.methods import Estimate, area, decided, estimate_said, over_seeds, own_answer, performance
from rmiov2.reporting.methods_figure import methods_pictures
from rmiov2.reporting.methods_summary import summary
from rmiov2.reporting.methods_table import INTERVALS, methods_tables, verdict
from rmiov2.reporting.page import STRESS_NOTE, episode_pictures, family_chapters
from rmiov2.reporting.results import COMPLETION_KEYS, read_scene
from rmiov2.reporting.stress_figure import stress_pictures, stress_table
from rmiov2.reporting.stress_seeds import over_the_seeds
from rmiov2.reporting.style import styled
from rmiov2.reporting.sweeps import read_sweeps, sweeps_said
from rmiov2.reporting.tables import ABSENT, Cell, Row, Table, words_cell
from rmiov2.reporting.terms import terms
from rmiov2.reporting.variants import Family, Verdict, claims, family, judged, of_bounds
from rmiov2.reporting.variants_table import SIMULATORS, whole_and_variants
from rmiov2.reporting.words import WHOLE, count
from rmiov2.types import UserError

OVERVIEW_NOTE = (
    "The table counts the findings that are confirmed, not confirmed, or undecided at this size, among those that were"
    " run; the chapters on each task judge them one by one, each with its interval. A dash: not run. The paper prints"
    " no numbers for figures 7 to 11, and its appendix D is not public."
)
SUMMARY_NOTE = (
    "Each method plays with its own answer to a lost observation after masked fine-tuning; numbers are means over its"
    " seeds, with the 95 % intervals that the chapters on each task explain. Steps: environment steps of pre-training"
    " and masked fine-tuning on each task, as multiples of the first row’s. A dash: not kept."
)
# Of family_chapters' two, as this page, which is all of what is reproduced, calls them.
PARTS = (("parts", "what each part is worth"), ("paper", "compared with the paper’s numbers"))
VERDICTS: Mapping[Verdict, str] = {
    "confirmed": "confirmed", "not confirmed": "not confirmed", "undecided at this size": "undecided",
}  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """All that is kept of a task at one scale: the method that the page is about first, and its variants.

    family: None without variants. fusions: what they cost, None where that was not counted.
    """

    methods: tuple[Method, ...]
    family: Family | None
    fusions: Modules | None = None

    @property
    def own(self) -> Method:
        """The method that the page is about."""
        return self.methods[0]

    @property
    def env(self) -> str:
        """Its name."""
        return str(self.own.seeds[0].evaluate["env"])

    @property
    def scale(self) -> str:
        """The preset, or the list of experiments, of all of it."""
        return self.own.scale

    @property
    def scenes(self) -> list[Path]:
        """The episodes that were kept with its seeds."""
        return [seed.scene for seed in self.own.seeds if seed.scene is not None]

    @property
    def slug(self) -> str:
        """For anchors and names of files."""
        return f"{self.env}-{self.scale}".replace("/", "-").replace(" ", "-")


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
            overview(tasks, read_sweeps(kept)),
            *at_a_glance(tasks),
            *(c for task in tasks for c in chapters_of(task, times)),
            *fusion_chapters(fusions),
        ]
    write_bytes(page, render(front_of(tasks), chapters).encode())
    return page


def read_tasks(kept: Path, agent: str, fusions: Fusions) -> Iterator[Kept]:
    """Every task of which whole seeds of the method are kept, battles first."""
    for _, group in groupby(sorted(read_kept(kept), key=task_of), key=task_of):
        methods = list(group)
        own, parts = whole_and_variants([method for method in methods if method.agent == agent])
        if own is not None:
            others = [method for method in methods if method.ablation == WHOLE and method is not own]
            task = Kept((own, *others), family(own, parts))
            yield replace(task, fusions=fusions.get((task.env, task.scale)))


def front_of(tasks: Sequence[Kept]) -> Front:
    """How much there is, and that the simulator is another one."""
    methods = {method.agent for task in tasks for method in task.methods}
    variants = sum(len(task.family.variants) for task in tasks if task.family)
    teams = sum(len(m.seeds) for t in tasks for m in (*t.methods, *(t.family.variants if t.family else ())))
    names = ", ".join(task.env for task in tasks)
    suites = dict.fromkeys(task.env.partition("/")[0] for task in tasks)
    others = ". ".join(SIMULATORS[suite] for suite in suites if suite in SIMULATORS)
    headline = (
        f"{others}. {count(len(methods))} methods and {count(variants)} variants of {tasks[0].own.agent} on {names}:"
        f" {count(teams)} teams, each trained, fine-tuned on masked observations, and evaluated over p_loss."
    )
    own = tasks[0].own
    source = "docs/seeds alone, by `python -m pipelines.paper --page`"
    return Front(f"{own.agent} and the paper", "What we reproduce", headline, terms(own.seeds[0].evaluate), source)


def overview(tasks: Sequence[Kept], sweeps: Sequence[Mapping[str, Any]] = ()) -> Chapter:
    """Every experiment of the paper, and how it stands on each task; sweeps: the runs that made it."""
    head = ("experiment", "the paper finds", *(f"{task.env}, {task.scale}" for task in tasks))
    rows = tuple(Row(name, (words_cell(finding), *(of(task) for task in tasks))) for name, finding, of in EXPERIMENTS)
    table = Table("On each task", head, rows, words=True)
    lead = tuple(said for said in [sweeps_said(sweeps)] if said)
    return Chapter("overview", "The paper’s experiments", (), lead, (table,), OVERVIEW_NOTE)


def at_a_glance(tasks: Sequence[Kept]) -> list[Chapter]:
    """What every method reaches on every task; none where the method stands alone."""
    if all(len(task.methods) == 1 for task in tasks):
        return []
    table = summary([task.methods for task in tasks], tasks[0].own.agent)
    return [Chapter("summary", "Every method at a glance", (), (), (table,), SUMMARY_NOTE)]


def _against(measure: Callable[[Method], Estimate]) -> Callable[[Kept], Cell]:
    """How many of the other methods it is ahead of, behind, and undecided with."""

    def cell(task: Kept) -> Cell:
        mine, others = measure(task.own), [measure(method) for method in task.methods[1:]]
        if not others:
            return ABSENT
        sure = [found for found in others if decided(found, mine)]
        behind = sum(found.mean > mine.mean for found in sure)
        open_ = len(others) - len(sure)
        return words_cell(f"ahead of {len(sure) - behind}, behind {behind}, undecided with {open_}")

    return cell


def _judged(place: str) -> Callable[[Kept], Cell]:
    """How many of the findings are confirmed, not confirmed and undecided."""

    def cell(task: Kept) -> Cell:
        if task.family is None:
            return ABSENT
        found = [judged(c, task.family) for c in claims(task.family) if c.place == place]
        times = Counter(verdict for pair, verdict in found if pair is not None)
        said = [f"{times[verdict]} {word}" for verdict, word in VERDICTS.items() if times[verdict]]
        return words_cell(", ".join(said)) if said else ABSENT

    return cell


def _drawn(name: str) -> Callable[[Kept], Cell]:
    def cell(task: Kept) -> Cell:
        return words_cell("drawn") if name in drawable(task) else ABSENT

    return cell


def _attention(task: Kept) -> Cell:
    """Whether attention moves to who sees, over one episode of each seed."""
    paid = [above_even(read_scene(path, COMPLETION_KEYS)) for path in task.scenes]
    if not (known := [value for value in paid if value is not None]):
        return ABSENT
    found = over_seeds(known, [0.0] * len(known))
    return words_cell(f"{VERDICTS[of_bounds(found, more=True)]}: by {estimate_said(found, 2)}")


def _cost(task: Kept) -> Cell:
    return ABSENT if task.fusions is None else words_cell(cost_said(task.fusions))


def drawable(task: Kept) -> set[str]:
    """Which of the figures without a finding that could be judged have something to be drawn of."""
    errors = sum(any(seed.l_rec is not None for seed in method.seeds) for method in task.methods)
    parts = task.family.named if task.family else {}
    moments = [name for name, method in parts.items() if any(seed.moment is not None for seed in method.seeds)]
    has = {
        "l_rec": errors > 1,
        "moments": WHOLE in moments and len(moments) > 1,
        "scene": bool(task.scenes),
        "stress": any(seed.stress is not None for seed in task.own.seeds),
    }
    return {name for name, there in has.items() if there}


EXPERIMENTS: tuple[tuple[str, str, Callable[[Kept], Cell]], ...] = (
    ("figure 7", "RMIOv2 plays best with full sight", _against(lambda m: performance(m, own_answer(m), 0))),
    ("figure 8", "RMIOv2 plays best under observation loss: AUC", _against(lambda m: area(m, own_answer(m)))),
    ("figure 9", "L_rec of RMIOv2 falls faster than that of RMIO", _drawn("l_rec")),
    ("figure 10", "fusion and reward trend lower the world model’s loss", _judged("figure 10")),
    ("figure 11", "fusion and reward trend raise performance", _judged("figure 11")),
    ("figure 12, table 1", "whole > no observation fusion > no action fusion > no fusion", _judged("table 1")),
    ("figure 13", "without a fusion, reconstructions are further off", _drawn("moments")),
    ("figure 14, table 2", "AUC rises with p_mask up to 0.5", _judged("table 2")),
    ("appendix E.1", "blind agents attend to agents that see, more than an even share", _attention),
    ("appendix E.2", "the reward window at work", _drawn("scene")),
    ("beyond the paper", "bursts, one agent gone, the whole team blind, other lengths of memory", _drawn("stress")),
    ("appendix D", "what the two fusions cost", _cost),
)


def chapters_of(task: Kept, times: Benched) -> list[Chapter]:
    """Its methods, what each part is worth, ours beside the paper's numbers, and an episode."""
    evaluate = task.own.seeds[0].evaluate
    pictures = present(methods_pictures(task.methods, evaluate)) if len(task.methods) > 1 else ()
    lead = tuple(verdict(task.methods, task.own.agent))
    tables = methods_tables(task.methods, times)
    methods = Chapter("methods", "every method (figures 7 to 9)", pictures, lead, tables, INTERVALS)
    parts = [
        replace(chapter, anchor=anchor, heading=heading)
        for chapter, (anchor, heading) in zip(family_chapters(task.family) if task.family else (), PARTS, strict=False)
    ]
    scene = [read_scene(path, COMPLETION_KEYS) for path in task.scenes[:1]]
    episode = [Chapter("episode", "one episode (figure 13, appendix E)", episode_pictures(found)) for found in scene]
    return [_of_task(task, chapter) for chapter in (methods, *unmet(task.own), *parts, *episode)]


def unmet(own: Method) -> list[Chapter]:
    """The method under loss that it was not trained on, over those of its seeds of which that was kept."""
    found = [seed.stress for seed in own.seeds if seed.stress is not None]
    if not found:
        return []
    stress = over_the_seeds(found)
    heading = "observation loss not seen in training"
    return [Chapter("stress", heading, present(stress_pictures(stress)), (), stress_table(stress), STRESS_NOTE)]


def _of_task(task: Kept, chapter: Chapter) -> Chapter:
    """The chapter under names that no other task has."""
    pictures = tuple(
        replace(p, name=f"{task.slug}-{p.name}", data_name=f"{task.slug}-{p.data_name}") for p in chapter.pictures
    )
    anchor, heading = f"{task.slug}-{chapter.anchor}", f"{task.env}: {chapter.heading}"
    return replace(chapter, anchor=anchor, heading=heading, pictures=pictures)
