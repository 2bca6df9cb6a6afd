"""Flags of run_vocabulary.py and what can be wrong with them, as far as the checkpoint's config tells.

Nothing here imports torch.
"""

import importlib.util
from pathlib import Path

from utils import distributed, families
from utils.flags import corpus
from utils.flags.checks import check_config, check_hold_out, check_spans
from utils.flags.evaluation import ONNX_PACKAGES
from utils.flags.groups import SPANS, held_out, model_path, spans
from utils.flags.own_task import own_task
from utils.flags.parser import positive, positive_int, weight


def vocabulary(tasks):
    """The flag groups.  tasks: data.tasks."""

    def add_flags(parser):
        role = "the encoder, as it was pretrained; with --trim_embeddings a fine-tuned one"
        model_path(parser, "--model_path", role)
        add = parser.add_argument_group("text that is counted").add_argument
        add(
            "--corpus",
            nargs="+",
            metavar="PATH",
            help="files, folders, globs, URLs, or one JSON file, as run_corpus.py takes them as --input",
        )
        corpus.documents(add, prefix="corpus_")
        own_task(parser, tasks, required=False, of_checkpoint=False)
        add("--data_dir", default="datasets", help="the parent of the <task>/ folders, or the folder itself")
        add(
            "--task_weight",
            type=weight,
            help="weight of a piece in the task's text; one in the corpus weighs 1 (default: both texts "
            "weigh the same)",
        )
        held_out(parser.add_argument_group("rows held out, which are not counted"))
        add = parser.add_argument_group("vocabulary").add_argument
        add(
            "--vocabulary_size",
            type=positive_int,
            metavar="N",
            help="number of pieces that stay, the most frequent ones",
        )
        add(
            "--min_count",
            type=positive,
            help="instead of --vocabulary_size: keep pieces that count at least this much",
        )
        add(
            "--max_length",
            "--max_seq_length",
            type=positive_int,
            help="longest input in tokens, special ones included; positions beyond it go (default: all stay)",
        )
        add(
            "--trim_embeddings",
            action="store_true",
            help="trim a model that is already fine-tuned on the task; it is scored before and after",
        )
        add(
            "--no_onnx",
            action="store_true",
            help="leave out the sizes as ONNX graphs, which take a while to make",
        )
        spans(parser)

    return add_flags


def name(args) -> str:
    """What identifies a run: model, and pieces that stay."""
    size = args.vocabulary_size or f"count_{args.min_count:g}"
    return f"{Path(args.model_path).name}_{size}"


def measures_graphs(args) -> bool:
    """Whether sizes as ONNX graphs are wanted, and can be had."""
    return not args.no_onnx and all(map(importlib.util.find_spec, ONNX_PACKAGES))


def check_vocabulary(args, given, *, tasks):
    """Yield what is wrong; fill in what follows from the rest, and take away what has no meaning then.

    given: names of the flags that the command line has.  tasks: data.tasks.
    """
    if distributed.wanted() > 1:
        yield "run_vocabulary.py trains nothing: start it without torchrun"
    model = yield from check_config(args, "model_path")
    task = tasks.find(args.task_name)
    if args.corpus is None and args.task_name is None:
        yield "--corpus, --task_name: found neither; expected text to count"
    yield from _check_corpus(args)
    if task is None or args.corpus is None:
        if args.task_weight is not None:
            yield "--task_weight: has a meaning only with --corpus and --task_name"
    if (args.vocabulary_size is None) == (args.min_count is None):
        yield "--vocabulary_size, --min_count: expected one of them"
    if task is not None:
        trained = ["model_path"] if args.trim_embeddings else []
        yield from check_hold_out(args, {"model_path": model}, trained=trained)
    elif args.hold_out or args.teacher_saw_hold_out:
        yield "--hold_out, --teacher_saw_hold_out: have a meaning only with --task_name"
    if model is not None:
        yield from _check_model(args, model, task)
    if args.trim_embeddings and args.task_name is None:
        yield "--trim_embeddings: needs --task_name, the task that the model is fine-tuned on"
    if args.trim_embeddings and task is not None:
        yield from check_spans(args, task.kind)
    else:
        yield from (f"--{flag}: has a meaning only with --trim_embeddings" for flag in SPANS if flag in given)
    absent = [] if args.task_name else ["task_name", "hold_out", "teacher_saw_hold_out", "data_dir"]
    for flag in [*absent, *([] if args.corpus else ["corpus"])]:
        delattr(args, flag)


def _check_corpus(args):
    for path in args.corpus or ():
        if (Path(path) / "corpus.json").exists():
            yield f"--corpus {path}: holds ids, not text; give the text that run_corpus.py read (--input)"
    for flag in ("corpus_format", "columns", "sample_by"):
        if getattr(args, flag) is not None and args.corpus is None:
            yield f"--{flag}: has a meaning only with --corpus"


def _check_model(args, model, task):
    """What the model's config tells."""
    head = families.head_of(model)
    if head in families.HEADS.values() and not args.trim_embeddings:
        yield (
            f"--model_path: is fine-tuned ({model['architectures'][0]}); trim the encoder that it was made "
            "from, so that teachers and students share ids, or add --trim_embeddings"
        )
    if args.trim_embeddings and task is not None and head != families.HEADS[task.kind]:
        yield (
            f"--trim_embeddings: {args.model_path} has no head for {task.kind} "
            f"({(model.get('architectures') or ['unknown class'])[0]}); leave the flag out for a pretrained "
            "encoder"
        )
