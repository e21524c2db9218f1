"""Answers the requests of StarCraft II's protocol that SMAC sends, over a websocket at /sc2api."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from http import HTTPStatus
from pathlib import PurePath
from typing import Any

from s2clientprotocol import error_pb2, raw_pb2, sc2api_pb2
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websocket_server
from websockets.exceptions import ConnectionClosed

from .battle import US, Battle, Order, Unit
from .field import PLAYABLE, SIZE
from .modes import Modes, Moments
from .units import KINDS, TEAMS

MOVE, ATTACK, STOP, HEAL = 16, 23, 4, 386  # abilities
NEEDED = {  # the states in which requests are allowed, where not in game alone
    "ping": ("launched", "init_game", "in_game"),
    "create_game": ("launched", "in_game"),
    "join_game": ("init_game",),
    "quit": ("launched", "init_game", "in_game"),
}
SPOILT = {"malformed": b"\xff no message of the protocol", "empty": b""}


class Game:
    """The game's state, and an answer to each request."""

    def __init__(self, modes: Modes, build: int) -> None:
        self.modes = modes
        self.build = build
        self.state = "launched"
        self.created: tuple[str, int | None] = ("", None)
        self.battle: Battle | None = None
        self.leaked: list[bytes] = []

    def answer(self, request: Any) -> Any:
        """The response to a request; one out of place, unknown or refused is answered with an error."""
        kind = request.WhichOneof("request")
        response = sc2api_pb2.Response(id=request.id)
        handler = getattr(self, f"_{kind}", None)
        if handler is None:
            response.error.append(f"the stand-in does not know {kind}")
        elif self.state not in NEEDED.get(kind, ("in_game",)):
            response.error.append(f"{kind} while in state {self.state}")
        else:
            handler(getattr(request, kind), getattr(response, kind))
            getattr(response, kind).SetInParent()
        response.status = sc2api_pb2.Status.Value(self.state)
        return response

    def _ping(self, request: Any, response: Any) -> None:
        response.game_version, response.base_build, response.data_build = "stand-in", self.build, self.build

    def _create_game(self, request: Any, response: Any) -> None:
        name = PurePath(request.local_map.map_path).stem
        if name not in TEAMS:
            response.error = sc2api_pb2.ResponseCreateGame.InvalidMapPath
            response.error_details = f"the stand-in knows no map {name!r}"
            return
        self.created = name, request.random_seed if request.HasField("random_seed") else None
        self.state = "init_game"

    def _join_game(self, request: Any, response: Any) -> None:
        if self.modes.refuse_join:
            response.error = sc2api_pb2.ResponseJoinGame.GameFull
            return
        self._begin()
        response.player_id = US
        self.state = "in_game"

    def _begin(self) -> None:
        self.battle = Battle(*self.created, late=self.modes.late_spawn)

    def _restart_game(self, request: Any, response: Any) -> None:
        self._begin()

    def _quit(self, request: Any, response: Any) -> None:
        os._exit(0)

    def _game_info(self, request: Any, response: Any) -> None:
        response.map_name = self.created[0]
        start, place = response.start_raw, self.battle.field
        start.map_size.x = start.map_size.y = SIZE
        area = start.playable_area
        area.p0.x, area.p0.y, area.p1.x, area.p1.y = PLAYABLE
        for image, bits, data in (
            (start.pathing_grid, 1, place.pathing()),
            (start.terrain_height, 8, place.heights()),
        ):
            image.bits_per_pixel, image.size.x, image.size.y, image.data = bits, SIZE, SIZE, data

    def _data(self, request: Any, response: Any) -> None:
        for kind in KINDS.values():
            unit = response.units.add(unit_id=kind.type_id, name=kind.name, available=True)
            unit.movement_speed, unit.armor = kind.speed, kind.armour
            if kind.damage:
                unit.weapons.add(damage=kind.damage, attacks=kind.hits, range=kind.reach, speed=kind.cooldown)

    def _observation(self, request: Any, response: Any) -> None:
        response.observation.game_loop = self.battle.loop
        for unit in self.battle.units:
            describe(unit, response.observation.raw_data.units.add())

    def _action(self, request: Any, response: Any) -> None:
        for action in request.actions:
            command = action.action_raw.unit_command
            obeyed = [self.battle.order(tag, order_of(command)) for tag in command.unit_tags]
            response.result.append(error_pb2.Success if all(obeyed) else error_pb2.Error)

    def _step(self, request: Any, response: Any) -> None:
        before, battles = time.monotonic(), self.battle.battles
        self.battle.advance(request.count)
        if self.battle.battles != battles:
            self.leaked.append(b"\1" * int(self.modes.leak_mb * 2**20))
        response.simulation_loop = self.battle.loop
        time.sleep(max(self.modes.step_ms / 1000 - (time.monotonic() - before), 0))

    def _debug(self, request: Any, response: Any) -> None:
        for command in request.debug:
            self.battle.kill(set(command.kill_unit.tag))

    def _save_replay(self, request: Any, response: Any) -> None:
        response.data = b"no replay: a test double made it"


def order_of(command: Any) -> Order | None:
    """What a raw unit command tells a unit to do; stop, and what is not known, is None."""
    at_unit = command.WhichOneof("target") == "target_unit_tag"
    if command.ability_id == HEAL:
        return "heal", command.target_unit_tag
    if command.ability_id == ATTACK and at_unit:
        return "attack", command.target_unit_tag
    if command.ability_id in (MOVE, ATTACK):
        word = "move" if command.ability_id == MOVE else "march"
        return word, command.target_world_space_pos.x, command.target_world_space_pos.y
    return None


def describe(unit: Unit, shown: Any) -> None:
    """Fill in a unit as the raw interface shows it."""
    kind = unit.kind
    shown.tag, shown.unit_type, shown.owner = unit.tag, unit.type_id, unit.owner
    shown.alliance = raw_pb2.Self if unit.owner == US else raw_pb2.Enemy
    shown.display_type, shown.build_progress, shown.radius = raw_pb2.Visible, 1, kind.radius
    shown.pos.x, shown.pos.y, shown.pos.z = unit.x, unit.y, 12 if kind.flies else 8
    shown.health, shown.health_max = unit.health, kind.health
    shown.weapon_cooldown, shown.is_flying = unit.cooldown, kind.flies
    if kind.shield:
        shown.shield, shown.shield_max = unit.shield, kind.shield
    if kind.energy:
        shown.energy, shown.energy_max = unit.energy, kind.energy


def serve(listener: socket.socket, modes: Modes, build: int) -> None:
    """Play with whoever connects until it goes.

    Waiting blocks the whole process on purpose: a game that hangs or computes answers nothing, not even a farewell.
    """
    game, moments = Game(modes, build), Moments(modes)

    async def play(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                request = sc2api_pb2.Request.FromString(await connection.recv(decode=False))
                failure = moments.failure(request.WhichOneof("request"))
                if failure == "crash":
                    os._exit(1)
                while failure == "hang":
                    time.sleep(1)
                response = game.answer(request)
                if failure == "error":
                    response.error.append("the stand-in was told to refuse this")
                await connection.send(SPOILT.get(failure, response.SerializeToString()))

    def only_the_api(connection: ServerConnection, request: Any) -> Any:
        return None if request.path == "/sc2api" else connection.respond(HTTPStatus.NOT_FOUND, "")

    async def listen() -> None:
        async with websocket_server(
            play, sock=listener, process_request=only_the_api, compression=None, max_size=None, ping_interval=None
        ) as server:
            await server.serve_forever()

    asyncio.run(listen())
