"""Flags of run_evaluation.py, which has three uses: evaluating checkpoints (and exporting one), predicting, a
report of runs.

Nothing here imports torch.
"""

import importlib.util
from pathlib import Path

from utils import checkpoints, distributed, families
from utils.errors import CheckpointError
from utils.flags import model_types
from utils.flags.checks import check_hold_out, check_student
from utils.flags.groups import held_out, spans, unnamed_labels
from utils.flags.own_task import own_task
from utils.flags.parser import count, percentages, positive_int, samples, threads

EXPORTS = ("dense", "compact", "onnx")
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_ONLY_EVALUATING = ("teacher_model_path", "compare", "export", "export_dir")


def evaluation(tasks, *, formats):
    """The flag groups.  tasks: data.tasks.  formats: of answers."""

    def add(parser):
        own_task(parser, tasks, unless="report")
        group = parser.add_argument_group("data").add_argument
        group(
            "--data_dir", default="datasets", help="the parent of the <task>/ folders, or the folder itself"
        )
        group(
            "--max_length",
            "--max_seq_length",
            type=positive_int,
            help="longest input in tokens, special ones included (default: what a checkpoint was trained "
            "with, else 128, squad2: 384)",
        )
        spans(parser)
        group = parser.add_argument_group("evaluation").add_argument
        group("--model_path", nargs="+", metavar="PATH", help="hub names, checkpoint folders or run folders")
        group(
            "--teacher_model_path",
            metavar="PATH",
            help="one more model: marked in the picture, and what --compare compares with",
        )
        group(
            "--sparsities",
            type=percentages,
            help="of nested checkpoints: one row for each of these, in percent: 0,50,90 (default: as stored)",
        )
        group(
            "--split",
            choices=("dev", "train", "hold_out", "test"),
            help="which rows are scored; they need labels (default: dev)",
        )
        held_out(parser.add_argument_group("rows held out"))
        group(
            "--max_eval_samples",
            type=positive_int,
            help="score this many of them, a fixed sample (default: all)",
        )
        unnamed_labels(parser.add_argument_group("labels"))
        group("--selection_metric", help="the metric that is drawn (default: the task's own)")
        group("--num_repeats", type=count, default=10, help="timed passes of each kind; 0: nothing is timed")
        group("--num_threads", type=threads, help="CPU threads (default: torch's own choice)")
        group(
            "--compare",
            action="store_true",
            help="differences from the teacher's metrics, or the first model's, with 95%% intervals (paired "
            "bootstrap)",
        )
        group("--num_resamples", type=samples, default=10000, help="samples of the bootstrap")
        group = parser.add_argument_group("export").add_argument
        group(
            "--export",
            nargs="+",
            choices=EXPORTS,
            metavar="KIND",
            help="onnx: graphs in fp32 and int8, to deploy; compact: the small model with its code, for "
            "PyTorch; dense: a stock model of full size, filled with zeros",
        )
        group(
            "--export_dir",
            help="where each kind gets a new folder (default: outputs/export/<task and model>)",
        )
        group = parser.add_argument_group("other uses").add_argument
        group(
            "--predict",
            metavar="FILE",
            help="print answers to its rows, in order; -: rows that arrive on stdin, answered batch by batch",
        )
        group(
            "--predict_format",
            choices=formats,
            help="format of the answers (default: tsv; tags: CoNLL's columns; questions: jsonl)",
        )
        group(
            "--do_infer",
            action="store_true",
            help="write GLUE's submission files of the test files; --task_name ax: of MNLI's diagnostics",
        )
        group("--report", metavar="FOLDER", help="write report.html about all runs below it")

    return add


def model_paths(args) -> list[str]:
    """The checkpoints to evaluate, the teacher first."""
    return [*([args.teacher_model_path] if args.teacher_model_path else []), *args.model_path]


def short_names(paths) -> list[str]:
    """What tells checkpoints apart: the last folders of their paths, as many as it takes, without ckpt."""
    parts = [[part for part in Path(path).parts if part != "ckpt"] or [str(path)] for path in paths]
    for number in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-number:]) for part in parts]
        if len({*names}) == len(names):
            break
    return names


def run_name(args) -> str:
    """What identifies a run: task, checkpoints, sparsities, exports, or that it writes submissions."""
    return "_".join([_subject(args), *(args.export or ()), *(["submission"] if args.do_infer else ())])


def _subject(args):
    names = [name.replace("/", "-") for name in short_names(model_paths(args))]
    listed = names if len(names) <= 3 else [names[0], f"{len(names) - 1}_others"]
    points = [f"{point:g}S" for point in args.sparsities or ()]
    return "_".join([args.task_name, *listed, *points[:1], *points[1:][-1:]])


