"""Whether what a config.json says is of the kinds that are read from it.  Nothing here imports torch."""

from utils import families
from utils.errors import CheckpointError

_MOST = {"layers": 1000}  # building millions of layers would never end
_LARGEST = 10_000_000  # any other size
OWN_TASK = "own_task"  # key of config.json: what the user's own task is, without its files
_KINDS_OF_TASK = {  # what stands under it: name of the value, whether it is one, what is expected
    "name": (lambda value: isinstance(value, str) and value, "a name"),
    "kind": (
        lambda value: isinstance(value, str) and value in families.HEADS,
        "one of " + ", ".join(families.HEADS),
    ),
    "labels": (lambda value: _are_texts(value), "a list of names"),
    "tag_names": (lambda value: _are_texts(value), "a list of names"),
    "text": (lambda value: _are_texts(value) and 1 <= len(value) <= 2, "one or two columns"),
    "label": (lambda value: _are_texts(value) and value, "a list of columns"),
    "metric": (lambda value: isinstance(value, str), "a name"),
    "max_length": (lambda value: type(value) is int and 0 < value <= _LARGEST, "a number of tokens"),
    "score_range": (lambda value: _are_numbers(value) and len(value) == 2, "the lowest and highest score"),
    "spans": (lambda value: isinstance(value, dict) and _are_numbers([*value.values()]), "numbers by name"),
}
HOLD_OUT = "hold_out"  # key of config.json: {task: share of its training rows that no training has seen}
LENGTH = "distilled_length"  # key of config.json: tokens of the longest block of a relation distillation


def require_kinds(config: dict, file):
    """Raise CheckpointError where a config of a family that is supported has values of other kinds.  file:
    for the message."""
    for problem in _problems(config):
        raise CheckpointError(
            f"{file}: {problem}; the checkpoint is damaged or not one of this program's or transformers'"
        )


def _problems(config):
    names = dict(zip(families.SIZES, families.of(config["model_type"]).sizes)) | {"pieces": "vocab_size"}
    for which, name in names.items():
        value, most = config.get(name), _MOST.get(which, _LARGEST)
        if value is not None and (type(value) is not int or not 1 <= value <= most):
            yield f"{name}: found {_shown(value)}, expected a whole number from 1 to {most}"
    length = config.get(LENGTH)
    if length is not None and (type(length) is not int or not 1 <= length <= _LARGEST):
        yield f"{LENGTH}: found {_shown(length)}, expected a number of tokens"
    pad, pieces = config.get("pad_token_id"), config.get("vocab_size") or _LARGEST
    if pad is not None and (type(pad) is not int or not -pieces <= pad < pieces):
        yield f"pad_token_id: found {_shown(pad)}, expected the number of a piece, below vocab_size"
    shares = config.get(HOLD_OUT)
    if shares is not None and not (
        isinstance(shares, dict) and all(type(share) in (int, float) for share in shares.values())
    ):
        yield f"{HOLD_OUT}: found {_shown(shares)}, expected the share of each task's rows"
    found = config.get("architectures")
    if found is not None and not (isinstance(found, list) and all(isinstance(name, str) for name in found)):
        yield f"architectures: found {_shown(found)}, expected a list of names"
    for name, part in (("id2label", 0), ("label2id", 1)):
        labels = config.get(name)
        if labels is not None and not (
            isinstance(labels, dict) and all(_is_whole(pair[part]) for pair in labels.items())
        ):
            yield f"{name}: found {_shown(labels)}, expected labels with their ids"
    for name in ("attn_implementation", "_attn_implementation"):
        if "/" in str(config.get(name)):  # transformers would fetch code of that name and run it
            yield (
                f"{name}: found {_shown(config[name])}, expected the name of an implementation, none of code "
                "on the hub"
            )
    yield from _of_compression(config)
    yield from _of_own_task(config.get(OWN_TASK))


def _of_own_task(entry):
    if not isinstance(entry, dict):
        return  # not this program's
    for name, (fits, expected) in _KINDS_OF_TASK.items():
        if name in entry and not fits(entry[name]):
            yield f"{OWN_TASK}.{name}: found {_shown(entry[name])}, expected {expected}"
    lacking = {"text", "label"} - {*entry}
    if lacking and entry.get("kind") in ("classification", "multilabel", "regression"):
        yield f"{OWN_TASK}: found no {' and no '.join(sorted(lacking))}, expected the columns of its files"


def _of_compression(config):
    entry = config.get("compression")
    if entry is None:
        return
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
        yield f"compression: found {_shown(entry)}, expected an object with a kind"
        return
    if (entry["kind"] == "experts") != families.has_experts(config):
        yield (
            f"compression.kind: found {_shown(entry['kind'])}, expected one that goes with the model_type "
            f"{config['model_type']}"
        )
        return
    if families.has_experts(config):
        return  # models/moe_bert.py checks its own
    if type(entry.get("sparsity", 0)) not in (int, float) or not 0 <= entry.get("sparsity", 0) <= 100:
        yield f"compression.sparsity: found {_shown(entry['sparsity'])}, expected a percentage"
    points = entry.get("grid", {})
    if not isinstance(points, dict):
        yield f"compression.grid: found {_shown(points)}, expected an object"
        return
    for place, counts in [
        ("compression", entry),
        *((f"compression.grid.{key}", point) for key, point in points.items()),
    ]:
        if place != "compression" and not _is_percentage(place.rpartition("grid.")[2]):
            yield f"{place[:100]}: expected sparsities in percent as its keys"
        units = ("heads", "neurons") if isinstance(counts, dict) else ()
        if not units or not all(
            _are_counts(counts.get(unit), needed=place != "compression") for unit in units
        ):
            yield (
                f"{place[:100]}: found {_shown(counts)}, expected heads and neurons, whole numbers for each "
                "layer"
            )


def _are_counts(values, *, needed):
    if values is None:
        return not needed
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _are_texts(values):
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _are_numbers(values):
    return isinstance(values, list) and all(type(value) in (int, float) for value in values)


def _is_percentage(text):
    try:
        return 0 <= float(text) <= 100
    except ValueError:
        return False


def _is_whole(value):
    try:
        return type(value) in (int, str) and int(value) >= 0
    except ValueError:
        return False


def _shown(value):
    return repr(value)[:80]
