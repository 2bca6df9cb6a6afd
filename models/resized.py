"""Students of other sizes than their teacher: of its family, with its vocabulary; and what fills them at
first."""

import copy

import torch

from models import architectures
from models.checkpoint_files import local_folder
from models.derived_classes import become
from models.from_tensors import share_out
from models.loading import load_model
from utils import config_values, distributed, families
from utils.errors import CheckpointError
from utils.families import stock_type
from utils.logs import logger


def resized_config(config, *, layers, hidden, heads, intermediate):
    """A config of the same family with these sizes; dropout, vocabulary and all else are the teacher's.

    Widths that equal the hidden size in the teacher (ELECTRA's embeddings, DeBERTa's pooler) do so in the
    student.
    """
    made = copy.deepcopy(config)
    sizes = {"layers": layers, "hidden": hidden, "heads": heads, "intermediate": intermediate}
    for name, value in families.resized_settings(config.to_dict(), sizes).items():
        setattr(made, name, value)
    if getattr(made, "layer_types", None):
        made.layer_types = [config.layer_types[layer % len(config.layer_types)] for layer in range(layers)]
    if hasattr(made, "compression"):
        del made.compression
    return made


def resized(teacher, hop, *, init, seed):
    """A stock student of the teacher's family, with a pooler where the family has one; in eval mode.

    Where the teacher is shared out among the processes, so is the student, which each of them draws whole.

    hop: utils.student_sizes.Hop.  seed: of the weights that are drawn.
    init: "random": as transformers initialises the family.  "slice": layer i is layer i k of the teacher, k =
        its layers // the student's, and of every tensor the first rows and columns.  "embeddings": what lies
        outside the layers is the teacher's.  "layers": "slice" where the widths are equal.
    Raises CheckpointError where the teacher has no weights for the student to slice (a cropped one).
    """
    config = resized_config(
        teacher.config, layers=hop.layers, hidden=hop.hidden, heads=hop.heads, intermediate=hop.intermediate
    )
    vars(config).pop(config_values.LENGTH, None)  # the teacher's
    stock = architectures.stock_class(stock_type(config.model_type))
    become(config, stock.config_class)
    student = _drawn(stock, config, seed)
    if init != "random":
        _copy_part(student, teacher, layers=init != "embeddings")
    return share_out(student) if distributed.is_shared_out(teacher) else student


@torch.no_grad()
def _copy_part(student, teacher, *, layers):
    """Fill a student with the first rows and columns of the teacher's tensors; those that the teacher lacks
    stay random."""
    ours, theirs = architectures.layers(student), dict(teacher.named_parameters())
    groups = architectures.row_groups(student)
    start = f"{architectures.layers_path(student)}."
    every, left = len(architectures.layers(teacher)) // len(ours), []
    for name, tensor in student.named_parameters():
        source = name
        if name.startswith(start):
            number, _, rest = name.removeprefix(start).partition(".")
            source = f"{start}{int(number) * every}.{rest}"
            if not layers:
                continue
        if source not in theirs:
            left.append(name)
            continue
        found = theirs[source]
        if any(size < number for size, number in zip(found.shape, tensor.shape)):
            raise CheckpointError(
                f"--student_init: {source} of the teacher is {[*found.shape]}, the student needs "
                f"{[*tensor.shape]}; take a teacher from which nothing was removed, or --student_init random"
            )
        part = first(distributed.whole(found), tensor.shape, groups=groups.get(name.rpartition(".")[0], 1))
        tensor.copy_(part)
    if left:
        logger.info("student: not in the teacher, randomly initialised: %s", ", ".join(left))


def first(tensor, shape, *, groups=1):
    """The first rows and columns of a tensor, in this shape; a view where there is one group.

    groups: of rows, each of which gives its first ones: a fused projection holds those of queries, keys and
    values.
    """
    if groups == 1:
        return tensor[tuple(slice(size) for size in shape)]
    grouped = tensor.unflatten(0, (groups, -1))
    return grouped[tuple(slice(size) for size in (groups, shape[0] // groups, *shape[1:]))].flatten(0, 1)


def given_student(path, tokenizer, *, seed, shard=False, **how):
    """The encoder of a checkpoint, or, where the folder holds a config and no weights, a random one of that
    config; eval mode.

    shard, how: of load_model(), as far as it holds of both.
    Raises CheckpointError where there is neither, the family is not in the table, or it has fewer pieces than
    the tokenizer.
    """
    from transformers import AutoConfig

    folder = local_folder(path)
    if any(folder.glob("*.safetensors")):
        student = load_model(path, shard=shard, **how)
    else:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **how)
        student = _drawn(architectures.stock_class(config.model_type), config, seed)
        student = share_out(student) if shard else student
    found = student.config.vocab_size
    if found < len(tokenizer):
        raise CheckpointError(
            f"{path}: found a vocabulary of {found} pieces; expected the {len(tokenizer)} of the teacher's "
            "tokenizer, as both read the same ids; change vocab_size in its config.json, or take a student "
            "of this vocabulary"
        )
    return student


def _drawn(stock, config, seed):
    """A random model of a stock class, a function of the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return stock(config).eval()
