"""Sections "relations", "experts", "attention", "compile": parts of a step beside other ways to compute the same.

attention   BERT-base without dropout, forward and backward, on sequences all of one length and on sequences of random lengths;
            "packed" has their tokens one behind the other and no padding, with torch's variable-length attention (on a CPU one
            sequence at a time). What is not to be had here is said so. All must find the same states
compile     that two stages run with --compile; fine-tuning with and without: the updates once compiled, the seconds of all
"""

import contextlib
import copy
import functools

import numpy as np
import torch
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel

import run_finetuning
from benchmarks import expert_speed, relation_speed, reporting, timing, training_cases
from benchmarks.gpu import made_up, stages
from benchmarks.gpu.settings import aim, attempt, in_short
from benchmarks.training_cases import WARMUP
from utils.evaluation import autocast

RELATIONS, EXPERTS = 3, 1.2
EXPERT_TOKENS = 16384
SAME = 3e-2  # relative difference of states in 16 bits; 0.006 where all is right, 0.2 where padding is seen
COMPILED = ("MiniLMv2, text", "MiniMoE, text")


# ---- MiniLMv2


def relations(settings):
    """The loss, and a step of MiniLMv2, beside the naive ones in the same precision."""
    words = settings.pick(
        ["--batch_size", 64], ["--batch_size", 64], ["--batch_size", 2, "--num_tokens", 12, "--vocabulary", 1100]
    )
    args = relation_speed.parse([str(word) for word in words])
    rounds = settings.pick(5, 3, 1)
    sides = {"ours": relation_speed.our_loss, "naive": relation_speed.naive_loss}
    yield attempt({"what": "relation loss", "precision": "fp32"}, lambda: ratio(sides, args, rounds, settings), settings)
    for precision in ("fp32", settings.precision):
        steps = {"ours": relation_speed.our_step, "naive": relation_speed.naive_step}
        sides = {side: functools.partial(step, precision=precision) for side, step in steps.items()}
        row = attempt(
            {"what": "MiniLMv2 step", "precision": precision}, lambda sides=sides: ratio(sides, args, rounds, settings), settings
        )
        if precision != "fp32" and "naive / ours" in row:
            row["aim"] = aim(row["naive / ours"], at_least=RELATIONS, settings=settings)
        yield row


def ratio(sides, args, rounds, settings) -> dict:
    """Seconds and peak memory of both, and how many times as long the naive one takes."""
    calls = {side: make(args, device=settings.device) for side, make in sides.items()}
    made = timing.in_turns(calls, number=rounds, seconds=settings.pick(1.0, 0.5, 0.0), device=settings.device)
    made = [{**row, "naive / ours": row["naive"] / row["ours"]} for row in made]
    found = {f"{side} s": reporting.median(made, side) for side in calls}
    if settings.device == "cuda":
        for side, call in calls.items():
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            found[f"{side} MiB"] = round((torch.cuda.max_memory_allocated() - before) / 2**20)
    return {**found, "naive / ours": reporting.median(made, "naive / ours")}


# ---- Experts


def experts(settings):
    """benchmarks.expert_speed: a block of four experts beside the dense one, and a student beside its dense twin."""
    tokens, rounds = settings.pick(["2048", "16384"], ["16384"], ["40"]), settings.pick("5", "3", "1")
    words = [
        "--num_tokens",
        *tokens,
        "--num_rounds",
        rounds,
        "--seconds",
        settings.pick("0.2", "0.2", "0.01"),
        "--device",
        settings.device,
    ]
    small = settings.pick(["--batch_size", "64"], ["--batch_size", "64"], ["--batch_size", "1", "--vocabulary", "1100"])
    args = expert_speed.parse([*words, *small, "--precisions", *settings.pick(["fp32"], [], []), settings.precision])
    for what, make in expert_speed.cases(args):
        row = attempt(what, lambda make=make: expert_rounds(make(), args), settings)
        wanted = what["what"] == "block" and what["tokens"] == EXPERT_TOKENS and what["precision"] == "bf16"
        if wanted and "experts / dense" in row:
            row["aim"] = aim(row["experts / dense"], at_most=EXPERTS, settings=settings)
        yield row


