"""Every experiment of the paper, and in a cell for each task how it stands there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rmiov2.evaluation.modes import OPEN_LOOP
from rmiov2.reporting.estimates import difference, estimate_said, over_seeds
from rmiov2.reporting.kept import Method, Seed
from rmiov2.reporting.methods.measures import Measured, less, own_answer, own_auc, performance_at, untuned
from rmiov2.reporting.methods.reached import by_updates, performance, sample, sample_known
from rmiov2.reporting.pages.fusion_cost import Modules, cost_said
from rmiov2.reporting.run.results import COMPLETION_KEYS, read_scene
from rmiov2.reporting.scene.attention_figure import above_even
from rmiov2.reporting.tables import ABSENT, Cell, words_cell
from rmiov2.reporting.variants.worth import Family, Verdict, claims, judged, of_bounds
from rmiov2.reporting.words import count, number

OVERVIEW_NOTE = (
    "The table counts the findings that are confirmed, not confirmed, or undecided at this size, among those that were"
    " run, by what was measured; the chapters on each task judge them one by one, each with its interval. A dash: not"
    " run. The paper prints no numbers for figures 7 to 11, and its appendix D is not public."
)
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
        return str(self.own.evaluate["env"])

    @property
    def scale(self) -> str:
        """The preset, or the list of experiments, of all of it."""
        return self.own.scale

    @property
    def slug(self) -> str:
        """For anchors and names of files."""
        return f"{self.env}-{self.scale}".replace("/", "-").replace(" ", "-")


def _against(measure: Callable[[Seed], Measured]) -> Callable[[Kept], Cell]:
    """How many of the other methods it is ahead of, behind, and undecided with."""

    def cell(task: Kept) -> Cell:
        leads = [difference(sample(task.own, measure), sample(method, measure)) for method in task.methods[1:]]
        if not leads:
            return ABSENT
        sure = [lead for lead in leads if lead.decided]
        behind = sum(lead.mean < 0 for lead in sure)
        open_ = len(leads) - len(sure)
        return words_cell(f"ahead of {len(sure) - behind}, behind {behind}, undecided with {open_}")

    return cell


def _blind(task: Kept) -> Cell:
    """Whether it does more than open loop when nobody sees anything."""
    won = task.own.evaluate["measure"] == "win_rate"
    if not won or not all(OPEN_LOOP in seed.evaluate["performance"] for seed in task.own.seeds):
        return ABSENT
    own, control = (performance(task.own, mode, -1) for mode in (own_answer(task.own), OPEN_LOOP))
    verdict = VERDICTS[of_bounds(over_seeds(sample(task.own, _lead_in_the_dark)), more=True)]
    return words_cell(f"{verdict}: {estimate_said(own, 2)}, open loop {number(control.mean)}")


def _lead_in_the_dark(seed: Seed) -> Measured:
    return less(performance_at(seed, own_answer(seed), -1), performance_at(seed, OPEN_LOOP, -1))


def _sooner(task: Kept) -> Cell:
    """Whether its L_rec is as good as down after fewer masked updates than that of RMIO."""
    named = {method.agent: by_updates(method) for method in task.methods}
    own, other = named[task.own.agent], named.get("rmio")
    if own is None or other is None or task.own.agent == "rmio":
        return _drawn(sum(any(seed.l_rec is not None for seed in method.seeds) for method in task.methods) > 1)
    verdict = VERDICTS[of_bounds(difference(own, other), more=False)]
    told = [count(round(over_seeds(one).mean)) for one in (own, other)]
    return words_cell(f"{verdict}: nine tenths of the way within {told[0]} updates, RMIO’s within {told[1]}")


def _judged(place: str) -> Callable[[Kept], Cell]:
    """How many of the findings in each measure are confirmed, not confirmed and undecided."""

    def cell(task: Kept) -> Cell:
        if task.family is None:
            return ABSENT
        found: dict[str, Counter[Verdict]] = {}
        for claim in claims(task.family):
            pair, verdict = judged(claim, task.family)
            if claim.place == place and pair is not None:
                found.setdefault(claim.measure, Counter())[verdict] += 1
        return words_cell("; ".join(f"{measure}: {_counted(times)}" for measure, times in found.items()))

    return cell


def _counted(times: Counter[Verdict]) -> str:
    return ", ".join(f"{times[verdict]} {word}" for verdict, word in VERDICTS.items() if times[verdict])


def _drawn(there: bool) -> Cell:
    """That there is a figure, of what has no finding that could be judged."""
    return words_cell("drawn" if there else "")


def _window(task: Kept) -> Cell:
    return _drawn(any(seed.scene is not None for seed in task.own.seeds))


def _unmet(task: Kept) -> Cell:
    return _drawn(any(seed.stress is not None for seed in task.own.seeds))


def _attention(task: Kept) -> Cell:
    """Whether attention moves to who sees, over one episode of each seed."""
    known = sample_known(task.own, _attended)
    if known is None:
        return ABSENT
    found = over_seeds(known)
    return words_cell(f"{VERDICTS[of_bounds(found, more=True)]}: by {estimate_said(found, 2)}")


def _attended(seed: Seed) -> Measured | None:
    value = None if seed.scene is None else above_even(read_scene(seed.scene, COMPLETION_KEYS))
    return None if value is None else (value, 0.0)


def _cost(task: Kept) -> Cell:
    return ABSENT if task.fusions is None else words_cell(cost_said(task.fusions))


EXPERIMENTS: tuple[tuple[str, str, Callable[[Kept], Cell]], ...] = (
    ("figure 7", "RMIOv2 plays best after pre-training", _against(lambda seed: performance_at(seed, untuned(seed), 0))),
    ("figure 8", "RMIOv2 plays best under observation loss: AUC", _against(own_auc)),
    ("figure 8, p_loss 1", "RMIOv2 still wins on easy maps when nobody sees anything", _blind),
    ("figure 9", "L_rec of RMIOv2 falls faster than that of RMIO", _sooner),
    ("figure 10", "fusion and reward trend lower the world model’s loss", _judged("figure 10")),
    ("figure 11", "fusion and reward trend raise performance", _judged("figure 11")),
    ("figure 12, table 1", "whole > no observation fusion > no action fusion > no fusion", _judged("table 1")),
    ("figure 13", "without a fusion, reconstructions are further off", _judged("figure 13")),
    ("figure 14, table 2", "AUC rises with p_mask up to 0.5", _judged("table 2")),
    ("appendix E.1", "blind agents attend to agents that see, more than an even share", _attention),
    ("appendix E.2", "the reward window at work", _window),
    ("beyond the paper", "bursts, one agent gone, the whole team blind, other lengths of memory", _unmet),
    ("appendix D", "what the two fusions cost", _cost),
)
