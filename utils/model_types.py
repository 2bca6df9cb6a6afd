"""--model_type, the papers' word for objective, family and head in one: `kdbert_cls` = kd + bert + cls; `ft`, `kd` alone will do."""

import re

OBJECTIVES = ("ft", "kd", "pkd", "sparse")
_HEADS = {"cls": ("classification", "regression"), "ner": ("tagging",)}
_DATA_TYPES = {"bert_cls": _HEADS["cls"], "bert_ner": _HEADS["ner"], "combined": _HEADS["cls"]}


def objective_of(model_type: str | None, default: str) -> str:
    """The objective that a model type begins with; the stage's default where none is given."""
    return default if model_type is None else re.match("pkd|ft|kd|sparse", model_type).group()


def check(args, kind: str, config: dict | None, *, objectives=OBJECTIVES):
    """Yield what is wrong with --model_type and --data_type for a task's kind and a checkpoint's config (None: not known yet)."""
    if args.data_type is not None:
        if args.data_type not in _DATA_TYPES:
            yield f"--data_type: {args.data_type!r} is not one of {', '.join(_DATA_TYPES)}"
        elif kind not in _DATA_TYPES[args.data_type]:
            yield f"--data_type {args.data_type}: --task_name {args.task_name} is a {kind} task"
    if args.model_type is None:
        return
    match = re.fullmatch(r"(pkd|ft|kd|sparse)([a-z0-9-]*?)(?:_(cls|ner))?", args.model_type)
    if match is None or match[1] not in objectives:
        yield f"--model_type: {args.model_type!r} does not begin with one of {', '.join(objectives)} (kdbert_cls, ft, ...)"
        return
    objective, family, head = match.groups()
    if head is not None and kind not in _HEADS[head]:
        yield f"--model_type {args.model_type}: --task_name {args.task_name} is a {kind} task"
    if objective == "pkd" and kind != "classification":
        yield f"--model_type {args.model_type}: patient distillation is for classification; {args.task_name} is a {kind} task"
    stock = config["model_type"].removeprefix("sparse-") if config else None
    if family and stock and family != stock.replace("-", "") and family != stock:
        yield f"--model_type {args.model_type}: the checkpoint's model_type is {config['model_type']}"
