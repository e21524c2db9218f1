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

from rmiov2.reporting import scene_figures
from rmiov2.reporting.attention_figure import attention_picture
from rmiov2.reporting.files import write_bytes
from rmiov2.reporting.html import Chapter, Front, present, render
from rmiov2.reporting.kept import SCENE, Method, Times, read_kept, read_times
from rmiov2.reporting.map_figure import map_picture
from rmiov2.reporting.methods import Estimate, area, decided, own_answer, performance
from rmiov2.reporting.methods_figure import methods_pictures
from rmiov2.reporting.methods_table import INTERVALS, methods_tables, verdict
from rmiov2.reporting.results import COMPLETION_KEYS, read_scene
from rmiov2.reporting.style import Picture, styled
from rmiov2.reporting.sweeps import read_sweeps, sweeps_said
from rmiov2.reporting.tables import ABSENT, Cell, Row, Table
from rmiov2.reporting.terms import terms
from rmiov2.reporting.variants import Family, Verdict, claims, family, judged
from rmiov2.reporting.variants_figure import variants_pictures
from rmiov2.reporting.variants_table import (
    PRINTED_NOTE,
    SIMULATORS,
    VARIANTS_NOTE,
    findings_table,
    reproduced_table,
    variants_table,
    what_differs,
)
from rmiov2.reporting.words import WHOLE, count
from rmiov2.types import UserError

OVERVIEW_NOTE = (
    "How many findings are confirmed, not confirmed, or undecided at this size, of those that were run: the chapters of"
    " each task judge them one by one, each with its interval. A dash: not run. The paper prints no numbers of figures"
    " 7 to 11; appendix D stands in docs/fusion.md."
)
VERDICTS: Mapping[Verdict, str] = {
    "confirmed": "confirmed", "not confirmed": "not confirmed", "undecided at this size": "undecided",
}  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """All that is kept of a task at one scale: the method that the page is about first, and its variants.

    family: None without variants. folders: of the whole method's seeds, in which a scene may lie.
    """

    env: str
    scale: str
    methods: tuple[Method, ...]
    family: Family | None
    folders: tuple[Path, ...]

    @property
    def own(self) -> Method:
        """The method that the page is about."""
        return self.methods[0]

    @property
    def slug(self) -> str:
        """For anchors and names of files."""
        return f"{self.env}-{self.scale}".replace("/", "-").replace(" ", "-")


def build_paper(kept: Path, agent: str, page: Path) -> Path:
    """Draw the page of what lies in the folder kept about the method agent; the path of the page.

    The same files give the same bytes. Raises UserError where no seed of the method is kept.
    """
    tasks = list(read_tasks(kept, agent))
    if not tasks:
        raise UserError(f"{kept} has no seed of {agent}, expected one at least; `python -m pipelines.paper` makes them")
    with styled():
        chapters = [
            overview(tasks, read_sweeps(kept)),
            *(c for task in tasks for c in chapters_of(task, read_times(kept))),
        ]
    write_bytes(page, render(front_of(tasks), chapters).encode())
    return page


def read_tasks(kept: Path, agent: str) -> Iterator[Kept]:
    """Every task and scale of which whole seeds of the method are kept, battles first."""
    folders = {study: method for study, method in zip(_studies(kept), read_kept(kept), strict=True)}
    key: Callable[[Path], tuple[bool, str, str]] = lambda study: _task(folders[study])  # noqa: E731
    for (_, env, scale), group in groupby(sorted(folders, key=key), key=key):
        studies = list(group)
        whole = [study for study in studies if folders[study].ablation == WHOLE]
        own = [study for study in whole if folders[study].agent == agent]
        if len(own) > 1:
            raise UserError(f"{kept} has {len(own)} whole methods {agent} on {env}, {scale}; leave one there")
        if not own:
            continue
        others = [folders[study] for study in whole if study not in own]
        variants = [folders[s] for s in studies if s not in whole and folders[s].agent == agent]
        seeds = tuple(sorted(own[0].glob("seed-*")))
        mine = folders[own[0]]
        yield Kept(env, scale, (mine, *others), family(mine, variants), seeds)


def _studies(kept: Path) -> list[Path]:
    return [study for study in sorted(kept.glob("*")) if any(study.glob("seed-*"))]


def _task(method: Method) -> tuple[bool, str, str]:
    env = method.seeds[0].evaluate["env"]
    return not env.startswith("sma"), env, method.scale


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
        f" {count(teams)} teams, each trained, fine-tuned on masked observations, and measured over p_loss."
    )
    own = tasks[0].own
    source = "docs/seeds alone, by `python -m pipelines.paper --page`"
    return Front(f"{own.agent} and the paper", "What we reproduce", headline, terms(own.seeds[0].evaluate), source)


def overview(tasks: Sequence[Kept], sweeps: Sequence[Mapping[str, Any]] = ()) -> Chapter:
    """Every experiment of the paper, and how it stands on each task; sweeps: the runs that made it."""
    head = ("experiment", "the paper finds", *(f"{task.env}, {task.scale}" for task in tasks))
    rows = tuple(Row(name, (_words(finding), *(of(task) for task in tasks))) for name, finding, of in EXPERIMENTS)
    table = Table("On each task", head, rows, words=True)
    lead = tuple(said for said in [sweeps_said(sweeps)] if said)
    return Chapter("overview", "The paper’s experiments", (), lead, (table,), OVERVIEW_NOTE)


