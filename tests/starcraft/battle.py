"""The fight: who stands where, what everybody does in a loop, who falls. Deterministic by its seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import numpy as np

from .field import FIELDS, HOMES, Field
from .units import KINDS, TEAMS, Kind, Team, type_ids

US, THEM = 1, 2
REST = 160  # loops without a blow after which shields come back
SHIELD_BACK = 0.125  # points a loop
HEALING, HEALING_COST, ENERGY_BACK = 0.5625, 1 / 3, 0.035  # points a loop, energy a point, energy a loop
SIGHT = 9.0  # who marches turns on those nearer than this
ROWS, SPACING, JITTER = 11, 1.1, 0.3  # units side by side in a formation, cells between them, and off their place
FIRST_TAG, TAG_STEP = 1 << 32, 1 << 18  # as the game numbers its units

Order = tuple[str, int] | tuple[str, float, float]


@dataclass
class Unit:
    """One unit; `order` is ("move", x, y), ("march", x, y), ("attack", tag), ("heal", tag) or None."""

    tag: int
    owner: int
    kind: Kind
    type_id: int
    x: float
    y: float
    health: float = field(init=False)
    shield: float = field(init=False)
    energy: float = field(init=False)
    cooldown: float = 0.0  # loops until it may strike
    calm: int = 0  # loops since it was hit
    order: Order | None = None
    target: Unit | None = None

    def __post_init__(self) -> None:
        self.health, self.shield = float(self.kind.health), float(self.kind.shield)
        self.energy = self.kind.energy / 4

    @property
    def alive(self) -> bool:
        return self.health > 0

    def gap_to(self, other: Unit) -> float:
        """Distance from edge to edge."""
        return math.hypot(other.x - self.x, other.y - self.y) - self.kind.radius - other.kind.radius

    def can_hit(self, other: Unit) -> bool:
        return self.kind.damage > 0 and (self.kind.shoots_up or not other.kind.flies)

    def suffer(self, attacker: Kind) -> None:
        """Take one attack: shields first, armour off what reaches health, half a point at the least."""
        power = attacker.damage + (attacker.bonus if attacker.against in self.kind.tags else 0)
        for _ in range(attacker.hits):
            caught = min(self.shield, power)
            self.shield -= caught
            if caught < power:
                self.health -= max(power - caught - self.kind.armour, 0.5)
        self.health, self.calm = max(self.health, 0.0), 0


class Battle:
    """One map's battles, one after another: when nobody is left, both teams come anew.

    Our side stands idle until told; the other side marches on our first place and strikes the nearest. `late` units of
    each team's arrival come one a loop. The random numbers run on from battle to battle.
    """

    def __init__(self, map_name: str, seed: int | None, late: int = 0) -> None:
        self.teams = TEAMS[map_name]
        self.field = FIELDS.get(map_name, Field())
        self.random = random.Random(seed)
        self.late = late
        self.loop = 0
        self.battles = 0
        self.units: list[Unit] = []
        self.coming: list[Unit] = []
        self.next_tag = FIRST_TAG
        self._arrive()

    def side(self, owner: int) -> list[Unit]:
        return [unit for unit in self.units if unit.owner == owner]

    def find(self, tag: int) -> Unit | None:
        return next((unit for unit in self.units if unit.tag == tag), None)

    def kill(self, tags: set[int]) -> None:
        """Remove units at once."""
        for unit in self.units:
            if unit.tag in tags:
                unit.health = 0.0
        self.units = [unit for unit in self.units if unit.alive]

    def order(self, tag: int, order: Order | None) -> bool:
        """Give one of our units an order, None to stop; False where it, its target or its skill is missing."""
        unit = self.find(tag)
        if unit is None or unit.owner != US:
            return False
        if order is not None and order[0] in ("attack", "heal"):
            if self.find(order[1]) is None or (order[0] == "heal") != unit.kind.heals:
                return False
        unit.order = order
        return True

    def advance(self, loops: int) -> None:
        """Let time pass."""
        for _ in range(loops):
            self.loop += 1
            if self.coming:
                self.units.append(self.coming.pop(0))
            elif not self.units:
                self._arrive()
            self._fight()
            self._separate()

    def _arrive(self) -> None:
        self.battles += 1
        everybody = [
            unit
            for owner, team, home in zip((US, THEM), self.teams, HOMES, strict=True)
            for unit in self._formation(owner, team, home)
        ]
        here = len(everybody) - self.late
        self.units, self.coming = everybody[:here], everybody[here:]

    def _formation(self, owner: int, team: Team, home: tuple[float, float]) -> list[Unit]:
        """The team around its home, those of short reach in front, each a little off its place."""
        ids, back = type_ids(team, owner == US), -1 if owner == US else 1
        names = sorted((name for name, count in team.items() for _ in range(count)), key=lambda name: KINDS[name].reach)
        rows, units = min(ROWS, len(names)), []
        for place, name in enumerate(names):
            rank, row = divmod(place, rows)
            x = home[0] + back * rank * SPACING + self.random.uniform(-JITTER, JITTER)
            y = home[1] + (row - (rows - 1) / 2) * SPACING + self.random.uniform(-JITTER, JITTER)
            order = ("march", *HOMES[0]) if owner == THEM else None
            units.append(Unit(self.next_tag, owner, KINDS[name], ids[name], x, y, order=order))
            self.next_tag += TAG_STEP
        return units

    def _fight(self) -> None:
        """Everybody acts on the same moment; blows fall together, so both sides may die at once."""
        sides = {US: self.side(US), THEM: self.side(THEM)}
        blows: list[tuple[Unit, Unit]] = []
        for unit in self.units:
            unit.cooldown = max(unit.cooldown - 1, 0.0)
            unit.calm += 1
            if unit.calm >= REST:
                unit.shield = min(unit.shield + SHIELD_BACK, unit.kind.shield)
            unit.energy = min(unit.energy + ENERGY_BACK, unit.kind.energy)
            self._act(unit, sides[unit.owner], sides[US + THEM - unit.owner], blows)
        for attacker, target in blows:
            self._strike(attacker, target, sides[US + THEM - attacker.owner])
        self.units = [unit for unit in self.units if unit.alive]

    def _act(self, unit: Unit, friends: list[Unit], foes: list[Unit], blows: list[tuple[Unit, Unit]]) -> None:
        if unit.order is None:
            return
        word = unit.order[0]
        if word == "move":
            if self._walk(unit, unit.order[1:]):
                unit.order = None
        elif unit.kind.heals:
            self._tend(unit, friends)
        elif word == "march":
            self._choose(unit, foes)
            if unit.target is None:
                self._walk(unit, unit.order[1:])
            else:
                self._engage(unit, unit.target, blows)
        else:
            target = self.find(unit.order[1])
            if target is None or not unit.can_hit(target):
                unit.order = None
            else:
                self._engage(unit, target, blows)

    def _choose(self, unit: Unit, foes: list[Unit]) -> None:
        """Keep the target while it is in reach, else take the nearest in sight, medics last."""
        target = unit.target
        if target is not None and target.alive and unit.gap_to(target) <= unit.kind.reach:
            return
        near = [(foe.kind.heals, unit.gap_to(foe), foe.tag, foe) for foe in foes if unit.can_hit(foe)]
        near = [entry for entry in near if entry[1] <= max(SIGHT, unit.kind.reach)]
        unit.target = min(near)[3] if near else None

    def _engage(self, unit: Unit, target: Unit, blows: list[tuple[Unit, Unit]]) -> None:
        """Strike when near enough and ready, come nearer when not near enough."""
        if unit.gap_to(target) > unit.kind.reach:
            self._walk(unit, (target.x, target.y))
        elif unit.cooldown <= 0:
            unit.cooldown = max(unit.kind.pause + self.random.uniform(-1, 1), 0.0)
            blows.append((unit, target))

    def _strike(self, attacker: Unit, target: Unit, foes: list[Unit]) -> None:
        for foe in foes:
            beside = not foe.kind.flies and math.hypot(foe.x - target.x, foe.y - target.y) <= attacker.kind.splash
            if foe is target or beside:
                foe.suffer(attacker.kind)
        if attacker.kind.bursts:
            attacker.health = 0.0

    def _tend(self, medic: Unit, friends: list[Unit]) -> None:
        """Heal whom it was told to, or without a name the nearest that is hurt; follow the others."""
        if medic.order[0] == "heal":
            patients = [friend for friend in friends if friend.tag == medic.order[1]]
        else:
            others = [friend for friend in friends if not friend.kind.heals]
            patients = [friend for friend in others if friend.health < friend.kind.health] or others
        patients = [patient for patient in patients if "bio" in patient.kind.tags]
        if not patients:
            return
        patient = min(patients, key=lambda friend: (medic.gap_to(friend), friend.tag))
        points = min(HEALING, patient.kind.health - patient.health, medic.energy / HEALING_COST)
        if medic.gap_to(patient) > medic.kind.reach:
            self._walk(medic, (patient.x, patient.y))
        elif points > 0:
            patient.health += points
            medic.energy -= points * HEALING_COST

    def _walk(self, unit: Unit, to: tuple[float, float]) -> bool:
        """One loop's stride towards a point, along walls where it must; whether it is there."""
        x, y = to if unit.kind.flies else self.field.towards(unit.x, unit.y, to)
        far = math.hypot(x - unit.x, y - unit.y)
        share = min(unit.kind.stride / far, 1.0) if far > 0 else 1.0
        dx, dy = (x - unit.x) * share, (y - unit.y) * share
        self._shift(unit, dx, dy)
        return (x, y) == to and share == 1.0

    def _shift(self, unit: Unit, dx: float, dy: float) -> None:
        for move in ((dx, dy), (dx, 0.0), (0.0, dy)):
            if self.field.free(unit.x + move[0], unit.y + move[1]):
                unit.x, unit.y = unit.x + move[0], unit.y + move[1]
                return

    def _separate(self) -> None:
        """Push apart those on the ground who stand in one another; what has no legs stays."""
        walkers = [unit for unit in self.units if not unit.kind.flies]
        if len(walkers) < 2:
            return
        at = np.array([(unit.x, unit.y) for unit in walkers])
        radius = np.array([unit.kind.radius for unit in walkers])
        apart = at[:, None] - at
        far = np.hypot(apart[..., 0], apart[..., 1])
        overlap = np.maximum(radius[:, None] + radius - far, 0)
        np.fill_diagonal(overlap, 0)
        if not overlap.any():
            return
        push = (apart * (overlap / np.maximum(far, 1e-6) / 2)[..., None]).sum(axis=1)
        for unit, (dx, dy) in zip(walkers, push.tolist(), strict=True):
            if unit.kind.speed:
                self._shift(unit, max(min(dx, 0.2), -0.2), max(min(dy, 0.2), -0.2))
