"""The groups of flags that several scripts share, declared once.  Defaults are the papers'."""

from utils.families import ATTENTIONS
from utils.flags.own_task import own_task
from utils.flags.parser import (
    below_one,
    count,
    finite,
    fraction,
    idle,
    non_negative,
    positive,
    positive_int,
    seed,
)

# What --task_name squad2 has besides, with the published values; other tasks refuse these flags
SPANS = {
    "doc_stride": 128,
    "max_query_length": 64,
    "max_answer_length": 30,
    "num_best": 20,
    "null_threshold": 0.0,
}
# Flags that may change once the run has finished: they only say how a model's scores become answers
OF_ANSWERS = {"max_answer_length", "num_best", "null_threshold"}
DRY_RUN_ROWS, DRY_RUN_UPDATES = 48, 3
_DROPOUTS = {
    "cls_dropout": "of the task head",
    "hidn_dropout": "of hidden states",
    "att_dropout": "of attention probabilities",
}


def task(tasks, *, others=()):
    """The flag group that says which task and where its files are.  tasks: data.tasks.  others: further
    values of --task_name, which are no tasks."""

    def add(parser):
        own_task(parser, tasks, others=others)
        group = parser.add_argument_group("data")
        group.add_argument(
            "--data_dir", default="datasets", help="the parent of the <task>/ folders, or the folder itself"
        )
        group.add_argument(
            "--data_type",
            help="input pipeline: bert_cls, bert_ner, bert_qa or combined (default: the task's)",
        )
        group.add_argument(
            "--max_length",
            "--max_seq_length",
            type=positive_int,
            help="longest input in tokens, special ones included (default: what a checkpoint was trained "
            "with, else 128, squad2: 384)",
        )
        group.add_argument(
            "--max_train_samples",
            type=positive_int,
            help="use this many training rows, a fixed sample (default: all)",
        )
        group.add_argument(
            "--max_eval_samples",
            type=positive_int,
            help="score this many dev rows, a fixed sample (default: all)",
        )
        group.add_argument(
            "--selection_metric",
            help="the metric that chooses checkpoints, of dev or of the rows held out; any of the task's "
            "kind: acc, macro_f1, f1_<class>, matthews_corrcoef, spearman, neg_mse, f1_<type of entities>, "
            "... (default: the task's own)",
        )
        unnamed_labels(group)
        held_out(group)
        group.add_argument(
            "--do_train", action="store_true", help="train (what is done when none of the three is given)"
        )
        group.add_argument(
            "--do_test", action="store_true", help="score the labelled test file with the selected model"
        )
        group.add_argument(
            "--do_infer", action="store_true", help="write predictions for the unlabelled test file"
        )
        group.add_argument(
            "--infer_split", choices=("test", "dev"), default="test", help="the file that --do_infer answers"
        )
        spans(parser)

    return add


def unnamed_labels(group):
    """The flag that names the labels of checkpoints that do not."""
    group.add_argument(
        "--label_names",
        type=lambda text: text.split(","),
        metavar="A,B,...",
        help="names for a checkpoint's labels LABEL_0, LABEL_1, ..., in that order",
    )


def data_options(args) -> dict:
    """What the flags say about a task's data, by the names that data.task_data.TaskData takes it under."""
    names = ("data_dir", "max_length", "max_train_samples", "max_eval_samples", "hold_out", "do_test")
    return {name: getattr(args, name) for name in names if hasattr(args, name)} | {
        "infer_split": args.infer_split if getattr(args, "do_infer", False) else None,
        # A batch is wanted whole: it is what a dry run measures
        "max_rows": max(DRY_RUN_ROWS, getattr(args, "per_device_train_batch_size", 0))
        if args.dry_run
        else None,
        "spans": {name: getattr(args, name) for name in SPANS},
        "metric": getattr(args, "selection_metric", None),
        "class_weights": getattr(args, "class_weights", "none"),
        "unlabelled": tuple(getattr(args, "unlabelled_file", None) or ()),
        "unlabelled_only": getattr(args, "unlabelled_only", False),
    }


