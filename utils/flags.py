"""Command-line flags: the shared groups, declared once, and a parser that reports every problem in one message.

Nothing here imports torch, so that `--help` answers at once.
"""

import argparse
import importlib.util
import itertools
import math
import sys
from pathlib import Path

from utils import checkpoints, families
from utils.errors import CheckpointError, FlagError

# Flags that may change between two starts of the same run: they alter neither the data nor the weights.
NOT_SETTINGS = {
    "output_dir", "overwrite", "debug", "log_interval", "report_to", "dry_run", "do_train", "do_test", "do_infer",
    "save_minutes", "stage", "hops_dir", "num_workers", "infer_split",
}  # fmt: skip
# What --task_name squad2 has besides, with the published values; other tasks refuse these flags
SPANS = {"doc_stride": 128, "max_query_length": 64, "max_answer_length": 30, "num_best": 20, "null_threshold": 0.0}
# Flags that may change once the run has finished: they only say how a model's scores become answers
OF_ANSWERS = {"max_answer_length", "num_best", "null_threshold"}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that collects problems instead of stopping at the first one."""

    def __init__(self, doc: str):
        super().__init__(description=doc, formatter_class=_Formatter, allow_abbrev=False)
        self.problems = []
        self.required = []

    def add_argument_group(self, *args, **kwargs):
        """A titled group whose required flags are collected too."""
        group = super().add_argument_group(*args, **kwargs)
        add = group.add_argument

        def add_argument(*names, required=False, **options):
            action = add(*names, **options)
            if required:
                self.required.append(action)
            return action

        group.add_argument = add_argument
        return group

    def _get_value(self, action, arg_string):
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            self.problems.append(str(error).removeprefix("argument "))
            return action.default

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices and value != action.default:
            choices = ", ".join(map(str, action.choices))
            self.problems.append(f"{'/'.join(action.option_strings)}: {value!r} is not one of {choices}")

    def error(self, message):
        """A malformed command line (a flag without its value): nothing after it can be trusted."""
        raise FlagError(
            "\n".join(["the flags cannot be used:", *(f"  {p}" for p in [*self.problems, message.removeprefix("argument ")])])
        )


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action):
        if action.default in (None, False, "") or not action.option_strings:
            return action.help
        return super()._get_help_string(action)


def _number(kind, low, high, low_open, described):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high) or (low_open and value == low):
            raise argparse.ArgumentTypeError(f"{text!r} is not {described}")
        return value

    return parse


positive_int = _number(int, 1, math.inf, False, "a whole number of at least 1")
count = _number(int, 0, math.inf, False, "a whole number of at least 0")
positive = _number(float, 0, sys.float_info.max, True, "a number above 0")
non_negative = _number(float, 0, sys.float_info.max, False, "a number of at least 0")
fraction = _number(float, 0, 1, False, "a number from 0 to 1")
percent = _number(float, 0, 100, False, "a percentage from 0 to 100")
finite = _number(float, -sys.float_info.max, sys.float_info.max, False, "a number")


def task(names):
    """The flag group that says which task and where its files are.  names: the registry's task names."""

    def add(parser):
        group = parser.add_argument_group("task")
        group.add_argument("--task_name", choices=names, required=True, help="which task", metavar="NAME")
        group.add_argument("--data_dir", default="datasets", help="the parent of the <task>/ folders, or the folder itself")
        group.add_argument("--data_type", help="input pipeline: bert_cls, bert_ner, bert_qa or combined; follows the task")
        group.add_argument("--max_length", "--max_seq_length", type=positive_int, help="tokens, with specials; 128, squad2: 384")
        group.add_argument("--max_train_samples", type=positive_int, help="use this many training rows, a fixed sample")
        group.add_argument("--max_eval_samples", type=positive_int, help="score this many dev rows, a fixed sample; all")
        group.add_argument("--selection_metric", help="the dev metric that chooses checkpoints; the task's own")
        held_out(group)
        group.add_argument("--do_train", action="store_true", help="train (what is done when none of the three is given)")
        group.add_argument("--do_test", action="store_true", help="score the labelled test file with the selected model")
        group.add_argument("--do_infer", action="store_true", help="write predictions for the unlabelled test file")
        group.add_argument("--infer_split", choices=("test", "dev"), default="test", help="of --do_infer")
        spans(parser)

    return add


