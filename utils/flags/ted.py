"""The flags of run_ted.py and what can be wrong with them, as far as configs and filter specifications
tell."""

from pathlib import Path

from utils import families, filter_specs
from utils.errors import CheckpointError
from utils.flags import model_types
from utils.flags.checks import check_config, check_hold_out, check_one_part, check_student, student_parts
from utils.flags.groups import model_path
from utils.flags.parser import idle, moderate, non_negative, positive_int, switch, width
from utils.flags.teachers import cache, teacher_dtype

DISTILLING = ("kd", "lwd", "ted")
STUDENTS = ("ft", *DISTILLING)
MODES = ("filters", *STUDENTS)
# Flag: the modes in which it has a meaning, and its value there where it is not given
_USES = {
    "model_path": (("filters",), None),
    "teacher_model_path": (STUDENTS, None),
    "student_model_path": (STUDENTS, None),
    "student_layer": (STUDENTS, None),
    "student_sparsity": (STUDENTS, None),
    "student_init": (STUDENTS, None),
    "task_weight": (DISTILLING, 1.0),
    "kl_alpha": (DISTILLING, 0.0),
    "mse_alpha": (("lwd", "ted"), 0.0),
    "temperature": (DISTILLING, 2.0),
    "regression_kl": (DISTILLING, "mse"),
    "pad_in_losses": (DISTILLING, False),
    "filter_interval": (("filters", "lwd", "ted"), None),
    "teacher_filter_interval": (("lwd", "ted"), None),
    "filter_output_dim": (("filters", "ted"), None),
    "filter_nonlinear": (("filters", "ted"), False),
    "filter_token": (("filters", "ted"), None),
    "filters": (("ted",), "all"),
    "cache_teacher": (("filters", *DISTILLING), False),
    "cache_dir": (("filters", *DISTILLING), None),
    "teacher_dtype": (DISTILLING, None),
    "hidn_dropout": (STUDENTS, None),
    "att_dropout": (STUDENTS, None),
    "gradient_checkpointing": (STUDENTS, False),
    "do_test": (STUDENTS, False),
    "do_infer": (STUDENTS, False),
}


def ted(parser):
    """The flag group of run_ted.py."""
    model_path(
        parser, "--model_path", "for --mode filters, the fine-tuned model that gets them", required=False
    )
    model_path(parser, "--teacher_model_path", "the teacher; for ted with its filters", required=False)
    model_path(
        parser, "--student_model_path", "the student; without it, a part of the teacher", required=False
    )
    add = parser.add_argument_group("ted").add_argument
    add("--mode", choices=MODES, required=True, help="stage or baseline; see the top of this help")
    add(
        "--student_init",
        choices=("pretrained", "finetuned", "stage1"),
        help="what the student starts from, see the top of this help (default: for ted stage1, else "
        "pretrained)",
    )
    add(
        "--filter_interval",
        type=positive_int,
        help="layers from one filter to the next; in stage II of the student's (default: 1)",
    )
    add(
        "--teacher_filter_interval",
        type=positive_int,
        help="stage II: that of the teacher's filters (default: 1)",
    )
    add("--filter_output_dim", type=width, help="size of a filter's output (default: the hidden size)")
    add(
        "--filter_nonlinear",
        nargs="?",
        const=True,
        default=False,
        type=switch,
        help="filters are two linear maps with a GELU between, not one",
    )
    add(
        "--filter_disabled",
        nargs="?",
        const=True,
        default=False,
        type=switch,
        help="the papers' word for --mode kd and lwd",
    )
    idle(parser, "squad2 has unanswerable questions", "--version_2_with_negative")
    add(
        "--filter_token",
        choices=("first", "mean"),
        help="tasks that label whole texts: what heads read of a filter's output: the first token, as "
        "published, or the mean over real tokens, which stage II then matches (default: first; in stage II "
        "that of stage I)",
    )
    add(
        "--filters",
        choices=("all", "above_chance"),
        help="stage II: above_chance: match only pairs whose heads both beat chance (default: all)",
    )
    add(
        "--task_weight",
        type=non_negative,
        help="weight of the loss against the gold labels, 0 for text without any (default: 1, as published)",
    )
    add(
        "--kl_alpha",
        type=non_negative,
        help="weight of the divergence from the teacher's answers (default: 0)",
    )
    add("--mse_alpha", type=non_negative, help="weight of the distance of filtered states (default: 0)")
    add("--temperature", type=moderate, help="temperature of the divergence (default: 2)")
    add(
        "--regression_kl",
        choices=("mse", "listwise"),
        help="regression: distance from the teacher's scores; listwise: of softmaxes over the batch "
        "(default: mse)",
    )
    add("--pad_in_losses", action="store_true", help="count padding in MSE and KL, as published")
    cache(add, "the frozen model's outputs")
    teacher_dtype(add)


