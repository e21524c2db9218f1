"""The page in a real browser, wide, on a phone, in print: nothing overlaps, nothing is wider than where it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import browser
import pytest
from synthetic_run import CELLS, write_run, write_stress
from test_methods import keep_seed

from pipelines.paper import PAGE
from rmiov2.reporting.pages.run import build

SIZES = {"desktop": (1280, 900, "screen"), "phone": (390, 844, "screen"), "print": (688, 1000, "print")}  # A4
# What must lie apart, and what of each other's may be inside; a table may be wider than the page in its own scroller.
BLOCKS = "figure, h1, h2, h3.table, .headline, .lead, .note, .scroll, .run > table, nav, footer"
LAYOUT = f"""(() => {{
  const box = (element) => {{
    const r = element.getBoundingClientRect();
    return {{name: element.id || element.className || element.textContent.slice(0, 30), tag: element.tagName,
             left: r.left, right: r.right, top: r.top + scrollY, bottom: r.bottom + scrollY}};
  }};
  const shown = [...document.querySelectorAll({BLOCKS!r})]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().height > 0);
  const outside = [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll table') && e.offsetParent);
  const figures = [...document.querySelectorAll('figure')];
  return {{
    width: document.documentElement.clientWidth, content: document.documentElement.scrollWidth,
    blocks: shown.map(box), all: outside.map(box),
    tables: [...document.querySelectorAll('.scroll')].filter(e => e.checkVisibility()).map(e => (
      {{id: e.getAttribute('aria-labelledby'), wide: e.scrollWidth, room: e.clientWidth,
        first: e.querySelector('tbody th').getBoundingClientRect().width, told: !!e.querySelector('.sentences')}})),
    figures: figures.map(figure => {{
      const image = figure.querySelector('img');
      return {{id: figure.id, image: box(image), natural: image.naturalWidth, title: box(figure.querySelector('h3')),
               caption: box(figure.querySelector('figcaption')),
               letter: parseFloat(getComputedStyle(figure.querySelector('figcaption')).fontSize)}};
    }}),
  }};
}})()"""

program = browser.found()
pytestmark = pytest.mark.skipif(program is None, reason="no chromium here; install one, or name one in RMIOV2_BROWSER")


@pytest.fixture(scope="module")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's page with every figure there is."""
    root = write_run(tmp_path_factory.mktemp("page"))
    write_stress(root)
    for agent, level in (("rmiov2", 0.4), ("rmio", 0.3), ("mappo", 0.41), ("a_long_name_of_a_method", 0.1)):
        for seed in range(3):
            keep_seed(root / "docs/seeds", agent, seed, level + seed / 50, l_rec=agent.startswith("rmio"))
    return build(root, root / "reports", CELLS)


