"""The head of a checkpoint beside what the task needs: its kind, its labels and their order.

has_task_head, require_vocabulary_head, order_of_labels: what its config says, before it is loaded.  permute,
renew: of the loaded model.
"""

import re

from torch import nn

from models import architectures
from utils import families
from utils.errors import CheckpointError
from utils.logs import logger


def has_vocabulary_head(config: dict, names) -> bool:
    """Whether a checkpoint has a head for masked tokens that load_model(kind="masked") takes; all its weights
    may be the embeddings'.

    config: its config.json.  names: of its weights.
    """
    family = families.of(config["model_type"])
    whole = (config.get("architectures") or [""])[0].endswith(family.class_name("masked"))
    found = any(re.match(within(family.vocabulary), name) for name in names)
    return bool(family.vocabulary) and (whole or found)


def has_task_head(path, config, names, kind, new_head) -> bool:
    """Whether a checkpoint has the task's head; False also for an encoder alone (kind None).

    path: as the user gave it.  config, names: its config.json, and of its weights.  kind: of the task.
    new_head: whether one may be made.  Raises CheckpointError for another task's head, one that the config
    does not name, and where there is none and none may be made.
    """
    family = families.of(config["model_type"])
    weight = next((name for name in sorted(names) if re.match(within(family.task_heads), name)), None)
    if kind is not None and not config.get("architectures") and weight is not None:
        raise CheckpointError(
            f"{path}: has {weight}, of a task head, but its config.json does not say of which kind; add "
            f'"architectures": ["{family.class_name(kind)}"] to it, if that is '
            "what it is"
        )
    made_of = (config.get("architectures") or [""])[0]
    found = made_of.partition("For")[2]
    if kind is not None and family.own_class(kind) and made_of == family.class_name(kind):
        raise CheckpointError(
            f"{path}: a {made_of} reads a whole decoder, of which one layer is supported here, with a prompt "
            "(EncT5); fine-tune its encoder: run_finetuning.py --new_head"
        )
    if kind is None or found == families.HEADS[kind]:
        return kind is not None
    if found in families.HEADS.values():
        raise CheckpointError(
            f"{path}: this checkpoint has a head for {_in_words(found)}, the task is {kind}; "
            "take a checkpoint of this task, or the encoder that it was fine-tuned from; "
            "run_finetuning.py --new_head drops this head"
        )
    if not new_head:
        raise CheckpointError(
            f"{path}: this checkpoint has no task head "
            f"({(config.get('architectures') or ['unknown class'])[0]}); expected one fine-tuned for {kind}: "
            "run run_finetuning.py on it first"
        )
    return False


def require_vocabulary_head(path, config, names):
    """Raise CheckpointError where none of the weights is of a head for masked tokens (all may be the
    embeddings')."""
    if not has_vocabulary_head(config, names):
        raise CheckpointError(
            f"{path}: this checkpoint has no head for masked tokens, whose loss is needed; expected a model "
            "as it was pretrained (bert-base-uncased), with its head"
        )


def order_of_labels(path, config, kind, expected, unnamed_labels) -> list[int] | None:
    """A head's labels against the task's: None where they are the same, else the number that each of the
    task's has in the checkpoint.

    expected: the task's labels, in the order of their ids; None for a kind without.  unnamed_labels: the
    names of LABEL_0, LABEL_1 ...  Raises CheckpointError for other labels, and for ids that are no numbering.
    """
    if kind == "spans" or (expected is None and kind != "regression"):
        return None
    if config.get("id2label"):
        ids = {int(number): str(name) for number, name in config["id2label"].items()}
    elif config.get("label2id"):
        ids = {int(number): str(name) for name, number in config["label2id"].items()}
    else:
        ids = {number: f"LABEL_{number}" for number in range(config.get("num_labels") or 2)}
    found, given = [ids[number] for number in sorted(ids)], config.get("label2id")
    if sorted(ids) != [*range(len(ids))]:
        raise CheckpointError(
            f"{path}: id2label has the ids {sorted(ids)}; expected 0 to {len(ids) - 1}, each once; mend "
            "config.json"
        )
    if config.get("id2label") and given and {int(number): str(name) for name, number in given.items()} != ids:
        raise CheckpointError(f"{path}: label2id {given} contradicts id2label {ids}; mend config.json")
    if kind == "regression":
        if len(found) != 1:
            raise CheckpointError(
                f"{path}: a regression head has one output, this checkpoint's has {len(found)} labels: "
                f"{found}"
            )
        return None
    if found == [f"LABEL_{number}" for number in range(len(found))] != expected:
        if unnamed_labels is None or len(unnamed_labels) != len(found):
            given = "none" if unnamed_labels is None else ",".join(unnamed_labels)
            raise CheckpointError(
                f"{path}: the checkpoint does not name its {len(found)} labels ({_numbered(found)}); say in "
                f"their order what they mean: --label_names {','.join(expected)}, if that is their order "
                f"(found --label_names: {given})"
            )
        found = list(unnamed_labels)
    known, wanted = ([name.casefold() for name in names] for names in (found, expected))
    if sorted(known) != sorted(wanted) or (known != wanted and len({*known}) != len(known)):
        raise CheckpointError(
            f"{path}: the checkpoint's labels contradict the task's\n  checkpoint: {_numbered(found)}\n"
            f"  task:       {_numbered(expected)}\nTake a checkpoint of this task, or fine-tune its encoder "
            "again (run_finetuning.py --new_head drops this head)"
        )
    return None if known == wanted else [known.index(name) for name in wanted]


def permute(path, model, order):
    """Put the rows of a head, whose labels stand in another order, into the task's, in place.  order: of
    order_of_labels()."""
    out = [module for head in _heads(model) for module in head.modules() if isinstance(module, nn.Linear)][-1]
    for parameter in out.parameters():
        parameter.data = parameter.data[order]
    names = [model.config.id2label[number] for number in range(len(order))]
    logger.info(
        "%s: its labels stand in another order; the rows of its head are put into the task's: %s",
        path,
        ", ".join(f"{before} -> {number} {names[number]}" for number, before in enumerate(order)),
    )


def renew(path, model):
    """Initialise a task head as transformers does, in place."""
    for head in _heads(model):
        for parameter in head.parameters():
            parameter._is_hf_initialized = False
        for module in head.modules():
            module._is_hf_initialized = False
            model._init_weights(module)
    logger.info("%s: its head is dropped, the task's is new and randomly initialised", path)


def _heads(model) -> list:
    """The modules of a model's task head."""
    return [getattr(model, name) for name in architectures.of(model).task_heads if hasattr(model, name)]


def within(modules):
    """A pattern of the names of what belongs to one of these modules."""
    return rf"^({'|'.join(modules)})\."


def _in_words(head):
    *kinds, last = [kind for kind, name in families.HEADS.items() if name == head]
    return f"{', '.join(kinds)} or {last}" if kinds else last


def _numbered(names):
    return ", ".join(f"{number} {name}" for number, name in enumerate(names))
