"""--model_type, the papers' word for objective, family and head: `kdbert_cls` = kd + bert + cls; `ft` or `kd`
alone will do."""

import re

from utils import families, metrics
from utils.flags.checks import check_spans, trained_with

_KINDS_OF_SUFFIX = {
    "cls": ("classification", "multilabel", "regression"),
    "ner": ("tagging",),
    "qa": ("spans",),
}
_DATA_TYPES = {
    "bert_cls": _KINDS_OF_SUFFIX["cls"],
    "bert_ner": _KINDS_OF_SUFFIX["ner"],
    "bert_qa": _KINDS_OF_SUFFIX["qa"],
    "combined": _KINDS_OF_SUFFIX["cls"],
}


def objective_of(model_type: str | None, default: str, objectives) -> str:
    """The objective that a model type begins with; the stage's default where none is given.  objectives: all
    names."""
    return default if model_type is None else _beginning(model_type, objectives)


def objective_options(args, objectives, *, default="sparse") -> dict:
    """What models.objective_for() takes of the flags of teachers.distillation().

    objectives: the module of that name.  default: the objective where --model_type names none.
    """
    weights = {name: getattr(args, f"{name}_weight") for name in objectives.TERMS}
    return {
        "name": objective_of(args.model_type, default, objectives.OBJECTIVES),
        "temperature": args.temperature,
        "weights": {name: weight for name, weight in weights.items() if weight is not None},
    }


def _beginning(model_type, objectives) -> str | None:
    return max((name for name in objectives if model_type.startswith(name)), key=len, default=None)


def check_model_type(args, task, config: dict | None, *, objectives: dict):
    """Yield what contradicts the task or a checkpoint's config (None: not known yet): model type, data type,
    selection metric, flags of spans.

    objectives: {name: row} of modules/objectives.py that the stage can train.
    task: an entry of the registry.  Where none is given the --max_length that a checkpoint was trained with,
    or else the task's own, and the task's selection metric are filled in.
    """
    if task is None:  # the parser has said so
        return
    kind = task.kind
    args.max_length = args.max_length or trained_with(args).get("max_length") or task.max_length
    yield from check_spans(args, kind)
    args.selection_metric = args.selection_metric or task.selection_metric
    known = dict.fromkeys([*task.metrics, *metrics.of_kind(kind, task.label_names)])
    if args.selection_metric not in known:
        yield f"--selection_metric: {args.selection_metric!r} is not one of {task.name}'s: {', '.join(known)}"
    if getattr(args, "class_weights", "none") != "none" and kind not in ("classification", "tagging"):
        yield f"--class_weights {args.class_weights}: {task.name} is a {kind} task, which has no classes"
    yield from _check_gold_labels(args, objectives)
    if args.data_type is not None:
        if args.data_type not in _DATA_TYPES:
            yield f"--data_type: {args.data_type!r} is not one of {', '.join(_DATA_TYPES)}"
        elif kind not in _DATA_TYPES[args.data_type]:
            yield f"--data_type {args.data_type}: --task_name {args.task_name} is a {kind} task"
    if args.model_type is None:
        return
    objective = _beginning(args.model_type, objectives)
    match = re.fullmatch(r"([a-z0-9_-]*?)(?:_(cls|ner|qa))?", args.model_type.removeprefix(objective or ""))
    if objective is None or match is None:
        yield (
            f"--model_type: found {args.model_type!r}; expected one of {', '.join(objectives)}, alone or "
            f"with a family and a head, like {next(iter(objectives))}bert_cls"
        )
        return
    family, suffix = match.groups()
    if suffix is not None and kind not in _KINDS_OF_SUFFIX[suffix]:
        yield f"--model_type {args.model_type}: --task_name {args.task_name} is a {kind} task"
    if objectives[objective].kinds and kind not in objectives[objective].kinds:
        allowed = " and ".join(objectives[objective].kinds)
        yield (
            f"--model_type {args.model_type}: {objective} is for {allowed}; {args.task_name} is a {kind} task"
        )
    if family and families.named(family) is None:
        yield (
            f"--model_type {args.model_type}: found family {family!r}; expected one of "
            f"{', '.join(families.FAMILIES)}"
        )
    elif family and config and families.named(family) != families.stock_type(config["model_type"]):
        yield f"--model_type {args.model_type}: the checkpoint's model_type is {config['model_type']}"