def expert_rounds(sides, args) -> dict:
    """Medians of both sides, and of their ratio."""
    made = expert_speed.rounds(sides, args)
    found = {f"{side} ms": 1000 * reporting.median(made, side) for side in sides}
    return {**found, "experts / dense": reporting.median(made, "ratio")}


# ---- Attention


def attention(settings):
    """Each way of computing attention, on two sorts of batches."""
    for tokens, batch_size in settings.pick(((128, 128), (512, 32)), ((128, 128),), ((16, 3),)):
        for ragged in (False, True):
            yield from ways(Sequences(batch_size, tokens, ragged, settings), settings)


class Sequences:
    """A batch of random tokens, padded and packed.  ragged: of random lengths, from an eighth of `tokens` on."""

    def __init__(self, batch_size, tokens, ragged, settings):
        generator, device = torch.Generator().manual_seed(0), settings.device
        self.name = {"sequences": batch_size, "tokens": tokens, "lengths": "random" if ragged else "equal"}
        lengths_B = torch.randint(max(1, tokens // 8), tokens + 1, (batch_size,), generator=generator) if ragged else None
        lengths_B = torch.full((batch_size,), tokens) if lengths_B is None else lengths_B
        mask_BL = torch.arange(tokens) < lengths_B[:, None]
        ids_BL = torch.randint(5, 100, mask_BL.shape, generator=generator) * mask_BL
        padded = {
            "input_ids": ids_BL,
            "attention_mask": mask_BL.long() if ragged else None,
            "token_type_ids": torch.zeros_like(ids_BL),
        }
        packed = {
            "input_ids": ids_BL[mask_BL][None], "token_type_ids": torch.zeros(1, int(lengths_B.sum()), dtype=torch.long),
            "position_ids": torch.cat([torch.arange(length) for length in lengths_B])[None],
        }  # fmt: skip
        self.padded, self.packed = (
            {name: tensor if tensor is None else tensor.to(device) for name, tensor in inputs.items()}
            for inputs in (padded, packed)
        )
        self.mask_BL, self.lengths = mask_BL.to(device), lengths_B.tolist()
        ends_B = torch.cat([torch.zeros(1, dtype=torch.long), lengths_B.cumsum(0)])
        self.ends_B = ends_B.to(device, torch.int32)


class Packed:
    """An attention function for transformers: sequences one behind the other in a batch of one, as `sequences` says."""

    NAME = "packed"

    def __init__(self):
        self.sequences = None
        transformers.AttentionInterface.register(self.NAME, self)

    def __call__(self, module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):
        """query, key, value: [1, heads, T, features].  Returns ([1, T, heads, features], None)."""
        assert attention_mask is None and not dropout
        flat = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]  # [T, heads, features]
        if query.device.type == "cuda":
            from torch.nn.attention.varlen import varlen_attn  # since torch 2.10

            longest, ends_B = max(self.sequences.lengths), self.sequences.ends_B
            return varlen_attn(*flat, ends_B, ends_B, longest, longest)[None], None
        parts = zip(*(tensor.split(self.sequences.lengths) for tensor in flat))
        made = [torch.nn.functional.scaled_dot_product_attention(*(part.transpose(0, 1) for part in one)) for one in parts]
        return torch.cat(made, dim=1).transpose(0, 1)[None], None


def ways(sequences, settings):
    """Rows: each way's milliseconds for forward and backward, beside sdpa as torch chooses it."""
    sides, rows, expected, packed = {}, {}, None, Packed()
    packed.sequences = sequences
    config = {**made_up.sizes(settings), "initializer_range": 0.05}  # or attention would hardly matter
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(vocab_size=100, **config), add_pooling_layer=False).to(settings.device)
    for way, (name, backend) in attentions(packed).items():
        rows[way] = {**sequences.name, "attention": way}
        try:
            call = step(copy.deepcopy(model), name, backend, sequences, settings)
            states = call()
            sides[way] = call
        except Exception as error:  # no such kernel for this device, precision or mask; or no such package
            if way in ("eager", "sdpa"):
                raise
            rows[way]["not to be had"] = in_short(error)
            continue
        expected = states if expected is None else expected  # those of the first way, eager
        rows[way]["difference"] = float((states - expected).norm() / expected.norm())
        rows[way]["passed"] = rows[way]["difference"] <= SAME
    made = timing.in_turns(sides, number=settings.pick(5, 3, 1), seconds=settings.pick(0.5, 0.3, 0.0), device=settings.device)
    for way in sides:
        rows[way]["ms"] = 1000 * reporting.median(made, way)
        rows[way]["sdpa / this"] = float(np.median([row["sdpa"] / row[way] for row in made]))
        if settings.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            sides[way]()
            rows[way]["peak MiB"] = round(torch.cuda.max_memory_allocated() / 2**20)
    yield from rows.values()


