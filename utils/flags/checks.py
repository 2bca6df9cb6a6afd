"""What can be wrong with shared flags, as far as the checkpoints' configs tell: each check stands once,
here."""

import importlib.util
from pathlib import Path

from utils import checkpoints, distributed, families
from utils.errors import CheckpointError
from utils.flags.groups import SPANS

# The stages that share a model out with --shard
_SHARDED = (
    "finetuning",
    "sparsification",
    "distillation",
    "maxidisc",
    "minidisc",
    "stark",
    "minilmv2",
    "ted",
)
# Those that compute in 16 bits throughout.  Scores of units are taken in fp32, and so is what shows which
# parameters relation distillation trains
_FLASH = ("finetuning", "distillation", "maxidisc", "minidisc", "ted")


def check_hold_out(args, configs: dict, *, trained=()):
    """Yield what is wrong with the flags of held_out(); fills in the share that the checkpoints record.

    configs: {flag: config or None} of the checkpoints.  trained: the flags of those that have been trained on
    the task; what others are flags of is looked at.
    """
    task = args.task_name
    shares = {
        f"--{flag}": share
        for flag, config in configs.items()
        if (share := checkpoints.hold_out(config, task))
    }
    if args.hold_out is not None:
        shares["--hold_out"] = args.hold_out
    if len({*shares.values()}) > 1:
        said = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        yield (
            f"--hold_out: the share of {task}'s training rows that are held out differs: {said}; expected "
            "one for all stages"
        )
        return
    args.hold_out = next(iter(shares.values()), 0.0)
    if args.hold_out == 1:
        yield "--hold_out 1: leaves nothing to train on; expected a share below 1"
    if not args.hold_out:
        if args.teacher_saw_hold_out:
            yield "--teacher_saw_hold_out: has a meaning only with --hold_out"
        return
    if getattr(args, "scoring_split", "train") != "train":
        yield (
            f"--scoring_split {args.scoring_split}: with --hold_out units are scored on train; leave one of "
            "them out"
        )
    paths = {flag: getattr(args, flag, None) for flag, config in configs.items() if config}
    started = [flag for flag, path in paths.items() if path and checkpoints.trained_on(path, task)]
    for flag in dict.fromkeys([*trained, *started]):
        if getattr(args, flag, True) and f"--{flag}" not in shares and not args.teacher_saw_hold_out:
            yield (
                f"--{flag}: nothing in its config says that it was trained without the rows of {task} that "
                f"--hold_out {args.hold_out:g} keeps apart; it would be judged by rows that it knows: train "
                "it with --hold_out too, or add --teacher_saw_hold_out"
            )


def trained_with(args) -> dict:
    """The settings that are counts, of the run that a checkpoint comes from: of the first one that a run has
    made for this task; empty where there is none."""
    for flag in ("model_path", "teacher_model_path", "student_model_path"):
        given = getattr(args, flag, None)
        for path in given if isinstance(given, list) else [given]:
            settings = checkpoints.settings_of(path) if path is not None else {}
            if settings.get("task_name") == args.task_name:
                return {name: value for name, value in settings.items() if type(value) is int and value > 0}
    return {}


def check_spans(args, kind):
    """Yield what is wrong with the flags of spans() for a kind of task; fills in what the checkpoints were
    trained with, or their defaults, where they have a meaning."""
    known = trained_with(args) | (getattr(args, "own_task", None) or {}).get("spans", {})
    for name, default in SPANS.items():
        if kind == "spans" and getattr(args, name) is None:
            setattr(args, name, known.get(name, default))
        elif kind != "spans" and getattr(args, name) is not None:
            yield (
                f"--{name}: has a meaning only for questions about a text (squad2); {args.task_name} is a "
                f"{kind} task"
            )


def student_parts(args) -> list[tuple[str, str]]:
    """[(flag, 4L or 70S)] of the flags that say which part of a checkpoint the student is; one, if they do
    not contradict."""
    number, layers, wanted = (
        args.student_sparsity,
        args.student_layer,
        getattr(args, "layer_or_sparsity", None),
    )
    given = {
        "--layer_or_sparsity": wanted,
        "--student_sparsity": None if number is None else f"{number:g}S",
        "--student_layer": None if layers is None else f"{layers}L",
    }
    return [(flag, part) for flag, part in given.items() if part is not None]


def check_one_part(parts):
    """Yield what is wrong with several parts, as student_parts() finds them."""
    if len(parts) > 1:
        yield f"{' and '.join(flag for flag, _ in parts)}: each says which part the student is; give one"