def _check_gold_labels(args, objectives):
    """Yield that class weights have no effect where no term looks at gold labels."""
    if getattr(args, "class_weights", "none") == "none":
        return
    name = objective_of(args.model_type, "sparse", objectives)
    if name in objectives and "task" not in objectives[name].terms:
        yield (
            f"--class_weights {args.class_weights}: no effect, {name} uses no gold labels; "
            "choose --model_type kd or pkd"
        )
    if getattr(args, "task_weight", None) == 0:
        yield f"--class_weights {args.class_weights}: no effect with --task_weight 0"


def check_unlabelled(args, default: str, objectives):
    """Yield what is wrong with the flags of teachers.unlabelled().  default: the objective where --model_type
    names none.  objectives: {name: row}."""
    name = objective_of(args.model_type, default, objectives)
    without = [other for other, row in objectives.items() if "task" not in row.terms]
    yield from check_more_text(args, None if name in (None, *without) else name, without)


def check_more_text(args, learning: str | None, others=()):
    """Yield what is wrong with the flags of teachers.unlabelled().

    learning: what has the loss against the gold labels, which --task_weight weighs; None: nothing has.
    others: objectives without it.
    """
    if not args.unlabelled_file:
        if args.unlabelled_only:
            yield "--unlabelled_only: has a meaning only with --unlabelled_file"
    elif learning and args.task_weight != 0:
        other = f", or an objective without it ({', '.join(others)})" if others else ""
        yield (
            f"--unlabelled_file: {learning} has the loss against the gold labels, which these rows lack; "
            f"expected --task_weight 0{other}"
        )


def check_terms(args, name: str | None, objectives: dict, *, choices=None, temperature=1.0):
    """Yield what is wrong with the weights of an objective's terms and with the temperature; fills in the
    latter.

    name: the objective; None where --model_type is wrong, as check_model_type() says.
    objectives: {name: row} of all that have flags.  choices: the names that this stage can train; None: all.
    temperature: what it is where none is given.
    """
    given, args.temperature = args.temperature, args.temperature or temperature
    if name is None:
        return
    terms = objectives[name].terms
    idle = {f"--{term}_weight": term for term in given_weights(args, objectives) if term not in terms}
    if given is not None and "soft_label" not in terms:
        idle["--temperature"] = "soft_label"
    for flag, term in idle.items():
        others = [other for other in choices or objectives if term in objectives[other].terms]
        choose = f", or choose --model_type {' or '.join(others)}" if others else ""
        yield f"{flag}: no effect, the loss of {name} is {' + '.join(terms)}; leave it out{choose}"
    if all(getattr(args, f"{term}_weight") == 0 for term in terms):
        yield f"{', '.join(f'--{term}_weight' for term in terms)}: all are 0; expected one above 0"


def given_weights(args, objectives: dict) -> list[str]:
    """The terms whose weights are given, among those of all objectives, {name: row}."""
    terms = dict.fromkeys(term for row in objectives.values() for term in row.terms)
    return [term for term in terms if getattr(args, f"{term}_weight") is not None]


def check_widths(args, name: str | None, terms, *, teacher: dict | None, student: dict | None):
    """Yield that a student of another width than the teacher cannot learn from its hidden states.

    name: the objective.  terms: those of its terms that compare hidden states.  teacher, student: configs,
    None where they are not known.
    """
    compared = sorted(term for term in terms if getattr(args, f"{term}_weight") != 0)
    widths = [families.size(config, "hidden") if config else None for config in (teacher, student)]
    if compared and None not in widths and widths[0] != widths[1]:
        yield (
            f"--student_model_path: {widths[1]} wide, the teacher {widths[0]}: {name} compares their hidden "
            f"states ({', '.join(compared)}); choose --model_type kd, or --{compared[0]}_weight 0, or a "
            "student of that width"
        )