def held_out(group):
    """The flags that say which rows of train choose whatever is chosen.  check_hold_out() checks them."""
    group.add_argument(
        "--hold_out",
        type=fraction,
        metavar="SHARE",
        help="share of train, picked by the rows' text, that no stage trains on and that chooses instead of "
        "dev: 0.1 (default: that of the checkpoints, else 0: dev chooses)",
    )
    group.add_argument(
        "--teacher_saw_hold_out",
        action="store_true",
        help="use a checkpoint even if it may have been trained on the rows held out; the report says so",
    )


def spans(parser):
    """The flag group of tasks that answer questions with a part of a text.  check_spans() checks it."""
    add = parser.add_argument_group("spans (--task_name squad2)").add_argument
    for flag, kind, what in (
        ("--doc_stride", count, "tokens that two neighbouring windows of a context share"),
        ("--max_query_length", positive_int, "most tokens of a question; longer ones are cut"),
        ("--max_answer_length", positive_int, "most tokens of an answer"),
        (
            "--num_best --n_best_size",
            positive_int,
            "starts and ends considered in each window, and answers kept",
        ),
        (
            "--null_threshold --null_score_diff_threshold",
            finite,
            "no answer where its score exceeds the best answer's by more than this",
        ),
    ):
        names = flag.split()
        add(*names, type=kind, help=f"{what} (default: {SPANS[names[0].removeprefix('--')]})")


def training(parser):
    """The flag group of every stage that trains.  Defaults are the papers'."""
    group = parser.add_argument_group("training")
    add = group.add_argument
    add(
        "--per_device_train_batch_size",
        "--train_batch_size",
        type=positive_int,
        default=32,
        help="examples per process",
    )
    add(
        "--num_grad_accum_steps",
        "--gradient_accumulation_steps",
        type=positive_int,
        default=1,
        help="micro-batches per update; the update is that of one batch as large as all of them",
    )
    add("--learning_rate", type=positive, default=3e-5, help="its peak, after the warm-up")
    add("--weight_decay", type=non_negative, default=0.01, help="of matrices, not of biases and norms")
    add("--adam_beta1", type=below_one, default=0.9, help="AdamW's decay of the mean gradient")
    add("--adam_beta2", type=below_one, default=0.999, help="AdamW's decay of the mean squared gradient")
    add("--adam_epsilon", type=positive, default=1e-6, help="added to the root of the mean squared gradient")
    add("--max_grad_norm", type=non_negative, default=5.0, help="clip the gradient's norm to this; 0: never")
    add(
        "--num_train_epochs",
        type=positive_int,
        default=10,
        help="most passes over the training rows; no limit where --max_steps alone is given",
    )
    add(
        "--max_steps",
        type=positive_int,
        help="most updates; where --num_train_epochs is given too, whichever comes first ends the training",
    )
    add(
        "--num_patience_epochs",
        type=positive_int,
        default=5,
        help="stop after this many epochs without improvement",
    )
    add(
        "--lr_scheduler_type",
        choices=("linear", "cosine", "constant"),
        default="linear",
        help="course of the learning rate after the warm-up",
    )
    add("--warmup_proportion", "--warmup_ratio", type=fraction, default=0.1, help="share of the updates")
    add("--warmup_steps", type=count, help="updates of the warm-up, instead of a share")
    add(
        "--eval_interval",
        "--eval_steps",
        type=count,
        default=0,
        help="updates between evaluations; 0: once an epoch",
    )
    for name, what in _DROPOUTS.items():
        add(f"--{name}", type=fraction, help=f"dropout {what} (default: the checkpoint's)")
    add(
        "--gradient_checkpointing",
        action="store_true",
        help="save memory, at a cost in time: compute layers again in the backward pass, to the same bits",
    )
    idle(parser, "states are saved by time, see --save_minutes", "--save_steps")
    idle(parser, "every parameter that is trained gets a gradient", "--ddp_find_unused_parameters")