def name(args) -> str:
    """What identifies a run: task, mode, the model that gets filters."""
    model = f"_{Path(args.model_path).name}" if args.mode == "filters" else ""
    return f"{args.task_name}_{args.mode}{model}"


def filter_options(args) -> dict:
    """What the flags say of new filters, by the names that models.new_filters() takes it under."""
    interval = args.filter_interval or 1
    return {"task": args.task_name, "interval": interval, "nonlinear": args.filter_nonlinear}


def wanted_filters(args) -> dict:
    """What the flags say of a checkpoint's filters, for models.load_filters()."""
    return {
        "task": args.task_name,
        "output_dim": args.filter_output_dim,
        "nonlinear": args.filter_nonlinear,
        "token": args.filter_token,
    }


def objective_options(args) -> dict:
    """What modules.filters.LayerwiseObjective takes; nothing for the task loss alone."""
    if args.mode == "ft":
        return {}
    return {
        "task_weight": args.task_weight,
        "kl_alpha": args.kl_alpha,
        "mse_alpha": args.mse_alpha or 0.0,
        "temperature": args.temperature,
        "pad_in_losses": args.pad_in_losses,
        "listwise": args.regression_kl == "listwise",
    }


def check_ted(args, task):
    """Yield what is wrong; fill in what follows from --mode.  task: an entry of the registry."""
    if args.filter_disabled and args.mode not in (None, "kd", "lwd"):
        yield f"--filter_disabled: contradicts --mode {args.mode}; it belongs to kd and lwd"
    del args.filter_disabled
    if args.mode is None:  # the parser has said so
        return
    for flag, (modes, default) in _USES.items():
        given = getattr(args, flag)
        if given is not None and given is not False and args.mode not in modes:
            yield f"--{flag}: has no meaning with --mode {args.mode}; it belongs to {', '.join(modes)}"
        elif given is None and args.mode in modes:
            setattr(args, flag, default)
    if args.mode in STUDENTS and args.student_init is None:
        args.student_init = "stage1" if args.mode == "ted" else "pretrained"
    configs = {}
    for flag in ("model_path", "teacher_model_path", "student_model_path"):
        configs[flag] = yield from check_config(args, flag)
        yield from model_types.check_model_type(args, task, configs[flag], objectives={})
    trained = [
        "model_path",
        "teacher_model_path",
        *(["student_model_path"] if args.student_init != "pretrained" else []),
    ]
    yield from check_hold_out(args, configs, trained=trained)
    if args.filter_token is not None and task and task.kind in families.PER_TOKEN:
        yield (
            f"--filter_token: {task.name} is a {task.kind} task, whose filters use every token; leave it out"
        )
    if args.mode not in DISTILLING and (args.unlabelled_file or args.unlabelled_only):
        what = "the filters' task heads learn" if args.mode == "filters" else "the student learns"
        yield (
            f"--unlabelled_file, --unlabelled_only: with --mode {args.mode} {what} from gold labels, which "
            f"these rows lack; they belong to {', '.join(DISTILLING)}"
        )
    if args.mode == "filters":
        if args.model_path is None:
            yield "--model_path: required, the fine-tuned model that gets filters"
        return
    yield from _check_student(args, configs)
    if args.mode in DISTILLING:
        if args.teacher_model_path is None:
            yield "--teacher_model_path: required"
        needed = "kl_alpha" if args.mode == "kd" else "mse_alpha"
        if not getattr(args, needed):
            yield (
                f"--{needed}: 0 leaves nothing of --mode {args.mode}; deberta_scripts/ has the published "
                "weights"
            )
        yield from model_types.check_more_text(args, f"--mode {args.mode}")
        if args.task_weight == 0 and not args.kl_alpha:
            yield (
                "--task_weight 0: without --kl_alpha nothing teaches the student's task head; give a weight "
                "above 0 to one of them"
            )
        if args.pad_in_losses and args.cache_teacher:
            yield "--pad_in_losses and --cache_teacher: what a teacher makes of padding is not kept; give one"
        if args.regression_kl == "listwise" and task and task.kind != "regression":
            yield f"--regression_kl listwise: {task.name} is a {task.kind} task"
    if task and (configs["teacher_model_path"] or configs["student_model_path"]):
        yield from _check_filters(args, task, configs)


