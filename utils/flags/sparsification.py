"""Flags of run_sparsification.py, which has two uses: sorting by the loss of a task, and by that of masked
tokens of a corpus.

Nothing here imports torch.
"""

from utils import families
from utils.flags import model_types
from utils.flags.checks import check_config, check_dense, check_hold_out
from utils.flags.groups import SPANS, model_path, scoring, task
from utils.flags.parser import percentages, positive_int

CORPUS = "corpus"  # the value of --task_name that is no task
_GRID = "0,10,20,30,40,50,60,70,80,85,90,95"
_OF_A_CORPUS = {"grid": f"{_GRID},98,99", "num_scoring_samples": 4096, "num_heldout_blocks": 512}  # defaults
_ONLY_A_CORPUS = ("corpus", "num_heldout_blocks")
_ONLY_A_TASK = (
    "data_dir",
    "data_type",
    "max_length",
    "max_train_samples",
    "max_eval_samples",
    "selection_metric",
    "hold_out",
    "teacher_saw_hold_out",
    "do_train",
    "do_test",
    "do_infer",
    "infer_split",
    *SPANS,
    "scoring_split",
    "per_example",
    "student_model_path",
)


def sparsification(tasks):
    """The flag groups of both uses.  tasks: data.tasks."""

    def add_flags(parser):
        task(tasks, others=(CORPUS,))(parser)
        scoring(parser)
        add = parser.add_argument_group("sparsification").add_argument
        add(
            "--student_model_path",
            metavar="PATH",
            help="not here: run_stark.py sorts a teacher for its student",
        )
        add("--model_type", help="sparsebert_cls, sparsebert_ner or ft; for a corpus sparsebert_mlm")
        add("--grid", type=percentages, help=f"sparsities in percent (default: {_GRID})")
        add("--per_example", action="store_true", help="take absolute gradients per example, not per batch")
        add = parser.add_argument_group(f"a text corpus (--task_name {CORPUS})").add_argument
        add(
            "--corpus",
            "--record_path_or_regex",
            nargs=1,
            metavar="PATH",
            help="a folder that run_corpus.py built; 4096 of its blocks are scored. --grid (default: "
            f"{_OF_A_CORPUS['grid']}) is then the share of weights removed: heads, neurons and hidden "
            "dimensions lose less each",
        )
        add(
            "--num_heldout_blocks",
            type=positive_int,
            help="blocks that are not scored, to evaluate with (default: 512); --per_device_eval_batch_size "
            "decides which of their tokens are masked: compare losses of one batch size only",
        )
        role = "the fine-tuned model; for a corpus the pretrained one, with its head for masked tokens"
        model_path(
            parser, "--model_path", role, aliases=("--teacher_model_path", "--teacher_model_name_or_path")
        )

    return add_flags


def check_sparsification(args, given, *, tasks, objectives):
    """Yield what is wrong; fill in what follows from the use, and take away what belongs to the other one.

    given: names of the flags that the command line has.  tasks: data.tasks.  objectives: {name: row} of
    modules/objectives.py that a model may have been trained with.
    """
    model = yield from check_config(args, "model_path")
    yield from check_dense(model, "--model_path")
    if args.task_name == CORPUS:
        yield from _check_corpus(args, model)
    else:
        yield from _check_task(args, model, tasks=tasks, objectives=objectives)
    left_out = _ONLY_A_TASK if args.task_name == CORPUS else _ONLY_A_CORPUS
    for name in left_out:
        if name in given and args.task_name is not None:
            yield f"--{name}: has no meaning with --task_name {args.task_name}"
        delattr(args, name)


def _check_corpus(args, model):
    if args.corpus is None:
        yield "--corpus/--record_path_or_regex: required"
    if args.model_type not in (None, "sparsebert_mlm"):
        yield f"--model_type {args.model_type}: expected sparsebert_mlm, or nothing, for a corpus"
    args.grid = args.grid or percentages(_OF_A_CORPUS["grid"])
    for name in ("num_scoring_samples", "num_heldout_blocks"):
        setattr(args, name, getattr(args, name) or _OF_A_CORPUS[name])
    if model is not None and not families.has_experts(model):
        if refusal := families.refusal(model["model_type"], "hidden"):
            yield f"--model_path: {refusal}"


def _check_task(args, model, *, tasks, objectives):
    if args.student_model_path:
        yield (
            "--student_model_path: a teacher is sorted for its student by: python run_stark.py --task_name "
            f"{args.task_name} --teacher_model_path {args.model_path} --student_model_path "
            f"{args.student_model_path}"
        )
    del args.student_model_path
    args.grid = args.grid or percentages(_GRID)
    yield from model_types.check_model_type(args, tasks.find(args.task_name), model, objectives=objectives)
    yield from check_hold_out(args, {"model_path": model}, trained=["model_path"])
