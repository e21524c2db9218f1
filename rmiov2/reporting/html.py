"""Chapters of figures and tables as one HTML file that needs no network, the numbers of each figure one click away."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup, escape

from rmiov2.reporting.style import Picture
from rmiov2.reporting.tables import Cell, Table

LONG = 20  # letters of a cell, from then on it is made to wrap


@dataclass(frozen=True)
class Chapter:
    """A section of the page: its anchor, its heading, paragraphs, its figures, its tables and their note."""

    anchor: str
    heading: str
    pictures: tuple[Picture, ...]
    lead: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Front:
    """What stands above the chapters, and below them where all of it comes from."""

    kicker: str
    title: str
    headline: str
    terms: Sequence[tuple[str, str]]
    source: str


def render(front: Front, chapters: Sequence[Chapter], run: Mapping[str, Any] | None = None) -> str:
    """The page, images and numbers embedded; run: settings, stages and gates of the run that it is of."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rmiov2.reporting", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "data_uri": data_uri, "letters": letters, "breakable": breakable, "classes": classes, "sentences": sentences
    }  # fmt: skip
    return environment.get_template("page.html.j2").render(front=front, chapters=chapters, run=run)


def data_uri(content: bytes, name: str) -> str:
    """The content as a data: URI, its type told by the name's ending."""
    kind = {"png": "image/png", "csv": "text/csv", "json": "application/json"}[name.rsplit(".", 1)[-1]]
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def letters(text: str) -> Markup:
    """The text escaped; `commands` as code, p_loss, p_mask and L_rec as letters; no break before a per cent sign."""
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)).replace(" %", "\u00a0%"))
    return Markup(re.sub(r"\b([pL])_(loss|mask|rec)\b", r"<i>\1</i><sub>\2</sub>", safe))


def breakable(text: str) -> Markup:
    """The same, where a line may also break within the name of a setting or of a task."""
    return Markup(re.sub(r"(?<=[a-z])([._/])(?=[A-Za-z])", r"\1<wbr>", str(letters(text))))


def sentences(table: Table) -> bool:
    """Whether its rows are named by sentences, which need more room than a name does."""
    return any(len(row.name) > 2 * LONG for row in table.rows)


def classes(cell: Cell) -> Markup:
    """The class attribute of a cell: words may wrap, long ones within a column that stays readable."""
    names = ["best"] if cell.best else []
    if cell.value is None:
        names += ["text", "long"] if len(cell.text) > LONG else ["text"]
    return Markup(f' class="{" ".join(names)}"' if names else "")


def present(pictures: Iterable[Picture | None]) -> tuple[Picture, ...]:
    """Those that had something to draw."""
    return tuple(picture for picture in pictures if picture is not None)