def attentions(packed) -> dict:
    """{way: (the name that transformers has for it, the one kernel that torch may take or None)}."""
    kernels = {"math": SDPBackend.MATH, "efficient": SDPBackend.EFFICIENT_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION,
               "cudnn": SDPBackend.CUDNN_ATTENTION}  # fmt: skip
    made = {
        "eager": ("eager", None),
        "sdpa": ("sdpa", None),
        **{f"sdpa, {way}": ("sdpa", kernel) for way, kernel in kernels.items()},
    }
    return {**made, "flash_attention_2": ("flash_attention_2", None), "flash_attention_3": ("flash_attention_3", None),
            "packed": (packed.NAME, None)}  # fmt: skip


def step(model, name, backend, sequences, settings):
    """A function: forward and backward; it returns the states of all real tokens."""
    model.set_attn_implementation(name)
    if model.config._attn_implementation != name:
        raise RuntimeError(f"transformers took {model.config._attn_implementation}")
    model.train()
    inputs = sequences.packed if name == Packed.NAME else sequences.padded

    def call():
        kernel = contextlib.nullcontext() if backend is None else sdpa_kernel(backend)
        with kernel, autocast(model.device, settings.precision):
            states = model(**inputs).last_hidden_state.float()
        real = states[0] if name == Packed.NAME else states[sequences.mask_BL]
        real[:, ::2].square().mean().backward()  # of a whole state it would be what the last norm makes it
        model.zero_grad(set_to_none=True)
        return real.detach()

    return call


# ---- torch.compile


def compiled(settings):
    """Two stages with --compile, that they run; fine-tuning of BERT-base with it beside the same without."""
    stance = torch.compiler.set_stance("default", force_backend="eager") if settings.device == "cpu" else contextlib.nullcontext()
    with stance:  # on a CPU what is tested is that the path is there: nothing is gained and a minute lost
        for stage, script, words in stages.stages(settings, settings.work / "compiled"):
            if stage in COMPILED:
                run = functools.partial(stages.run, script, [*words, "--compile"], settings.precision, settings)
                yield attempt({"what": f"{stage}, small"}, run, settings)
        if settings.pick(True, False, True):
            batch_size, number = settings.pick(128, 128, 8), settings.pick(24, 24, 2)
            what = {"what": "fine-tuning, BERT-base", "precision": settings.precision, "batch": batch_size}
            yield attempt(what, lambda: beside_eager(settings, batch_size, number), settings)


def beside_eager(settings, batch_size, number) -> dict:
    """The second half of the updates of both, the seconds of all updates."""
    case, found = made_up.case(settings, batch_size=batch_size, num_batches=WARMUP + number), {}
    for side, words in (("eager", ()), ("compiled", ("--compile",))):
        seconds, (steps, _, _) = timing.timed(
            functools.partial(training_cases.time_updates, run_finetuning, case, *words, number=number, seed=0),
            device=settings.device,
        )  # fmt: skip
        found |= {f"{side} step s": float(np.median(steps[number // 2 :])), f"{side} all s": seconds}
    return {**found, "eager / compiled": found["eager step s"] / found["compiled step s"]}