def held_out(group):
    """The flags that say which rows of train choose whatever is chosen.  check_hold_out() checks them."""
    group.add_argument("--hold_out", type=fraction, metavar="SHARE",
        help="share of train that no stage trains on and that chooses instead of dev, told by the rows' text: 0.1; what the "
        "checkpoints say, else 0: dev chooses")  # fmt: skip
    group.add_argument("--teacher_saw_hold_out", action="store_true",
        help="a checkpoint that may have been trained on these rows is used all the same; the report repeats it")  # fmt: skip


def check_hold_out(args, configs: dict, *, trained=()):
    """Yield what is wrong with the flags of held_out(); fills in the share that the checkpoints record.

    configs: {flag: config or None} of the checkpoints.  trained: the flags of those that have been trained on the task.
    """
    task = args.task_name
    shares = {f"--{flag}": share for flag, config in configs.items() if (share := checkpoints.hold_out(config, task))}
    if args.hold_out is not None:
        shares["--hold_out"] = args.hold_out
    if len({*shares.values()}) > 1:
        said = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        yield f"--hold_out: the share of {task}'s training rows that are held out differs: {said}; expected one for all stages"
        return
    args.hold_out = next(iter(shares.values()), 0.0)
    if args.hold_out == 1:
        yield "--hold_out 1: leaves nothing to train on; expected a share below 1"
    if not args.hold_out:
        if args.teacher_saw_hold_out:
            yield "--teacher_saw_hold_out: has a meaning only with --hold_out"
        return
    if getattr(args, "scoring_split", "train") != "train":
        yield f"--scoring_split {args.scoring_split}: with --hold_out units are scored on train; leave one of them out"
    for flag in trained:
        if getattr(args, flag, True) and f"--{flag}" not in shares and not args.teacher_saw_hold_out:
            yield (
                f"--{flag}: nothing in its config says that it was trained without the rows of {task} that --hold_out "
                f"{args.hold_out:g} keeps apart; it would be judged by rows that it knows: train it with --hold_out too, or add "
                "--teacher_saw_hold_out"
            )


def spans(parser):
    """The flag group of tasks that answer questions with a part of a text.  check_spans() checks it."""
    add = parser.add_argument_group("spans (--task_name squad2)").add_argument
    for flag, kind, what in (
        ("--doc_stride", count, "tokens that two neighbouring windows of a context share"),
        ("--max_query_length", positive_int, "tokens of a question; longer ones are cut"),
        ("--max_answer_length", positive_int, "tokens of an answer"),
        ("--num_best --n_best_size", positive_int, "starts and ends looked at in each window, and answers kept"),
        ("--null_threshold --null_score_diff_threshold", finite, "no answer where its score exceeds the best one's by more"),
    ):
        names = flag.split()
        add(*names, type=kind, help=f"{what}; {SPANS[names[0].removeprefix('--')]}")


def check_spans(args, kind):
    """Yield what is wrong with the flags of spans() for a kind of task; fills in their defaults where they have a meaning."""
    for name, default in SPANS.items():
        if kind == "spans" and getattr(args, name) is None:
            setattr(args, name, default)
        elif kind != "spans" and getattr(args, name) is not None:
            yield f"--{name}: has a meaning only for questions about a text (squad2); {args.task_name} is a {kind} task"


def training(parser):
    """The flag group of every stage that trains.  Defaults are the papers'."""
    group = parser.add_argument_group("training")
    add = group.add_argument
    add("--per_device_train_batch_size", "--train_batch_size", type=positive_int, default=32, help="examples per process")
    add("--num_grad_accum_steps", "--gradient_accumulation_steps", type=positive_int, default=1,
        help="micro-batches per update; the update is that of one batch as large as all of them")  # fmt: skip
    add("--learning_rate", type=positive, default=3e-5, help="peak")
    add("--weight_decay", type=non_negative, default=0.01, help="on matrices, not on biases and norms")
    add("--adam_beta1", type=fraction, default=0.9)
    add("--adam_beta2", type=fraction, default=0.999)
    add("--adam_epsilon", type=positive, default=1e-6)
    add("--max_grad_norm", type=non_negative, default=5.0, help="clip the gradient's norm; 0: never")
    add("--num_train_epochs", type=positive_int, default=10)
    add("--max_steps", type=positive_int, help="stop after this many updates")
    add("--num_patience_epochs", type=positive_int, default=5, help="stop after this many epochs without improvement")
    add("--lr_scheduler_type", choices=("linear", "cosine", "constant"), default="linear", help="after the warm-up")
    add("--warmup_proportion", "--warmup_ratio", type=fraction, default=0.1, help="share of the updates")
    add("--eval_interval", "--eval_steps", type=count, default=0, help="updates between evaluations; 0: once an epoch")
    for name, what in (("cls", "of the task head"), ("hidn", "of hidden states"), ("att", "of attention probabilities")):
        add(f"--{name}_dropout", type=fraction, help=f"dropout {what}; the checkpoint's")


