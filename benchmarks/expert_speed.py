"""Speed of experts: a sublayer of them beside the dense one, and a student with experts beside its
dense twin.

    OMP_NUM_THREADS=1 python -m benchmarks.expert_speed --output speed.json  # about 4 minutes on one core
    python -m benchmarks.expert_speed --device cuda --output speed_gpu.json
Prints a table, writes JSON. Nothing is read: models and tokens are random.

What is compared, and how:
    rounds      dense, experts, dense, experts, ... on one thread and with the allocator of training
                (utils/allocator.py), many calls in a round; a ratio is taken within each round, and the
                median is given with the smallest and the largest
    time        CPU time of the process; on a GPU wall time until the device is idle, ten calls of a side at a
                time
    block       a sublayer 384 wide, 1,536 neurons: two linear maps and GELU; with 4 experts of that size also
                router, sorting, scaling. "balanced": tokens shared out evenly; "skewed": the first expert
                gets 70%
    student     3 layers, 384 wide, 4 feed-forward experts, beside 3 layers of one: from token ids to final
                states ("forward"), and to updated weights ("step"), with the balance loss, clipping and the
                optimiser; their routers are as initialised. Equal multiply-accumulates but for the routers',
                0.1%
That both sides compute the same is tested in tests/test_expert_speed.py.
"""

import argparse
import copy
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, BertModel

from benchmarks import timing
from benchmarks.reporting import begin, finish, median, spread
from models import moe_bert
from models.balance import Balance
from modules.experts import ExpertLinear, Router
from utils import allocator, logs, updates
from utils.batch import Batch
from utils.evaluation import autocast

AIMS = {("cpu", "fp32", 128): 1.6, ("cpu", "fp32", 2048): 1.05, ("cuda", "bf16", 16384): 1.2}  # of a block
WIDTH, NEURONS, EXPERTS, LAYERS = 384, 1536, 4, 3
SKEW = 0.7
CALLS = {"cpu": 1, "cuda": 10}  # of one side before the other's turn: a GPU is not to wait for the host
SETTINGS = updates.Settings(learning_rate=3e-4)


def parse(argv=None):
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--precisions", nargs="+", choices=("fp32", "bf16"), help="fp32; on a GPU both")
    add("--num_tokens", type=int, nargs="+", default=[128, 2048, 16384], help="of a block's input")
    add("--batch_size", type=int, default=16, help="sequences of 128 tokens, of a student's input")
    add("--vocabulary", type=int, default=30522)
    add("--num_rounds", type=int, default=7)
    add("--seconds", type=float, default=1.0, help="of a round")
    add("--output", type=Path, help="JSON file")
    args = parser.parse_args(argv)
    args.precisions = args.precisions or ["fp32"] + ["bf16"] * (args.device == "cuda")
    return args


def main(argv=None):
    """Measure, print, write; returns what is written."""
    args = parse(argv)
    allocator.keep_freed_memory()
    found = begin("expert_speed", argv, device=args.device, rows=[])
    for what, sides in cases(args):
        found["rows"].append({**what, "rounds": rounds(sides(), args)})
    return finish(found, report, args.output)


def cases(args):
    """[(what is measured, a function that makes {side: a function to time})]."""
    for precision in args.precisions:
        for tokens in args.num_tokens:
            for shares in ("balanced", "skewed"):
                for passes in ("forward", "forward, backward"):
                    what = {
                        "what": "block",
                        "precision": precision,
                        "tokens": tokens,
                        "shares": shares,
                        "passes": passes,
                    }
                    yield what, lambda what=what: blocks(what, args)
        for passes in ("forward", "step"):
            what = {
                "what": "student",
                "precision": precision,
                "tokens": 128 * args.batch_size,
                "shares": "",
                "passes": passes,
            }
            yield what, lambda what=what: students(what, args)


def rounds(sides, args) -> list[dict]:
    """[{side: seconds of one call, "ratio": experts / dense}]."""
    options = {
        "number": args.num_rounds,
        "seconds": args.seconds,
        "device": args.device,
        "calls": CALLS[args.device],
    }
    made = timing.in_turns(sides, **options)
    return [{**spent, "ratio": spent["experts"] / spent["dense"]} for spent in made]


# ---- A block


class Block(nn.Module):
    """Two maps with GELU between; a router that both of them share, or None."""

    def __init__(self, first, last, router=None):
        super().__init__()
        self.first, self.last, self.router = first, last, router

    def forward(self, states_BLD):
        """[B, L, D] to [B, L, D]."""
        if self.router is not None:
            self.router.reset(None)
        return self.last(F.gelu(self.first(states_BLD)))


