"""Data Docs that can be read without a network: nothing in them is loaded from elsewhere, and a page leads to them.

As Great Expectations draws them they fetch styles, scripts and a logo from seven hosts, and without these the index is
empty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from pipelines.gates.suites import Verdict
from rmiov2.files import write_bytes

ELSEWHERE = re.compile(r"<(script|style|footer)\b.*?</\1>|<(link|img)\b[^>]*https?://[^>]*>", re.DOTALL)

STYLE = """<style>
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem; color: #22262b; font: 16px/1.5 system-ui, sans-serif; }
a { color: #0b5fa5; }
h1 { font-size: 1.5rem; margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; margin: 0 0 1.5rem; font-size: .92rem; }
caption { text-align: left; font-weight: 600; padding: .4rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid #e1e4e9; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.broken { color: #a4161a; font-weight: 600; }
.warning { color: #8a5a00; font-weight: 600; }
.text-success::before { content: "met"; }
.text-danger::before { content: "broken"; font-style: normal; font-weight: 600; }
.text-warning::before { content: "warning"; font-style: normal; font-weight: 600; }
nav:not(.navbar, .navbar *), .card { display: none; }
.ge-breadcrumbs { padding: 0; list-style: none; }
</style>
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>gate {{ gate }}</title>
<link rel="icon" href="data:,">
{{ style }}</head>
<body>
<p><a href="../../index.html">the report</a></p>
<h1>{{ data }}: {{ met }} of {{ verdicts | length }} expectations are met</h1>
{% for table in tables %}
<table>
<caption><a href="{{ pages[table] }}">{{ table }}</a></caption>
<thead>
<tr><th>expectation</th><th>says</th><th class="number">rows</th><th class="number">unexpected</th></tr>
</thead>
<tbody>
{% for verdict in verdicts if verdict.table == table %}
<tr{% if not verdict.passed %} class="{{ "warning" if verdict.rule.warns else "broken" }}"{% endif %}>
<td>{{ verdict.rule.name }}</td>
<td>{{ verdict.rule.says }}{% for place in verdict.places %}<br>{{ place }}{% endfor %}</td>
<td class="number">{{ verdict.rows }}</td><td class="number">{{ verdict.unexpected }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endfor %}
</body>
</html>
"""


def finish(folder: Path, gate: str, data: str, verdicts: Sequence[Verdict]) -> None:
    """Cut from the pages in folder what they load from elsewhere, and write index.html, which leads to them."""
    for path in folder.rglob("*.html"):
        text = ELSEWHERE.sub("", path.read_text(encoding="utf-8"))
        path.write_text(text.replace("</head>", f"{STYLE}</head>", 1), encoding="utf-8")
    tables = list(dict.fromkeys(verdict.table for verdict in verdicts))
    pages = {table: _page_of(folder, table) for table in tables}
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = environment.from_string(PAGE).render(
        gate=gate,
        data=data,
        verdicts=verdicts,
        met=sum(verdict.passed for verdict in verdicts),
        tables=tables,
        pages=pages,
        style=Markup(STYLE),
    )
    write_bytes(folder / "index.html", page.encode())


def _page_of(folder: Path, table: str) -> str:
    """The only validation of a table."""
    (page,) = (folder / "validations" / table).rglob("*.html")
    return page.relative_to(folder).as_posix()