def _check_student(args, configs):
    """What is wrong with where the student comes from."""
    parts, own = student_parts(args), args.student_model_path
    yield from check_one_part(parts)
    if own is None and not (parts and args.teacher_model_path):
        yield "--student_model_path: required, or a part of the teacher (--student_layer, --student_sparsity)"
    if own and args.mode == "ft" and args.teacher_model_path:
        yield "--teacher_model_path: has no meaning with --mode ft where --student_model_path is given"
    if args.student_init == "stage1" and (parts or own is None):
        yield "--student_init stage1: filters belong to a whole model; expected --student_model_path alone"
    source = "student_model_path" if own else "teacher_model_path"
    for flag, part in parts if configs[source] else ():
        yield from check_student(part, configs[source], flag, source=source.partition("_")[0])


def _check_filters(args, task, configs):
    """What is wrong with filters that lie beside the checkpoints, and whether those of both sides can be
    matched."""
    layers, dims, specs = {}, {}, {}
    for side, prefix in (("student", ""), ("teacher", "teacher_")):
        path = getattr(args, f"{side}_model_path")
        known = configs[f"{side}_model_path" if path else "teacher_model_path"]
        number = known and families.size(known, "layers")
        if side == "student" and args.student_layer:
            number = args.student_layer
        interval = getattr(args, f"{prefix}filter_interval")
        if number:
            layers[side] = filter_specs.filtered_layers(number, interval or 1)
        if (
            known is None
            or path is None
            or not (args.student_init == "stage1" if side == "student" else args.mode == "ted")
        ):
            continue
        try:
            spec = filter_specs.read_spec(path)
        except CheckpointError as error:
            yield f"--{side}_model_path: {error}"
            layers.pop(side, None)
            continue
        if spec is None:  # on the hub: checked when it is loaded
            continue
        problems = [*filter_specs.misfits(spec, task=task.name, num_layers=number)]
        if args.mode == "ted":
            wanted = {
                "interval": interval,
                "output_dim": args.filter_output_dim,
                "nonlinear": args.filter_nonlinear,
            }
            problems += filter_specs.contradictions(spec, **wanted, token=args.filter_token, prefix=prefix)
            layers[side], dims[side], specs[side] = spec.layers, spec.output_dim, spec
        yield from (f"--{side}_model_path: {path}: its filters do not fit: {problem}" for problem in problems)
    if any(spec.pooled for spec in specs.values()) and args.pad_in_losses:
        yield (
            "--pad_in_losses: these filters were trained with --filter_token mean, over real tokens; leave "
            "it out"
        )
    if args.filters == "above_chance" and args.student_init != "stage1":
        yield (
            f"--filters above_chance: with --student_init {args.student_init} the student's filters are new, "
            "and have had no heads; expected --student_init stage1"
        )
    if args.mode in ("lwd", "ted") and len(layers) == 2:
        tokens = (
            [filter_specs.token_of(specs[side]) for side in ("student", "teacher")]
            if len(specs) == 2
            else None
        )
        problems = [
            *filter_specs.unmatched(
                layers["student"], layers["teacher"], dims.get("student"), dims.get("teacher"), tokens
            )
        ]
        yield from problems
        if args.filters == "above_chance" and len(specs) == 2 and not problems:
            try:
                filter_specs.above_chance(specs["student"], specs["teacher"])
            except CheckpointError as error:
                yield str(error)
