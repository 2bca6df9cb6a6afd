"""What an evaluation lists of one model: the facts about it, its metrics, its times."""

import contextlib

import torch

from models import architectures
from models.moe_bert import expert_entry
from models.slicing import kept
from models.students import describe
from utils import bootstrap, cost, evaluation, timing


def facts(model) -> dict:
    """describe(model), and besides: flops of one example of `tokens` tokens, as torch counts them; per_layer:
    {"heads": [...], "neurons": [...]}, with experts also {"attention_experts", "ffn_experts"}."""
    num_layers = len(architectures.layers(model))
    per_layer = kept(model)
    if entry := expert_entry(model):
        per_layer |= {name: [entry[name]] * num_layers for name in ("attention_experts", "ffn_experts")}
    tokens = min(cost.MACS_TOKENS, architectures.max_positions(model) or cost.MACS_TOKENS)
    return {
        **describe(model),
        "flops": example_flops(model, tokens),
        "tokens": tokens,
        "per_layer": per_layer,
    }


def example_flops(model, tokens) -> int:
    """Floating-point operations of a forward pass of one example of so many tokens; task head and attention
    products included."""
    with plain_attention(model):
        return cost.flops(model, {"input_ids": torch.full((1, tokens), 5, device=model.device)})


@contextlib.contextmanager
def plain_attention(model):
    """A context in which a model's attention is plain matrix products, whatever kernel it uses otherwise."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def measure(model, splits, *, facts, repeats, batch_size, precision, device):
    """Score a model, or a graph, and time it.

    splits: {name: Split}; passes are timed on rows of the first.  facts: facts() of the model.
    repeats: timed passes of each kind; 0: nothing is timed.
    Returns ({"split/metric": value, "speed": {case: utils.cost.latency}, "peak_bytes"}, {split:
    Split.readable of the outputs}).
    """
    runner, row, answers = timing.AutocastModel(model, device=device, precision=precision), {}, {}
    for name, split in splits.items():
        outputs = evaluation.logits(runner, split, batch_size=batch_size, device=device)
        row.update({f"{name}/{metric}": value for metric, value in split.score(outputs).items()})
        answers[name] = split.readable(outputs)
    if repeats:
        longest = {"max_tokens": facts["tokens"]}
        cases = timing.cases(next(iter(splits.values())), **longest)
        row["speed"] = timing.speed(runner, cases, repeats=repeats, device=device)
        # A graph's session keeps the memory that it has once taken, so that a pass takes no more
        is_graph = not isinstance(model, torch.nn.Module)
        row["peak_bytes"] = (
            None if is_graph else timing.peak(runner, cases, **longest, weights=facts["bytes"], device=device)
        )
    return row, answers


def hardware(device, rows) -> str:
    """What rows were measured on, in words: the device that models ran on, and the CPU, where all graphs
    do."""
    named = cost.hardware(device)
    if device.type == "cpu" or all(row["runtime"] == "torch" for row in rows):
        return named
    return f"{named}; graphs: {cost.hardware(torch.device('cpu'))}"


def add_differences(rows, answers, splits, *, task, samples, seed):
    """Add to all rows but the first how their metrics differ from its, see utils.bootstrap: "compared_with",
    "difference".

    answers: of each row, as measure() returns them.  samples: of the bootstrap.
    """
    names = [name for name in task.metrics if name in bootstrap.resampled(task.kind, task.label_names)]
    options = {"samples": samples, "seed": seed, "label_names": task.label_names}
    for row, found in zip(rows[1:], answers[1:]):
        row |= {"compared_with": rows[0]["name"], "difference": {}}
        for name, split in splits.items():
            result = bootstrap.compare(
                task.kind, names, answers[0][name], found[name], split.readable(), **options
            )
            row["difference"] |= {f"{name}/{metric}": values for metric, values in result.items()}