def folder(parser):
    """The flag group of a script that makes a run folder; returns it."""
    group = parser.add_argument_group("run")
    add = group.add_argument
    add("--output_dir", help="the run folder; outputs/<stage>/<what identifies the run>")
    add("--overwrite", action="store_true", help="start afresh where a run with this folder exists")
    add("--seed", type=count, default=776)
    add("--dry_run", action="store_true", help="a few rows and updates through every step; leaves nothing behind")
    add("--debug", action="store_true", help="show tracebacks of users' errors")
    return group


def inference(parser):
    """The flag group of a script that runs a model: where results go, on what it runs; returns it."""
    group = folder(parser)
    add = group.add_argument
    add("--per_device_eval_batch_size", "--eval_batch_size", type=positive_int, default=32, help="examples per process")
    add("--precision", choices=("fp32", "bf16", "fp16"), help="bf16 on a GPU that has it, else fp32")
    add("--use_fp16", action="store_true", help="the same as --precision fp16")
    add("--use_cpu", action="store_true", help="do not use a GPU")
    return group


def runtime(parser):
    """The flag group of every stage that trains: where results go, on what it runs, what is printed."""
    add = inference(parser).add_argument
    add("--compile", action="store_true", help="torch.compile the trained model")
    add("--log_interval", "--logging_steps", type=positive_int, default=50, help="updates between log lines")
    add("--save_minutes", type=non_negative, default=5, help="minutes between states for resuming; 0: at every evaluation")
    add("--report_to", choices=("none", "tensorboard", "wandb", "trackio"), default="none", help="a tracker beside the log")


def scoring(parser):
    """The flag group of the stages that score heads and neurons."""
    add = parser.add_argument_group("scoring").add_argument
    add("--scoring_split", choices=("train", "dev"), default="train", help="where importance is measured")
    add("--num_scoring_samples", type=positive_int, help="rows of it, a fixed sample; all")
    add("--scoring_batch_size", type=positive_int, default=32, help="the absolute value is taken per batch of this size")


def student(parser):
    """The flag group of StarK's names for the part of a checkpoint that is a student."""
    add = parser.add_argument_group("student").add_argument
    add("--student_sparsity", type=percent, help="the crop of a nested checkpoint at this sparsity, in percent: 70")
    add("--student_layer", type=positive_int, help="so many of its layers: 4")
    add("--layer_choice", choices=("first", "even"), default="first", help="which layers are kept")


def student_parts(args) -> list[tuple[str, str]]:
    """[(flag, 4L or 70S)] of the flags that say which part of a checkpoint the student is; one, if they do not contradict."""
    number, layers, wanted = args.student_sparsity, args.student_layer, getattr(args, "layer_or_sparsity", None)
    given = {
        "--layer_or_sparsity": wanted,
        "--student_sparsity": None if number is None else f"{number:g}S",
        "--student_layer": None if layers is None else f"{layers}L",
    }
    return [(flag, part) for flag, part in given.items() if part is not None]


def model_path(parser, flag, role, *, aliases=(), required=True, default=None):
    """Declare a flag that names a model: a hub name, a checkpoint folder or a run folder."""
    group = parser.add_argument_group("models") if not hasattr(parser, "_models") else parser._models
    parser._models = group
    group.add_argument(flag, *aliases, required=required and default is None, default=default, metavar="PATH",
                       help=f"{role}: a hub name, a checkpoint folder or a run folder")  # fmt: skip


def parser(doc: str, *groups) -> Parser:
    """A parser with the shared groups in it.  doc: the script's docstring, shown by --help."""
    result = Parser(doc)
    for group in groups:
        group(result)
    return result


