"""An evaluation's rows as text for the terminal and as flat columns for a CSV file."""

import csv

from utils import files, logs, timing


def text(rows, *, splits) -> str:
    """Three tables: metrics and size; time and memory, where they were measured; what is left in each layer.

    splits: names of the splits that were scored.
    """
    quality = [
        {
            "model": row["name"],
            **{key: value for key, value in row.items() if key.partition("/")[0] in splits},
            **{
                f"{key} - {row['compared_with']}": logs.interval(found)
                for key, found in row.get("difference", {}).items()
            },
            **sizes(row),
        }
        for row in rows
    ]
    speed = [
        {
            "model": row["name"],
            **{timed(case): _time(found) for case, found in row["speed"].items()},
            "examples/s": ", ".join(f"{found['examples_per_second']:.4g}" for found in row["speed"].values()),
            "peak MB": megabytes(row["peak_bytes"]),
        }
        for row in rows
        if "speed" in row
    ]
    layers = [
        {"model": row["name"], **{key: _list(values) for key, values in row["per_layer"].items()}}
        for row in rows
        if row["runtime"] == "torch"
    ]
    tables = [
        ("metrics and size", quality),
        ("median ms of a batch (quartiles)", speed),
        ("in each layer", layers),
    ]
    return "\n\n".join(f"{title}\n{logs.table(table)}" for title, table in tables if table)


def write_csv(path, rows):
    """One line for each row; what is nested becomes columns with a / in their names, lists become numbers
    with blanks between.

    A text that a spreadsheet would take for a formula (a folder called =HYPERLINK(...)) gets an apostrophe in
    front.
    """
    flat = [_flat(row) for row in rows]
    with files.new_file(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in flat for key in row)))
        writer.writeheader()
        writer.writerows(flat)


def panels(rows, metric) -> list:
    """What utils.plots.costs draws: the metric over MACs, and over the time of a batch of one and of 32 where
    all were timed on as many tokens."""

    def points(cost):
        return [
            {
                "name": row["name"],
                "metric": row[metric],
                "cost": cost(row),
                "kind": "teacher" if row["teacher"] else row["runtime"],
            }
            for row in rows
        ]

    made = [("MACs of the encoder, 128 tokens", points(lambda row: row["macs"]))]
    for case in rows[0].get("speed", {}):
        if not case.endswith(timing.REAL) and all(case in row["speed"] for row in rows):
            made.append(
                (f"ms: {timed(case)}", points(lambda row, case=case: row["speed"][case]["median_ms"]))
            )
    return made


def sizes(row) -> dict:
    """What a model takes, under the names that tables have for it; None for what is not known."""
    return {
        "parameters": row.get("parameters"),
        "of embeddings": row.get("embedding_parameters"),
        "of the encoder": row.get("encoder_parameters"),
        "MACs": row.get("macs"),
        "FLOPs": row.get("flops"),
        "MB on disk": megabytes(row.get("disk_bytes")),
    }


def megabytes(number) -> float | None:
    """Of a number of bytes, or None where it is not known."""
    return None if number is None else number / 1e6


def timed(case) -> str:
    """A case that is timed, as it is to be read: 1 x 128 tokens, 1 x real lengths."""
    size, _, tokens = case.partition("x")
    return f"{size} x {tokens} {'lengths' if tokens == timing.REAL else 'tokens'}"


def _flat(row, prefix=""):
    found = {}
    for key, value in row.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}/")
        else:
            found[prefix + key] = _list(value) if isinstance(value, list) else _no_formula(value)
    return found


def _no_formula(value):
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )


def _time(found):
    return f"{found['median_ms']:.4g} ({', '.join(f'{time:.4g}' for time in found['quartiles_ms'])})"


def _list(values):
    return " ".join(map(str, values))