def check_config(args, flag: str):
    """The config of the checkpoint that a path flag names (`yield from`); None where it is not known.  Yields
    what is wrong."""
    path = getattr(args, flag)
    try:
        found = checkpoints.read_config(path) if path is not None else None
    except CheckpointError as error:
        yield f"--{flag}: {error}"
        return None
    if found and families.has_experts(found) and getattr(args, "shard", False):
        yield f"--shard: --{flag} has experts ({found['model_type']}), which are not shared out; leave it out"
    wanted = getattr(args, "attn_implementation", None)
    if found and wanted and wanted not in (has := families.of(found["model_type"]).attentions):
        yield (
            f"--attn_implementation {wanted}: --{flag} ({found['model_type']}) has {' and '.join(has)}; "
            "choose among these, or leave it out"
        )
    return found


def check_shard(args):
    """Yield what --shard does not go with, whatever the checkpoints are."""
    if distributed.wanted() == 1:
        yield (
            "--shard: shares a model out among several processes, and this is one; start the script with "
            "torchrun --nproc_per_node 2 (or more), or leave the flag out"
        )
    yield from whole_for(args)
    if args.compile:
        yield "--shard and --compile: not tried together; leave one out"
    if args.precision == "fp16":
        yield "--shard and --precision fp16: not tried together; choose bf16 or fp32"


def whole_for(args):
    """Yield why what is trained is not shared out by --shard, given or not."""
    if args.stage not in _SHARDED:
        yield f"--shard: not supported by {args.stage}; leave it out"
    if args.stage == "sparsification" and args.corpus:
        yield "--shard and --corpus: a model that is shared out keeps its hidden dimensions; leave one out"
    if getattr(args, "ofa_layer", None) or getattr(args, "ofa_hidden", None):
        yield (
            "--shard: once-for-all students compute with pieces of one student's weights, of which each "
            "process has its rows only; leave it out"
        )


def check_flash_attention(args):
    """Yield what --attn_implementation flash_attention_2 does not go with, whatever the checkpoints are."""
    flag = "--attn_implementation flash_attention_2"
    if importlib.util.find_spec("flash_attn") is None:
        yield f"{flag}: not installed (pip install flash-attn); sdpa has torch's own such kernels"
    if args.use_cpu or args.precision == "fp32":
        yield f"{flag}: needs a GPU and --precision bf16 or fp16"
    if args.stage not in _FLASH:
        yield f"{flag}: a part of {args.stage} is computed in fp32, which it does not know; choose sdpa"


def check_gradient_checkpointing(args):
    """Yield what --gradient_checkpointing does not go with, whatever the checkpoints are."""
    if args.compile:
        yield "--gradient_checkpointing and --compile: not tried together; leave one out"
    if getattr(args, "ofa_layer", None) or getattr(args, "ofa_hidden", None):
        yield (
            "--gradient_checkpointing: once-for-all students compute with pieces of one student's weights, "
            "which are gone when the backward comes; leave it out"
        )


def settle_cache(args):
    """Yield what is wrong with the flags of teachers.cache().

    Then cache_teacher is whether outputs are kept, a setting, and cache_dir where on the disk, which may
    change; None for the memory.
    """
    if args.cache_teacher != "disk" and args.cache_dir is not None:
        yield "--cache_dir: has a meaning only with --cache_teacher disk"
    if args.cache_teacher == "disk" and args.cache_dir is None and args.output_dir is not None:
        args.cache_dir = str(Path(args.output_dir).parent / "teacher_outputs")
    args.cache_teacher = bool(args.cache_teacher)


def check_balance(args, config: dict | None):
    """Yield what is wrong with a flag of balance() for a student with this config; None: not known yet."""
    if args.load_balance_weight is not None and config is not None and not families.has_experts(config):
        yield f"--load_balance_weight: the student ({config['model_type']}) has no experts; leave it out"


def check_dense(config: dict | None, flag: str):
    """Yield what is wrong with removing heads and neurons from a checkpoint with this config; None: not known
    yet."""
    if families.has_experts(config):
        yield (
            f"{flag}: has experts ({config['model_type']}); heads and neurons are scored and removed in "
            "dense models only"
        )


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
    grid = families.grid(config)
    if not grid:
        yield (
            f"{flag} {wanted}: the {source} is not nested (no grid in its config); sparsify it first with "
            "run_sparsification.py"
        )
    elif number not in grid:
        yield f"{flag} {wanted}: not in the grid of the {source}: {', '.join(f'{s:g}' for s in grid)}"
    elif number < compression.get("sparsity", 0):
        yield f"{flag} {wanted}: the sparsity of the {source} is {compression['sparsity']:g} already"