def resolve(parser: Parser, argv=None, *, stage: str, name, check=None) -> argparse.Namespace:
    """Parse, check everything that can be checked without a model, and fill in what follows from the rest.

    stage: the first folder below outputs/.  name(args): the second.  check(args): yields what else is wrong, as strings.
    Raises FlagError with all problems in one message.
    """
    args, unknown = parser.parse_known_args(argv)
    problems = parser.problems
    problems += [f"{flag}: no such flag (see --help)" for flag in unknown if flag.startswith("-")]
    problems += [f"{word!r}: belongs to no flag" for word in unknown if not word.startswith("-")]
    problems += [f"{'/'.join(a.option_strings)}: required" for a in parser.required if getattr(args, a.dest) is None]
    args.stage = stage
    if hasattr(args, "use_fp16"):
        if args.use_fp16 and args.precision not in (None, "fp16"):
            problems.append(f"--use_fp16 contradicts --precision {args.precision}")
        args.precision = "fp16" if args.use_fp16 else args.precision
        del args.use_fp16
    if getattr(args, "report_to", "none") != "none" and importlib.util.find_spec(args.report_to) is None:
        extra = "-r requirements-tensorboard.txt" if args.report_to == "tensorboard" else args.report_to
        problems.append(f"--report_to {args.report_to}: not installed (pip install {extra})")
    if hasattr(args, "do_train") and not (args.do_test or args.do_infer):
        args.do_train = True
    if not problems and check is not None:
        problems += list(check(args))
    if problems:
        raise FlagError("\n".join(["the flags cannot be used:", *(f"  {problem}" for problem in dict.fromkeys(problems))]))
    if args.output_dir is None:
        args.output_dir = str(Path("outputs") / stage / name(args))
    return args


def config_of(args, flag: str):
    """(config, problem) of the checkpoint that a path flag names; config is None for a hub name or where it is unusable."""
    path = getattr(args, flag)
    try:
        return (checkpoints.read_config(path) if path is not None else None), None
    except CheckpointError as error:
        return None, f"--{flag}: {error}"


def named(args, message: str) -> str:
    """A message that begins with the value of a path flag, with the flag's name in front."""
    for key, value in vars(args).items() if args is not None else ():
        paths = [value] if isinstance(value, str) else value
        if key.endswith("_path") and paths and any(message.startswith(str(path)) for path in paths):
            return f"--{key}: {message}"
    return message


def settings(args) -> dict:
    """The flags that make the run what it is: a run is continued only if they have not changed."""
    return {key: value for key, value in sorted(vars(args).items()) if key not in NOT_SETTINGS}


def percentages(text: str) -> list[float]:
    """A flag type: comma-separated sparsities in percent, `80,90` or `80,90S`, ascending and without repeats."""
    values = sorted({percent(part.strip().removesuffix("S")) for part in text.split(",") if part.strip()})
    if not values or values[-1] >= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected percentages below 100, like 0,50,90")
    return [int(value) if value == int(value) else value for value in values]


def candidates(text: str):
    """A flag type: `tens`, `grid`, or comma-separated sparsities in percent."""
    return text if text in ("tens", "grid") else percentages(text)


def rates(text: str) -> list[float]:
    """A flag type: comma-separated learning rates, `6e-4,3e-4`."""
    return [positive(part.strip()) for part in text.split(",")]


def check_candidates(args, config: dict):
    """Yield what is wrong with a list of --candidates for a teacher with this config and --target_sparsity."""
    compression = config.get("compression") or {}
    grid = sorted(float(key) for key in compression.get("grid", {}))
    if isinstance(args.candidates, str) or not grid:
        return
    own, shown = compression.get("sparsity", 0), ", ".join(f"{s:g}" for s in args.candidates)
    points = ", ".join(f"{s:g}" for s in grid)
    if not all(s in grid for s in args.candidates):
        yield f"--candidates {shown}: not all in the teacher's grid: {points}"
    elif not all(own < s < args.target_sparsity for s in args.candidates):
        yield (
            f"--candidates {shown}: expected sparsities between the teacher's, {own:g}, and the student's, "
            f"{args.target_sparsity:g}; the teacher's grid: {points}"
        )


