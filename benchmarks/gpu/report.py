"""What the GPU benchmark prints: a table after each section, and at the end what was to be reached."""

from itertools import groupby

from utils import logs

_ASIDE = ("error", "not to be had", "aim")  # columns that are said below a table


def section(name, found) -> str:
    """The tables of a section, rows of the same columns together, and what went wrong."""
    parts = [f"{name}: {found['status']}, {found['seconds']:.0f} s"]
    for _, rows in groupby(found["rows"], key=lambda row: [key for key in row if key not in _ASIDE]):
        parts.append(logs.table([{key: _cell(value) for key, value in row.items() if key not in _ASIDE} for row in rows]))
    for row in found["rows"]:
        parts += [f"{said(row)}: {key}: {row[key]}" for key in _ASIDE if row.get(key)]
    if "error" in found:
        parts.append(f"{name}: {found['error']}")
    if found["status"] != "ok":
        parts += [f"    {line}" for line in found.get("log", ())]
    return "\n".join(parts) + "\n"


def summary(found) -> str:
    """One line for each section, then the aims and the checks that failed."""
    rows = [{"section": name, "status": each["status"], "seconds": each["seconds"], "rows": len(each["rows"])}
            for name, each in found["sections"].items()]  # fmt: skip
    lines = ["", logs.table(rows), ""]
    for name, each in found["sections"].items():
        lines += [f"{name}, {said(row)}: {row['aim']}" for row in each["rows"] if row.get("aim")]
        lines += [f"{name}, {said(row)}: did not pass" for row in each["rows"] if row.get("passed") is False]
    return "\n".join(lines)


def said(row) -> str:
    """What a row is about: its words, before the first measured number."""
    return " ".join(str(value) for key, value in row.items() if isinstance(value, str) and key not in _ASIDE)


def _cell(value):
    """Small numbers, of which a table's four decimals would leave nothing."""
    return f"{value:.2e}" if isinstance(value, float) and 0 < abs(value) < 1e-2 else value
