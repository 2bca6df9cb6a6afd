"""The page of a report: its frame, tables that sort, and the few lines of style and script that it carries in
itself."""

from html import escape

from utils.styles import short_number

_STYLE = """
:root { color-scheme: light; }
body { font: 14px/1.45 system-ui, sans-serif; color: #1a1a1a; margin: 0 auto; max-width: 1400px; padding: 1rem 1.5rem 4rem; }
h1 { font-size: 1.5rem; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; }
.note { color: #555; } .problem { color: #a40000; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .4rem; text-align: left; border-bottom: 1px solid #e2e2e2; }
td:first-child { min-width: 9rem; }
td[data-value] { text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid #999; vertical-align: bottom; padding: 0; }
th button { font: inherit; font-weight: 600; background: none; border: 0; padding: .2rem .4rem; cursor: pointer; text-align: left; }
th[aria-sort=ascending] button::after { content: " \\2191"; color: #000; }
th[aria-sort=descending] button::after { content: " \\2193"; color: #000; }
tbody tr:hover { background: #f4f7fa; } tr.chosen td { font-weight: 700; }
details { border: 1px solid #ddd; border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; font-weight: 600; } summary span { font-weight: 400; color: #555; }
.charts { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; }
figure { margin: .4rem 0; max-width: 100%; }
figure > svg { max-width: 100%; height: auto; }
figcaption { font-weight: 600; }
svg text { font: 12px system-ui, sans-serif; fill: #333; } svg .grid { stroke: #e4e4e4; }
svg text.name { font-size: 11px; paint-order: stroke; stroke: #fff; stroke-width: 3px; }
@media (max-width: 600px) { body { padding: 1rem .6rem; } td:first-child { min-width: 6rem; }
  figure { overflow-x: auto; } figure > svg { max-width: none; } }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; font-size: .85rem; max-width: 520px; }
.legend svg { margin-right: .3rem; vertical-align: middle; }
label { display: block; margin: .4rem 0; } input { font: inherit; padding: .2rem .4rem; min-width: 16rem; }
@media print { details { break-inside: avoid; } label { display: none; } }
"""

_SCRIPT = """
function value(row, column) {
  const cell = row.cells[column], given = cell.dataset.value;
  if (given !== undefined) return Number(given);
  return cell.textContent.trim();
}
function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return typeof a === "number" ? a - b : a.localeCompare(b, undefined, {numeric: true});
}
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
  const descending = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const rows = [...body.rows].map(row => [value(row, head.cellIndex), row]);
  rows.sort(([a], [b]) => a === "" || b === "" ? compare(a, b) : descending ? compare(b, a) : compare(a, b));
  body.append(...rows.map(([, row]) => row));
});
const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\\s+/).filter(Boolean);
  for (const item of document.querySelectorAll("[data-run]"))
    item.hidden = !words.every(word => item.dataset.run.toLowerCase().includes(word));
});
function open() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", open);
open();
"""


class Html(str):
    """Text that is HTML already."""


class Score(float):
    """A number that stands with four decimals, whole or not."""


_GENERATOR = '<meta name="generator" content="bert-compression report">'


def is_page(path) -> bool:
    """Whether a file is one of these pages, which may be replaced."""
    with open(path, encoding="utf-8", errors="replace") as file:
        head = file.read(4096)
    # Of before there was a generator's name
    return _GENERATOR in head or '\n<meta charset="utf-8">\n<title>Runs below ' in head


def page(title, body) -> str:
    """A whole page, which needs no other file.  body: HTML."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'{_GENERATOR}\n<meta name="viewport" '
        f'content="width=device-width">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<h1>{escape(title)}</h1>\n"
        f"{body}\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def table(rows, *, runs=None, chosen=None) -> str:
    """Rows as a table that sorts by the column whose head is clicked, numbers as numbers; empty cells go
    last.

    rows: {column: value}; Html values stand as they are; columns without any value are left out.  runs: the
    run that each row is about, for the filter.  chosen: the number of a row that stands out.
    """
    columns = dict.fromkeys(key for row in rows for key in row)
    columns = [column for column in columns if any(row.get(column) not in (None, "") for row in rows)]
    head = "".join(
        f'<th scope="col"><button type="button">{escape(str(column))}</button></th>' for column in columns
    )
    lines = []
    for index, row in enumerate(rows):
        about = f' data-run="{escape(runs[index])}"' if runs else ""
        mark = ' class="chosen"' if index == chosen else ""
        lines.append(f"<tr{about}{mark}>{''.join(_cell(row.get(column)) for column in columns)}</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
        "</div>"
    )


def _cell(value):
    if value is None:
        return "<td></td>"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td data-value="{value!r}">{_number(value)}</td>'
    return f"<td>{value if isinstance(value, Html) else escape(str(value))}</td>"


def _number(value):
    if isinstance(value, Score):
        return f"{value:.4f}"
    if abs(value) >= 1e5:
        return short_number(value)
    return (
        f"{value:,.0f}" if value == round(value) else f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
    )
