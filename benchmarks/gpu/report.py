"""What the GPU benchmark prints: a table after each section, and at the end what was to be reached."""

from utils import logs

BELOW = ("facts", "parts ms", "error", "not to be had", "aim")  # columns that are said below the table


def section(name, found) -> str:
    """The table of a section, what belongs to single rows, and what went wrong."""
    parts = [f"{name}: {found['status']}, {found['seconds']:.0f} s"]
    shown = [{key: _cell(value) for key, value in row.items() if key not in BELOW} for row in found["rows"]]
    parts += [logs.table(shown)] if shown else []
    parts += [
        f"{said(row)}: {key}: {_cell(row[key])}" for row in found["rows"] for key in BELOW if row.get(key)
    ]
    parts += [f"{name}: {found['error']}"] if "error" in found else []
    parts += [f"    {line}" for line in found.get("log", ())]
    return "\n".join(parts)


def summary(found) -> str:
    """One line for each section; then the aims, the checks that did not pass and what failed."""
    table = [
        {"section": name, "status": each["status"], "seconds": each["seconds"]}
        for name, each in found["sections"].items()
    ]
    lines = ["", logs.table(table), ""]
    for name, each in found["sections"].items():
        lines += [f"{name}: {each['error']}"] if "error" in each else []
        for row in each["rows"]:
            lines += [f"{name}, {said(row)}: {row['aim']}"] if row.get("aim") else []
            lines += [f"{name}, {said(row)}: did not pass"] if row.get("passed") is False else []
            lines += [f"{name}, {said(row)}: {row['error']}"] if "error" in row else []
    return "\n".join(lines)


def said(row) -> str:
    """What a row is about: its words, and the numbers among them."""
    words = []
    for key, value in row.items():
        if key in BELOW or isinstance(value, float | bool):
            break
        words.append(str(value))
    return ", ".join(word for word in words if word)


def _cell(value):
    """Small numbers, of which a table's four decimals would leave nothing; what belongs together on one
    line."""
    if isinstance(value, dict):
        short = {
            key: f"{item:.3g}" if isinstance(item, float) else _cell(item) for key, item in value.items()
        }
        return ", ".join(f"{key} {item}" for key, item in short.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-2 else value if abs(value) < 10 else round(value, 1)
    return value
