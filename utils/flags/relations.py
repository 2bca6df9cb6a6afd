"""Flags of the stages that distil relations: which ones, from which layer, into a student of which size.

Nothing here imports torch: sizes are checked on the configs, before a model is loaded.
"""

import argparse
import re
from pathlib import Path

from utils import families
from utils.errors import FlagError
from utils.flags import corpus, hops
from utils.flags.checks import check_config
from utils.flags.groups import model_path
from utils.flags.parser import fraction, idle, non_negative, path_of_students, positive_int, width
from utils.flags.teachers import teacher_dtype

RELATIONS = tuple(left + right for left in "qkv" for right in "qkv")


def relations(parser):
    """The flag group of what is compared."""
    add = parser.add_argument_group("relations").add_argument
    add(
        "--teacher_layer",
        "--L",
        type=layer_number,
        metavar="L",
        help="the teacher's, from 1, or `last` (default: 21 of BERT-large's 24, 19 of RoBERTa-large's and "
        "XLM-R-large's, else the last)",
    )
    add(
        "--num_relation_heads",
        type=positive_int,
        metavar="R",
        help="divides both widths (default: 48 for 12 layers, 64 for 24, else the largest of 64, 48, 32 ...)",
    )
    add(
        "--relations",
        "--minilm_relations",
        type=relation_weights,
        default="qq=1,kk=1,vv=1",
        metavar="WEIGHTS",
        help="pairs of q, k and v with weights; also as {(1, 1): 1, (2, 2): 1}, (left, right) with 1 for q",
    )
    add(
        "--relation_source",
        choices=("last", "extra"),
        default="last",
        help="the student's side: its last layer's projections, or new ones on its final states, dropped "
        "afterwards (default: last; of crops and once-for-all students extra)",
    )
    add(
        "--relation_weighting",
        choices=("sequence", "token"),
        default="sequence",
        help="sequence: average within each sequence, then over sequences, sum the relations; token: average "
        "over all tokens, then over the relations",
    )


MODEL_TYPES = ("bert_minilm", "moebert_minilm", "sparsebert_minilm", "ofabert_minilm")


def layer_number(text) -> int | str:
    """A flag type: the number of a layer, from 1, or `last`."""
    return text if text == "last" else positive_int(text)


def models(parser):
    """The flags that name teacher, student and tokenizer, and the masked tokens that may be learned beside
    the relations."""
    model_path(
        parser,
        "--teacher_model_path",
        "any encoder of the architecture table",
        aliases=("--input_model_dir", "--teacher_model_name_or_path"),
    )
    model_path(
        parser,
        "--student_model_path",
        "a student of its own: a checkpoint, or a folder with a config.json alone",
        aliases=("--student_model_name_or_path",),
        required=False,
    )
    add = parser.add_argument_group("relation distillation").add_argument
    add(
        "--tokenizer_name_or_path",
        "--tokenizer_dir",
        metavar="PATH",
        help="the teacher's, where it lies elsewhere",
    )
    teacher_dtype(add)
    idle(parser, "a run folder has its own name, --output_dir", "--model_suffix")
    idle(parser, "--num_heldout_blocks of the corpus are evaluated on", "--val_config")
    add(
        "--data_type",
        choices=("bert_nil", "bert_mlm"),
        help="bert_nil: no masked tokens; bert_mlm: --mlm_weight is above 0",
    )
    add(
        "--model_type",
        choices=MODEL_TYPES,
        help="the papers' word for the kind of student, which other flags say already",
    )
    add(
        "--iteration",
        type=positive_int,
        default=1,
        help="from 2 on the teacher is a student of the iteration before, which was trained in its "
        "last layer",
    )
    add(
        "--mlm_weight",
        type=non_negative,
        default=0.0,
        help="weight of a loss on masked tokens beside the relations; 0: none",
    )
    add(
        "--mlm_probability",
        type=fraction,
        default=0.15,
        help="share of tokens that are masked for it, in both models' inputs",
    )
    parser.set_defaults(warmup_proportion=0.01, eval_interval=1000)


def student(parser):
    """The flag group of the student's size and first weights."""
    add = parser.add_argument_group("student").add_argument
    add(
        "--student_layer",
        "--layer",
        "--student_num_layers",
        type=positive_int,
        metavar="M",
        help="layers (default: 6, with experts 4)",
    )
    add(
        "--student_hidden",
        "--hidden",
        "--student_hidden_size",
        type=width,
        metavar="D",
        help="width (default: 384)",
    )
    add(
        "--student_heads",
        "--heads",
        "--student_attention_heads",
        type=positive_int,
        metavar="A",
        help="attention heads (default: 12)",
    )
    add(
        "--student_intermediate",
        "--intermediate",
        type=positive_int,
        metavar="F",
        help="feed-forward neurons (default: 4 times the width)",
    )
    add(
        "--student_init",
        choices=("random", "slice", "embeddings", "layers"),
        help="random (default); slice: first rows and columns of the teacher's embeddings and every k-th "
        "layer; embeddings: a copy of its embeddings; layers: of every k-th layer too (both: equal widths)",
    )
    add(
        "--student_path",
        type=path_of_students,
        metavar="12,3L",
        help="layers of students, each the teacher of the next (teacher assistants), in one run",
    )