def distillation(parser):
    """The flag group of every stage that learns from a teacher's outputs."""
    add = parser.add_argument_group("distillation").add_argument
    add("--model_type", help="objective and family: sparsebert_cls, kdbert_cls, pkdbert_cls, ftbert_cls, ..._ner, or kd, ft")
    add("--temperature", type=positive, default=1.0, help="of the soft labels")
    for term in ("hidden", "patient", "soft_label", "task"):
        add(f"--{term}_weight", type=non_negative, help="weight of this term; 1 over the number of the objective's terms")
    add("--cache_teacher", action="store_true", help="keep the teacher's outputs for train in memory, computed once")


def experts(parser):
    """The flag group of stages that train a student which may have experts."""
    add = parser.add_argument_group("experts").add_argument
    add("--load_balance_weight", type=non_negative, help="of the loss that spreads tokens over the student's experts; 0.01")


def check_experts(args, config: dict | None):
    """Yield what is wrong with a flag of experts() for a student with this config; None: not known yet."""
    if args.load_balance_weight is not None and config is not None and not families.has_experts(config):
        yield f"--load_balance_weight: the student ({config['model_type']}) has no experts; leave it out"


def check_dense(config: dict | None, flag: str):
    """Yield what is wrong with removing heads and neurons from a checkpoint with this config; None: not known yet."""
    if families.has_experts(config):
        yield f"{flag}: has experts ({config['model_type']}); heads and neurons are scored and removed in dense models only"


def weights(args) -> dict:
    """The term weights given by flags."""
    names = ("hidden", "patient", "soft_label", "task")
    return {name: getattr(args, f"{name}_weight") for name in names if getattr(args, f"{name}_weight") is not None}


def layer_or_sparsity(text: str) -> str:
    """A flag type: `4L` (keep 4 layers) or `90S` (drop 90% of heads and neurons), in one spelling."""
    number, unit = text[:-1], text[-1:].upper()
    try:
        if unit == "L":
            return f"{positive_int(number)}L"
        if unit == "S":
            return f"{percent(number):g}S"
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    raise argparse.ArgumentTypeError(f"{text!r}: expected a number with L (layers kept, 4L) or S (percent dropped, 90S)")


def check_student(wanted: str, config: dict, flag: str, *, source="teacher"):
    """Yield what is wrong with taking `4L` or `90S` from a teacher, or another source, with this config."""
    number = float(wanted[:-1])
    if wanted.endswith("S") and families.has_experts(config):
        yield from check_dense(config, f"{flag} {wanted}: the {source}")
        return
    compression = config.get("compression") or {}
    if wanted.endswith("L"):
        layers = families.size(config, "layers")
        if layers is not None and number > layers:
            yield f"{flag} {wanted}: the {source} has {layers} layers"
        return
    grid = sorted(float(key) for key in compression.get("grid", {}))
    if not grid:
        yield f"{flag} {wanted}: the {source} is not nested (no grid in its config); sparsify it first with run_sparsification.py"
    elif number not in grid:
        yield f"{flag} {wanted}: not in the {source}'s grid: {', '.join(f'{s:g}' for s in grid)}"
    elif number < compression.get("sparsity", 0):
        yield f"{flag} {wanted}: the {source}'s own sparsity is {compression['sparsity']:g} already"


def path_of_students(text: str) -> list[str]:
    """A flag type: `80,90S` or `6,4L` or `80S,6L`; a number without a unit has that of the one after it."""
    parts = [part.strip() for part in text.split(",")]
    for index in reversed(range(len(parts) - 1)):
        if parts[index] and parts[index][-1].upper() not in "LS":
            parts[index] += parts[index + 1][-1:]
    return [layer_or_sparsity(part) for part in parts]


def check_path(path: list[str], config: dict):
    """Yield what is wrong with a path of students from a teacher with this config: each must be smaller than the one before."""
    for wanted in path:
        yield from check_student(wanted, config, "--layer_or_sparsity_path")
    for before, after in itertools.pairwise(path):
        if before.endswith("L") and after.endswith("S"):
            yield f"--layer_or_sparsity_path: {after} after {before}; a model with fewer layers has no grid: sparsities go first"
    for unit, shrinks, what in (("L", lambda a, b: b < a, "fewer layers"), ("S", lambda a, b: b > a, "a higher sparsity")):
        sizes = [float(wanted[:-1]) for wanted in path if wanted.endswith(unit)]
        for before, after in itertools.pairwise(sizes):
            if not shrinks(before, after):
                yield f"--layer_or_sparsity_path: {after:g}{unit} after {before:g}{unit}; a student needs {what} than its teacher"