def how_trained(args) -> dict:
    """What models.for_training() takes."""
    return {name: getattr(args, name) for name in (*_DROPOUTS, "gradient_checkpointing")}


def folder(parser):
    """The flag group of a script that makes a run folder; returns it."""
    group = parser.add_argument_group("run")
    add = group.add_argument
    add(
        "--output_dir",
        "--checkpoint_dir",
        help="the run folder (default: outputs/<stage>/<what identifies the run>)",
    )
    add("--overwrite", action="store_true", help="start afresh even if the folder has a run")
    add("--seed", type=seed, default=776, help="seed of the order of rows, dropout and new weights")
    add(
        "--dry_run",
        action="store_true",
        help="try every step with a few rows and updates, and plan memory and disk; leaves nothing behind",
    )
    add("--debug", action="store_true", help="show tracebacks of users' errors")
    return group


def inference(parser):
    """The flag group of a script that runs a model: where results go, on what it runs; returns it."""
    group = folder(parser)
    add = group.add_argument
    add(
        "--per_device_eval_batch_size",
        "--eval_batch_size",
        type=positive_int,
        default=32,
        help="examples per process",
    )
    add(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        help="precision of the computation (default: bf16 on a GPU that has it, else fp32)",
    )
    add("--use_fp16", action="store_true", help="the same as --precision fp16")
    add("--use_cpu", action="store_true", help="do not use a GPU")
    return group


def runtime(parser):
    """The flag group of every stage that trains: where results go, on what it runs, what is printed."""
    add = inference(parser).add_argument
    add("--compile", action="store_true", help="torch.compile the trained model")
    add(
        "--shard",
        action="store_true",
        help="with torchrun: each process holds only a part of every weight, for models too large for one "
        "device",
    )
    add(
        "--attn_implementation",
        choices=ATTENTIONS,
        help="how attention is computed (default: sdpa where the family has it, else eager)",
    )
    add("--log_interval", "--logging_steps", type=positive_int, default=50, help="updates between log lines")
    add(
        "--save_minutes",
        type=non_negative,
        default=5,
        help="minutes between states for resuming; 0: at every evaluation",
    )
    add(
        "--report_to",
        choices=("none", "tensorboard", "wandb", "trackio"),
        default="none",
        help="a tracker that gets the logged values too",
    )


def how_loaded(args) -> dict:
    """What models.loader() takes besides, in every stage that has the flags of runtime() and of a task."""
    return {
        "unnamed_labels": args.label_names,
        "shard": args.shard,
        "attn_implementation": args.attn_implementation,
    }


def scoring(parser):
    """The flag group of the stages that score heads and neurons."""
    add = parser.add_argument_group("scoring").add_argument
    add(
        "--scoring_split",
        choices=("train", "dev"),
        default="train",
        help="rows that importance is measured on",
    )
    add(
        "--num_scoring_samples",
        type=positive_int,
        help="use this many of them, a fixed sample (default: all)",
    )
    add(
        "--scoring_batch_size",
        type=positive_int,
        default=32,
        help="examples per batch; absolute gradients are taken per batch",
    )


def model_path(parser, flag, role, *, aliases=(), required=True):
    """Declare a flag that names a model: a hub name, a checkpoint folder or a run folder."""
    parser.group("models").add_argument(
        flag,
        *aliases,
        required=required,
        metavar="PATH",
        help=f"{role}: a hub name, a checkpoint folder or a run folder",
    )


def class_weights(parser):
    """The flag of every stage that trains with gold labels.  model_types.check_model_type() checks it."""
    parser.add_argument_group("rare classes").add_argument(
        "--class_weights",
        choices=("none", "balanced"),
        default="none",
        help="balanced: in the loss against the gold labels each class counts alike, however rare it is",
    )
