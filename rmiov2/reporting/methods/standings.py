"""In words, which methods are ahead of one and behind it, and with which of them that is undecided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rmiov2.reporting.estimates import Estimate, difference, estimate_said
from rmiov2.reporting.kept import Method, Seed
from rmiov2.reporting.methods.measures import Measured, own_auc, own_sight
from rmiov2.reporting.methods.reached import decimals, expected, sample, told
from rmiov2.reporting.methods.summary import after
from rmiov2.reporting.words import listed, number, probability


def verdict(methods: Sequence[Method], reference: str) -> list[str]:
    """Who is ahead of the reference and behind it: in AUC, also with the true masks, and with nothing lost.

    Every method is named, with the reference's lead on it. An interval of the lead that contains zero decides nothing,
    nor does a method of one seed. Empty without the reference or without others.
    """
    own, others = _apart(methods, reference)
    if own is None or not others:
        return []
    digits = decimals(methods)
    sight = probability(own.evaluate["p_loss"][0])
    found = [_standings("AUC", own, others, own_auc, digits)]
    if known := told(own):
        theirs = [method for method in map(told, others) if method]
        found.append(_standings("true-mask AUC", known, theirs, own_auc, digits))
    return [*found, _standings(f"performance at p_loss {sight}", own, others, own_sight, digits)]


def glance(methods: Sequence[Method], reference: str) -> str:
    """Who is ahead of the reference and behind it in AUC, by name alone; empty without the reference or others."""
    own, others = _apart(methods, reference)
    if own is None or not others:
        return ""
    found = [(key, [method.agent for method, _ in group]) for key, group in _grouped(own, others, own_auc).items()]
    said = [f"{_GLANCES[key]} {listed(names)}" for key, names in found if names]
    return f"{reference} on {own.evaluate['env']}, AUC: {'; '.join(said)}."


def _apart(methods: Sequence[Method], reference: str) -> tuple[Method | None, list[Method]]:
    """The reference and the others."""
    own = next((method for method in methods if method.agent == reference), None)
    return own, [method for method in methods if method is not own]


Measure = Callable[[Seed], Measured]
Leads = list[tuple[Method, Estimate]]  # a method, and the reference's lead on it


def _grouped(own: Method, others: Sequence[Method], of: Measure) -> Mapping[tuple[bool, bool], Leads]:
    """The others, the highest first, by whether their mean is higher than own's, and whether that is decided."""
    groups: dict[tuple[bool, bool], Leads] = {key: [] for key in _GROUPS}
    leads = [(method, difference(sample(own, of), sample(method, of))) for method in others]
    for method, lead in sorted(leads, key=lambda pair: pair[1].mean):
        groups[lead.mean < 0, lead.decided].append((method, lead))
    return groups


def _standings(what: str, own: Method, others: Sequence[Method], of: Measure, digits: int) -> str:
    mine = expected(own, sample(own, of))

    def said(method: Method, lead: Estimate) -> str:
        return f"{method.agent} ({_mean_said(mine.mean, lead, digits)}{after(method, own)}, {_lead_said(lead, digits)})"

    groups = _grouped(own, others, of)
    highest = not any(groups[True, sure] for sure in (True, False))
    none = ["No other method has a higher mean."] if highest else []
    named = [f"{_GROUPS[key]} {listed([said(*one) for one in found])}." for key, found in groups.items() if found]
    return " ".join((f"Mean {what} of {own.agent}: {estimate_said(mine, digits)}.", *none, *named))


def _mean_said(mine: float, lead: Estimate, digits: int) -> str:
    """The other's mean; both with one more digit where they would look alike."""
    theirs = mine - lead.mean
    alike = number(theirs, digits) == number(mine, digits) and lead.mean != 0
    return f"{number(theirs, digits + 1)} against {number(mine, digits + 1)}" if alike else number(theirs, digits)


def _lead_said(lead: Estimate, digits: int) -> str:
    return f"lead {estimate_said(lead, digits)}" if lead.bounds else "one seed"


# By whether the other's mean is higher, and whether that is decided.
_GROUPS = {
    (True, True): "It is beaten by",
    (False, True): "It is ahead of",
    (True, False): "Undecided, with a higher mean:",
    (False, False): "Undecided, with no higher mean:",
}
_GLANCES = {
    (True, True): "behind",
    (False, True): "ahead of",
    (True, False): "undecided, with a higher mean,",
    (False, False): "undecided, with no higher mean,",
}