def check_evaluation(args, tasks):
    """Yield what is wrong; fill in what follows from the rest.  tasks: data.tasks."""
    args.model_type = args.data_type = None
    if distributed.wanted() > 1:
        for flag in ("export", "predict", "report"):
            if getattr(args, flag):
                yield f"--{flag}: needs one process; start it without torchrun"
    if args.report is not None:
        given = {
            flag: getattr(args, flag) for flag in ("task_name", "model_path", "predict", *_ONLY_EVALUATING)
        }
        yield from (
            f"--{flag}: has no meaning with --report, which reads finished runs"
            for flag, value in given.items()
            if value
        )
        if not Path(args.report).is_dir():
            yield f"--report: found no folder {args.report}; expected one with runs below it, like outputs"
        args.output_dir = args.output_dir or args.report
        return
    if not args.model_path:
        yield "--model_path: required"
        return
    asked = "do_infer" if args.do_infer else "predict" if args.predict is not None else None
    for flag in ("split", "max_eval_samples") if asked else ():
        if getattr(args, flag):
            yield f"--{flag}: has no meaning with --{asked}, which answers all rows of its own files"
    args.split = args.split or "dev"
    configs = {}
    for path in model_paths(args):
        try:
            configs[path] = checkpoints.read_config(path)
        except CheckpointError as error:
            yield f"--{'model_path' if path in args.model_path else 'teacher_model_path'}: {error}"
    if not args.task_name:
        return
    for path in args.model_path:
        for sparsity in args.sparsities or ():
            if configs.get(path):
                yield from check_student(f"{sparsity:g}S", configs[path], f"--sparsities for {path}:")
    yield from model_types.check_model_type(args, tasks.find(args.task_name), None, objectives={})
    yield from _check_hold_out(args, configs)
    points = len(args.sparsities or [None])
    if args.predict is not None:
        given = [flag for flag in _ONLY_EVALUATING if getattr(args, flag)]
        yield from (f"--{flag}: has no meaning with --predict" for flag in given)
        yield from _one_model(args, points, "--predict")
    elif args.predict_format:
        yield "--predict_format: has a meaning only with --predict"
    yield from _check_infer(args, tasks.find(args.task_name), points)
    if args.compare and len(args.model_path) * points + bool(args.teacher_model_path) < 2:
        yield "--compare: found one model; name others, or --teacher_model_path"
    if args.export:
        yield from _one_model(args, points, "--export")
        yield from _check_export(args, configs.get(args.model_path[0]))
    elif args.export_dir:
        yield "--export_dir: has a meaning only with --export"


def _check_infer(args, task, points):
    """Yield what is wrong with --do_infer, and with scoring a task that has nothing to score."""
    args.infer_split, args.do_test = "test", False
    if args.do_infer:
        given = [flag for flag in (*_ONLY_EVALUATING, "predict") if getattr(args, flag)]
        yield from (f"--{flag}: has no meaning with --do_infer" for flag in given)
        yield from _one_model(args, points, "--do_infer")
    elif task is not None and not task.eval_splits and args.predict is None:
        yield f"--task_name {task.name}: has no labelled rows to score; add --do_infer, or --predict FILE"


def _check_hold_out(args, configs):
    """The models need not agree about rows that are not scored."""
    if args.split in ("train", "hold_out") and args.predict is None:
        named = {f"model_path {path}": config for path, config in configs.items()}
        trained = named if args.split == "hold_out" else ()
        yield from check_hold_out(args, named, trained=trained)
        if args.split == "hold_out" and not args.hold_out:
            yield (
                "--split hold_out: no model's config says which share of train was held out; give --hold_out"
            )
        return
    if args.hold_out is not None or args.teacher_saw_hold_out:
        yield "--hold_out, --teacher_saw_hold_out: have a meaning only with --split train or hold_out"
    args.hold_out = 0.0


def _one_model(args, points, flag):
    if len(args.model_path) > 1 or points > 1:
        yield (
            f"{flag}: found {len(args.model_path)} models and {points} sparsities; expected one model, at "
            "one sparsity"
        )


def _check_export(args, config):
    args.export = [kind for kind in EXPORTS if kind in args.export]
    args.export_dir = args.export_dir or str(Path("outputs") / "export" / _subject(args))
    if "dense" in args.export:
        if families.has_experts(config):
            yield "--export dense: the model has experts, and no stock model has; export compact or onnx"
    if "onnx" in args.export:
        missing = [package for package in ONNX_PACKAGES if importlib.util.find_spec(package) is None]
        if missing:
            yield f"--export onnx: {', '.join(missing)} not installed (pip install -r requirements-onnx.txt)"