def _words(text: str) -> Cell:
    return Cell(None, text, "", best=False)


def _against(measure: Callable[[Method], Estimate]) -> Callable[[Kept], Cell]:
    """How many of the other methods it is ahead of, behind, and undecided with."""

    def cell(task: Kept) -> Cell:
        mine, others = measure(task.own), [measure(method) for method in task.methods[1:]]
        if not others:
            return ABSENT
        sure = [found for found in others if decided(found, mine)]
        behind = sum(found.mean > mine.mean for found in sure)
        open_ = len(others) - len(sure)
        return _words(f"ahead of {len(sure) - behind}, behind {behind}, undecided with {open_}")

    return cell


def _judged(place: str) -> Callable[[Kept], Cell]:
    """How many of the findings are confirmed, not confirmed and undecided."""

    def cell(task: Kept) -> Cell:
        if task.family is None:
            return ABSENT
        found = [judged(c, task.family) for c in claims(task.family) if c.place == place]
        times = Counter(verdict for pair, verdict in found if pair is not None)
        said = [f"{times[verdict]} {word}" for verdict, word in VERDICTS.items() if times[verdict]]
        return _words(", ".join(said)) if said else ABSENT

    return cell


def _drawn(name: str) -> Callable[[Kept], Cell]:
    def cell(task: Kept) -> Cell:
        return _words("drawn") if name in drawable(task) else ABSENT

    return cell


def drawable(task: Kept) -> set[str]:
    """Which of the figures without a finding that could be judged have something to be drawn of."""
    errors = sum(any(seed.l_rec is not None for seed in method.seeds) for method in task.methods)
    parts = task.family.named if task.family else {}
    moments = [name for name, method in parts.items() if any(seed.moment is not None for seed in method.seeds)]
    has = {
        "l_rec": errors > 1,
        "moments": WHOLE in moments and len(moments) > 1,
        "scene": any((folder / SCENE).is_file() for folder in task.folders),
    }
    return {name for name, there in has.items() if there}


EXPERIMENTS: tuple[tuple[str, str, Callable[[Kept], Cell]], ...] = (
    ("figure 7", "RMIOv2 plays best with full sight", _against(lambda m: performance(m, own_answer(m), 0))),
    ("figure 8", "RMIOv2 plays best under observation loss: AUC", _against(lambda m: area(m, own_answer(m)))),
    ("figure 9", "L_rec of RMIOv2 falls faster than that of RMIO", _drawn("l_rec")),
    ("figure 10", "fusion and reward trend lower the world model’s loss", _judged("figure 10")),
    ("figure 11", "fusion and reward trend raise performance", _judged("figure 11")),
    ("figure 12, table 1", "whole > no observation fusion > no action fusion > no fusion", _judged("table 1")),
    ("figure 13", "without a fusion what is reconstructed is further off", _drawn("moments")),
    ("figure 14, table 2", "AUC rises with p_mask up to 0.5", _judged("table 2")),
    ("appendices E.1, E.2", "attention moves to who sees; the reward window at work", _drawn("scene")),
)


def chapters_of(task: Kept, times: Times) -> list[Chapter]:
    """Its methods, what each part is worth, ours beside the paper's numbers, and an episode."""
    evaluate = task.own.seeds[0].evaluate
    pictures = present(methods_pictures(task.methods, evaluate)) if len(task.methods) > 1 else ()
    lead = tuple(verdict(task.methods, task.own.agent))
    tables = methods_tables(task.methods, times)
    chapters = [_chapter(task, "methods", "every method (figures 7 to 9)", pictures, lead, tables, INTERVALS)]
    if task.family:
        found = task.family
        drawn = present(variants_pictures(found))
        judgements = (findings_table(found), variants_table(found))
        chapters.append(_chapter(task, "parts", "what each part is worth", drawn, (), judgements, VARIANTS_NOTE))
        printed = (reproduced_table(found),) if evaluate["measure"] == "win_rate" else ()
        told = what_differs(found)
        chapters.append(_chapter(task, "paper", "beside the paper’s numbers", (), told, printed, PRINTED_NOTE))
    if episode := episode_pictures(task):
        chapters.append(_chapter(task, "episode", "one episode (figure 13, appendix E)", episode, (), (), ""))
    return chapters


def episode_pictures(task: Kept) -> tuple[Picture, ...]:
    """Of the first seed whose episode was kept; nothing without one."""
    scenes = [folder / SCENE for folder in task.folders if (folder / SCENE).is_file()]
    if not scenes:
        return ()
    scene = read_scene(scenes[0], COMPLETION_KEYS)
    return present(
        [
            map_picture(scene),
            scene_figures.series_picture(scene),
            scene_figures.error_picture(scene),
            attention_picture(scene),
            scene_figures.reward_picture(scene),
        ]
    )


def _chapter(
    task: Kept, name: str, heading: str, pictures: Sequence[Picture], lead: tuple[str, ...],
    tables: tuple[Table, ...], note: str,
) -> Chapter:  # fmt: skip
    named = tuple(replace(p, name=f"{task.slug}-{p.name}", data_name=f"{task.slug}-{p.data_name}") for p in pictures)
    return Chapter(f"{task.slug}-{name}", f"{task.env}: {heading}", named, lead, tables, note)
