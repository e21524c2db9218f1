"""What units are, in the game's own measures, and which of them fight on which of SMAC's maps.

Seconds are those of the game as it is played, 22.4 loops each. Numbers are those of version 4.10, rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

FASTER = 22.4  # loops in a second as players see it, in which speeds and cooldowns are usually told
CUSTOM_TYPES = 1970  # SMAC's maps give our side copies of the units, in types of their own from here on


@dataclass(frozen=True)
class Kind:
    """A type of unit: points, distances in cells, speed in cells and cooldown in loops, both as the game counts."""

    name: str
    type_id: int
    health: int
    radius: float
    speed: float  # cells a second
    damage: int = 0
    cooldown: float = 0.0  # seconds
    reach: float = 0.1  # from edge to edge
    shield: int = 0
    armour: int = 0
    tags: frozenset[str] = frozenset()
    against: str = ""  # the tag that is hit for `bonus` more
    bonus: int = 0
    hits: int = 1  # blows of one attack: armour counts against each
    splash: float = 0.0  # everybody hostile so near to the target is hit too
    flies: bool = False
    shoots_up: bool = False
    bursts: bool = False  # its attack is its end
    heals: bool = False
    energy: int = 0

    @property
    def stride(self) -> float:
        """Cells it walks in a loop."""
        return self.speed / FASTER

    @property
    def pause(self) -> float:
        """Loops between two attacks."""
        return self.cooldown * FASTER


def _kind(name: str, type_id: int, health: int, radius: float, speed: float, tags: str, **more) -> Kind:
    return Kind(name, type_id, health, radius, speed, tags=frozenset(tags.split()), **more)


KINDS = {
    kind.name: kind
    for kind in (
        _kind("baneling", 9, 30, 0.375, 3.5, "bio", damage=16, against="light", bonus=19, splash=2.2, bursts=True),
        _kind(
            "colossus", 4, 200, 1.0, 3.15, "armoured", shield=150, armour=1, damage=10, against="light", bonus=5,
            hits=2, cooldown=1.07, reach=7, splash=1.2,
        ),
        _kind("hydralisk", 107, 90, 0.625, 3.15, "light bio", damage=12, cooldown=0.59, reach=5, shoots_up=True),
        _kind(
            "marauder", 51, 125, 0.5625, 3.15, "armoured bio", armour=1, damage=10, against="armoured", bonus=10,
            cooldown=1.07, reach=6,
        ),
        _kind("marine", 48, 45, 0.375, 3.15, "light bio", damage=6, cooldown=0.61, reach=5, shoots_up=True),
        _kind("medivac", 54, 150, 0.75, 3.5, "armoured", armour=1, flies=True, heals=True, reach=4, energy=200),
        _kind(
            "spine_crawler", 98, 300, 1.125, 0.0, "armoured structure", armour=2, damage=25, against="armoured",
            bonus=5, cooldown=1.32, reach=7,
        ),
        _kind(
            "stalker", 74, 80, 0.625, 4.13, "armoured", shield=80, armour=1, damage=13, against="armoured", bonus=5,
            cooldown=1.34, reach=6, shoots_up=True,
        ),
        _kind("zealot", 73, 100, 0.5, 3.15, "light bio", shield=50, armour=1, damage=8, hits=2, cooldown=0.86),
        _kind("zergling", 105, 35, 0.375, 4.13, "light bio", damage=5, cooldown=0.497),
    )
}  # fmt: skip

Team = dict[str, int]

TEAMS: dict[str, tuple[Team, Team]] = {
    "3m": ({"marine": 3}, {"marine": 3}),
    "8m": ({"marine": 8}, {"marine": 8}),
    "25m": ({"marine": 25}, {"marine": 25}),
    "5m_vs_6m": ({"marine": 5}, {"marine": 6}),
    "8m_vs_9m": ({"marine": 8}, {"marine": 9}),
    "10m_vs_11m": ({"marine": 10}, {"marine": 11}),
    "27m_vs_30m": ({"marine": 27}, {"marine": 30}),
    "MMM": ({"marauder": 2, "marine": 7, "medivac": 1}, {"marauder": 2, "marine": 7, "medivac": 1}),
    "MMM2": ({"marauder": 2, "marine": 7, "medivac": 1}, {"marauder": 3, "marine": 8, "medivac": 1}),
    "2s3z": ({"stalker": 2, "zealot": 3}, {"stalker": 2, "zealot": 3}),
    "3s5z": ({"stalker": 3, "zealot": 5}, {"stalker": 3, "zealot": 5}),
    "3s5z_vs_3s6z": ({"stalker": 3, "zealot": 5}, {"stalker": 3, "zealot": 6}),
    "3s_vs_3z": ({"stalker": 3}, {"zealot": 3}),
    "3s_vs_4z": ({"stalker": 3}, {"zealot": 4}),
    "3s_vs_5z": ({"stalker": 3}, {"zealot": 5}),
    "1c3s5z": ({"colossus": 1, "stalker": 3, "zealot": 5}, {"colossus": 1, "stalker": 3, "zealot": 5}),
    "2m_vs_1z": ({"marine": 2}, {"zealot": 1}),
    "corridor": ({"zealot": 6}, {"zergling": 24}),
    "6h_vs_8z": ({"hydralisk": 6}, {"zealot": 8}),
    "2s_vs_1sc": ({"stalker": 2}, {"spine_crawler": 1}),
    "so_many_baneling": ({"zealot": 7}, {"baneling": 32}),
    "bane_vs_bane": ({"baneling": 4, "zergling": 20}, {"baneling": 4, "zergling": 20}),
    "2c_vs_64zg": ({"colossus": 2}, {"zergling": 64}),
}


def type_ids(team: Team, ours: bool) -> dict[str, int]:
    """Type number of each of a team's units: the game's own, or the map's copies, which SMAC expects in this order."""
    if not ours:
        return {name: KINDS[name].type_id for name in team}
    return {name: CUSTOM_TYPES + rank for rank, name in enumerate(sorted(team))}