@pytest.fixture(scope="module", params=("run", "paper"))
def page(request: pytest.FixtureRequest, run_page: Path) -> Path:
    """That one, or the committed page of the paper's experiments."""
    return run_page if request.param == "run" else PAGE


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    assert program is not None
    with browser.Browser(program, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module", params=SIZES)
def layout(request: pytest.FixtureRequest, opened: browser.Browser, page: Path) -> Any:
    """Where everything lies; a screenshot is left in the folder that RMIOV2_SCREENSHOTS names."""
    width, height, media = SIZES[request.param]
    opened.open(page, width, height, mobile=request.param == "phone", media=media)
    if folder := os.environ.get("RMIOV2_SCREENSHOTS"):
        (Path(folder) / f"{page.stem}-{request.param}.png").write_bytes(opened.picture())
    return opened.ask(LAYOUT) | {"size": request.param}


def apart(one: dict[str, float], other: dict[str, float], slack: float = 0.5) -> bool:
    return (
        one["right"] <= other["left"] + slack or other["right"] <= one["left"] + slack
        or one["bottom"] <= other["top"] + slack or other["bottom"] <= one["top"] + slack
    )  # fmt: skip


def test_nothing_is_wider_than_what_it_is_read_on(layout: Any) -> None:
    width = SIZES[layout["size"]][0]
    assert layout["width"] == width and layout["content"] <= width
    assert [box for box in layout["all"] if box["left"] < -0.5 or box["right"] > width + 0.5] == []


def test_nothing_lies_upon_anything_else(layout: Any) -> None:
    assert len(layout["blocks"]) > 25
    pairs = combinations(layout["blocks"], 2)
    assert [(one["name"], other["name"]) for one, other in pairs if not apart(one, other)] == []


def test_a_figure_is_its_title_its_picture_and_its_words_each_in_its_place(layout: Any) -> None:
    assert len(layout["figures"]) > 10
    for figure in layout["figures"]:
        title, image, caption = figure["title"], figure["image"], figure["caption"]
        assert apart(title, image) and apart(image, caption) and apart(title, caption), figure["id"]
        assert figure["natural"] > 0 and image["bottom"] - image["top"] > 80 and figure["letter"] >= 11, figure["id"]


def test_every_table_fits_on_a_desk_and_its_first_column_can_be_read_on_a_phone(layout: Any) -> None:
    assert len(layout["tables"]) > 2
    if layout["size"] == "desktop":
        assert [table for table in layout["tables"] if table["wide"] > table["room"]] == []
    if layout["size"] == "phone":
        firsts = {table["id"]: table["first"] for table in layout["tables"]}
        assert max(firsts.values()) < 215, "more than half of the screen stays where it is"
        assert [table for table in layout["tables"] if table["told"] and table["first"] < 180] == []
        assert firsts.get("overview-table-1", 0) < 130, "names need no more"


FOLDS = """[...document.querySelectorAll('details.fold')].map(fold => (
  {open: fold.open, title: fold.querySelector('summary').textContent.trim(), reached: fold.children[0].tabIndex,
   scrolled: fold.querySelector('.scroll').tabIndex, shown: fold.querySelector('table').checkVisibility(),
   high: fold.getBoundingClientRect().height > fold.querySelector('table').getBoundingClientRect().height}))"""


def test_tables_that_few_read_are_closed_until_asked_for_and_open_in_print(opened: browser.Browser, page: Path) -> None:
    opened.open(page, *SIZES["desktop"][:2])
    closed = opened.ask(FOLDS)
    for part in (": costs", "Dark steps per episode", "by length of memory"):
        assert any(part in fold["title"] for fold in closed)
    assert not any(fold["open"] or fold["shown"] or fold["high"] for fold in closed)
    assert all(fold["reached"] == fold["scrolled"] == 0 for fold in closed)
    opened.ask("document.querySelectorAll('.fold summary').forEach(summary => summary.click())")
    assert all(fold["shown"] and fold["high"] for fold in opened.ask(FOLDS))
    opened.open(page, *SIZES["print"][:2], media="print")
    assert all(not fold["open"] and fold["shown"] and fold["high"] for fold in opened.ask(FOLDS))


def test_a_phone_gets_pictures_that_are_drawn_for_it(layout: Any) -> None:
    """Drawn 5.2 inches wide at 200 dots an inch; a wide one would have letters of half the size."""
    drawn = [figure["natural"] for figure in layout["figures"]]
    assert max(drawn) <= 1100 if layout["size"] == "phone" else max(drawn) > 2000
    shown = [figure["image"]["right"] - figure["image"]["left"] for figure in layout["figures"]]
    assert min(shown) > 300


def test_a_figure_fits_on_a_printed_page(layout: Any) -> None:
    tall = [(figure["id"], figure["caption"]["bottom"] - figure["title"]["top"]) for figure in layout["figures"]]
    if layout["size"] == "print":
        assert [(name, height) for name, height in tall if height > SIZES["print"][1]] == []


def test_the_page_prints(opened: browser.Browser, page: Path) -> None:
    opened.open(page, *SIZES["desktop"][:2])
    printed = opened.printed()
    assert printed.startswith(b"%PDF-") and printed.count(b"/Type /Page\n") >= 5
    if folder := os.environ.get("RMIOV2_SCREENSHOTS"):
        (Path(folder) / f"{page.stem}.pdf").write_bytes(printed)


def test_a_page_that_overlaps_or_is_too_wide_is_noticed(opened: browser.Browser, page: Path, tmp_path: Path) -> None:
    style = "<style>figcaption { margin-top: -60px !important } .lead { min-width: 500px }</style>"
    spoilt = tmp_path / "index.html"
    spoilt.write_text(page.read_text(encoding="utf-8").replace("</head>", f"{style}</head>"), encoding="utf-8")
    opened.open(spoilt, *SIZES["phone"][:2], mobile=True)
    found = opened.ask(LAYOUT)
    assert found["content"] > 390 and any(box["right"] > 391 for box in found["all"])
    assert not any(apart(figure["image"], figure["caption"]) for figure in found["figures"])


def test_two_boxes_are_apart_or_not() -> None:
    """The ruler itself: touching is apart, sharing a corner of a pixel and more is not."""
    box = {"left": 0, "right": 10, "top": 0, "bottom": 10}
    assert apart(box, box | {"left": 10, "right": 20}) and apart(box, box | {"top": 10, "bottom": 20})
    assert not apart(box, box | {"left": 8, "right": 20, "top": 8, "bottom": 20}) and not apart(box, box)