def relation_weights(text) -> dict[str, float]:
    """A flag type: `qq=1,kk=0.5`, or MiniLMv2's published form `{(1, 1): 1, (2, 2): 0.5}`."""
    if text.strip().startswith("{"):
        pairs = re.findall(r"\(\s*([123])\s*,\s*([123])\s*\)\s*:\s*([^,}\s]+)", text)
        found = [("qkv"[int(left) - 1] + "qkv"[int(right) - 1], weight) for left, right, weight in pairs]
        whole = len(found) == text.count(":")
    else:
        found = [part.strip().rpartition("=")[::2] for part in text.split(",")]
        whole = True
    if (
        not whole
        or not found
        or any(name not in RELATIONS for name, _ in found)
        or len(dict(found)) < len(found)
    ):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected pairs of q, k, v with weights, each once, like qq=1,kk=1,vv=1"
        )
    given = {name: value for name, weight in found if (value := non_negative(weight))}
    if not given:
        raise argparse.ArgumentTypeError(f"{text!r}: all weights are 0")
    return given


def objective_options(args) -> dict:
    """What the flags say, by the names that models.relation_distillation takes it under."""
    return {
        "relations": args.relations,
        "source": args.relation_source,
        "weighting": args.relation_weighting,
        "mlm_weight": args.mlm_weight,
        "mlm_probability": args.mlm_probability,
        "seed": args.seed,
    }


def check_relations(args, *, layers):
    """Yield what is wrong with the flags of relations(), student(), models() and corpus.corpus(); fill in
    their defaults.

    layers: of a student, where no flag says.  Its value (`yield from`): the configs of teacher and student,
    None where not known.
    """
    yield from corpus.check_corpus(args)
    yield from _check_names(args)
    yield from fill_sizes(args, layers=layers)
    teacher = yield from check_config(args, "teacher_model_path")
    student = yield from check_config(args, "student_model_path")
    yield from problems(args, teacher, student)
    return teacher, student


def _check_names(args):
    """Yield what contradicts the papers' --model_type and --data_type, which say nothing that other flags do
    not."""
    made = {
        "moebert_minilm": hasattr(args, "moe"),
        "sparsebert_minilm": getattr(args, "sparsity", None) is not None,
        "ofabert_minilm": bool(getattr(args, "ofa_layer", None)),
    }
    said = next((name for name, is_made in made.items() if is_made), "bert_minilm")
    if args.model_type not in (None, said) and not (said, args.model_type) == (
        "moebert_minilm",
        "bert_minilm",
    ):
        yield (
            f"--model_type {args.model_type}: the other flags say {said} (--sparsity, --ofa_layer; "
            "run_minimoe.py for experts)"
        )
    if args.data_type is not None and (args.data_type == "bert_mlm") != (args.mlm_weight > 0):
        yield (
            f"--data_type {args.data_type}: goes with --mlm_weight "
            f"{'above 0' if args.data_type == 'bert_mlm' else '0'}"
        )
    del args.model_type, args.data_type


def has_weights(path) -> bool:
    """Whether a path names a checkpoint: not none, and not a folder with a config alone."""
    folder = Path(path).expanduser() if path is not None else None
    return folder is not None and not (
        (folder / "config.json").exists() and not any(folder.glob("*.safetensors*"))
    )


def fill_sizes(args, *, layers):
    """Give the student's flags their defaults; yield what contradicts what."""
    sizes = (
        "student_layer",
        "student_hidden",
        "student_heads",
        "student_intermediate",
        "student_init",
        "student_path",
    )
    given = [f"--{name}" for name in sizes if getattr(args, name) is not None]
    if args.student_model_path is not None:
        if given:
            yield f"--student_model_path and {', '.join(given)}: both say what the student is; give one"
        return
    if args.student_path and args.student_layer:
        yield "--student_path and --student_layer: both say how many layers; give one"
    for wanted in args.student_path or []:
        if not wanted.endswith("L"):
            yield f"--student_path {wanted}: expected numbers of layers, like 12,3L"
    args.student_layer = args.student_layer or (None if args.student_path else layers)
    args.student_hidden = args.student_hidden or 384
    args.student_heads = args.student_heads or 12
    args.student_intermediate = args.student_intermediate or 4 * args.student_hidden
    args.student_init = args.student_init or "random"
    if args.student_hidden % args.student_heads:
        yield (
            f"--student_heads {args.student_heads}: does not divide --student_hidden {args.student_hidden}; "
            f"its divisors: {hops.divisors(args.student_hidden)}"
        )


def problems(args, teacher: dict | None, student: dict | None):
    """Yield what does not fit, as far as the configs are known before anything is loaded."""
    known = [config is not None and families.sizes(config) is not None for config in (teacher, student)]
    if known[0] and (known[1] if args.student_model_path else args.student_init is not None):
        try:
            hops.hops_of(args, teacher, student)
        except FlagError as error:
            yield from str(error).split("\n")


def name(args) -> str:
    """What identifies a run: teacher and student."""
    student = Path(args.student_model_path).name if args.student_model_path else None
    depth = ",".join(args.student_path or [f"{args.student_layer}L"])
    iteration = f"_{args.iteration}" if args.iteration > 1 else ""
    return f"{Path(args.teacher_model_path).name}_{student or f'{depth}-{args.student_hidden}H'}{iteration}"