def blocks(what, args) -> dict:
    """{side: a function that runs the block once, and returns its output}."""
    states_BLD, module = states(what["tokens"], what["shares"], args.device), dense_block()
    made = {"dense": module, "experts": expert_block(module)}
    return {side: _pass(block.to(args.device), states_BLD, what) for side, block in made.items()}


def _pass(block, states_BLD, what):
    gradient = torch.ones_like(states_BLD)

    def forward():
        with torch.no_grad(), autocast(states_BLD.device, what["precision"]):
            return block(states_BLD)

    def both():
        block.zero_grad(set_to_none=True)
        states_BLD.grad = None
        with autocast(states_BLD.device, what["precision"]):
            made = block(states_BLD)
        made.backward(gradient.to(made.dtype))
        return made

    return forward if what["passes"] == "forward" else both


def dense_block():
    """The dense block of one expert."""
    torch.manual_seed(0)
    return Block(nn.Linear(WIDTH, NEURONS), nn.Linear(NEURONS, WIDTH))


def expert_block(dense):
    """Experts that are all copies of a dense block, behind a router that reads each token's expert off its
    first features."""
    router = Router(EXPERTS, widths=(WIDTH, NEURONS))
    with torch.no_grad():
        router.weight.copy_(torch.eye(EXPERTS, WIDTH))
        router.bias.zero_()
    maps = [
        ExpertLinear(
            *(
                tensor.detach().expand(EXPERTS, *tensor.shape).clone()
                for tensor in (linear.weight, linear.bias)
            ),
            router,
            enters=linear is dense.first,
            sorted_inside=True,
        )
        for linear in (dense.first, dense.last)
    ]
    return Block(*maps, router)


def states(num_tokens, shares, device):
    """[1, T, D]: random tokens, of which so many want each expert, in random order; probability of the chosen
    one almost 1."""
    generator = torch.Generator().manual_seed(0)
    made_TD = torch.randn(num_tokens, WIDTH, generator=generator)
    wanted_T = torch.arange(num_tokens) % EXPERTS
    if shares == "skewed":
        wanted_T[: round(SKEW * num_tokens)] = 0
    made_TD[:, :EXPERTS] = 20.0 * F.one_hot(
        wanted_T[torch.randperm(num_tokens, generator=generator)], EXPERTS
    )
    return made_TD[None].to(device).requires_grad_()


# ---- A student


def students(what, args) -> dict:
    """{side: a function that runs the student once}: final states, or the loss of a step."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=args.vocabulary,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=12,
        intermediate_size=NEURONS,
        max_position_embeddings=128,
    )
    dense = BertModel(config, add_pooling_layer=False).eval()
    made = moe_bert.with_experts(
        dense, attention=1, ffn=EXPERTS, shared_fraction=Fraction(2, 3), noise="multiplicative", seed=0
    )
    ids_BL = torch.randint(
        1000, args.vocabulary, (args.batch_size, 128), generator=torch.Generator().manual_seed(0)
    )
    inputs = {"input_ids": ids_BL, "attention_mask": torch.ones_like(ids_BL)}
    batch = Batch(inputs, None, None, {"examples": float(len(ids_BL)), "tokens": float(ids_BL.numel())}).to(
        args.device
    )
    make = _forward if what["passes"] == "forward" else _step
    return {
        side: make(copy.deepcopy(model).to(args.device), batch, what)
        for side, model in (("dense", dense), ("experts", made))
    }


def _forward(student, batch, what):
    def run():
        with torch.no_grad(), autocast(student.device, what["precision"]):
            return batch.through(student).last_hidden_state

    return run


def _step(student, batch, what):
    optimizer, balance = updates.optimizer(student.train(), SETTINGS), Balance(student)

    def run():
        with autocast(student.device, what["precision"]):
            loss = batch.through(student).last_hidden_state.float().square().mean()
            loss = loss + sum(balance(batch).values())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return run


# ---- What is printed


def report(found) -> str:
    """The table."""
    rows = []
    for row in found["rows"]:
        aim = AIMS.get((found["device"], row["precision"], row["tokens"])) if row["what"] == "block" else None
        met = "" if aim is None else f"{aim} {'met' if median(row['rounds'], 'ratio') <= aim else 'missed'}"
        times = {side: f"{1000 * median(row['rounds'], side):.3g} ms" for side in ("dense", "experts")}
        facts = {key: row[key] for key in ("what", "precision", "tokens", "shares", "passes")}
        rows.append({**facts, **times, "experts / dense": spread(row["rounds"], "ratio"), "aim": met})
    return f"\nExperts over dense: the median over the rounds (smallest-largest)\n{logs.table(rows)}\n"


if __name__ == "__main__":
    main()
