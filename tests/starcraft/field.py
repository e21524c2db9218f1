"""Where units can be: a field of 32 x 32 cells with a border, and on corridor a wall with one gap."""

from __future__ import annotations

from dataclasses import dataclass

SIZE = 32
PLAYABLE = (2, 4, 30, 28)  # cells from (x, y) up to, not including, (x, y)
HOMES = ((9.0, 16.0), (23.0, 16.0))  # where our side and the other one begin
LOW, HIGH = 127, 191  # heights of ground and wall, of 255


@dataclass(frozen=True)
class Field:
    """Cells of x in `wall` stop those who walk, but where y is in `gap`."""

    wall: range = range(0)
    gap: range = range(0)

    def free(self, x: float, y: float) -> bool:
        """Whether somebody may stand at a point."""
        left, bottom, right, top = PLAYABLE
        inside = left <= x < right and bottom <= y < top
        return inside and not (int(x) in self.wall and int(y) not in self.gap)

    def towards(self, x: float, y: float, to: tuple[float, float]) -> tuple[float, float]:
        """The point to walk to from (x, y) on the way to another: the gap first, where the wall is between."""
        apart = min(x, to[0]) < self.wall.start and max(x, to[0]) >= self.wall.stop
        if not (self.wall and apart):
            return to
        if int(y) in self.gap:
            return to[0], y
        entrance = self.wall.start - 0.5 if x < self.wall.start else self.wall.stop + 0.5
        return entrance, (self.gap.start + self.gap.stop) / 2

    def pathing(self) -> bytes:
        """One bit a cell, row by row from the bottom, the leftmost cell highest in its byte."""
        rows = bytearray()
        for y in range(SIZE):
            bits = "".join("1" if self.free(x, y) else "0" for x in range(SIZE))
            rows += int(bits, 2).to_bytes(SIZE // 8, "big")
        return bytes(rows)

    def heights(self) -> bytes:
        """One byte a cell, row by row."""
        return bytes(LOW if self.free(x, y) else HIGH for y in range(SIZE) for x in range(SIZE))


FIELDS = {"corridor": Field(wall=range(15, 17), gap=range(14, 18))}
