"""What an evaluation measures: operations, parameters, times, memory; and the script that lists them."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from commands import ROOT, run

import models
from models import measuring, moe_bert
from utils import cost, flags, timing
from utils.batch import Batch
from utils.files import read_json

T = 38  # tokens; all families of tiny_models have positions for them


def products(heads, neurons, *, tokens, labels=3):
    """FLOPs of a tiny BERT by hand: per layer four projections, two attention products, two of the
    feed-forward; pooler, head."""
    width, size, total = 16, 4, 0
    for kept_heads, kept_neurons in zip(heads, neurons):
        total += 4 * tokens * width * kept_heads * size + 2 * tokens * tokens * kept_heads * size
        total += 2 * tokens * width * kept_neurons
    return 2 * (total + width * width + width * labels)


@pytest.mark.parametrize("sparsity", [0, 60, 95, 100])
def test_operations_of_a_crop(sparsity):
    model = models.crop(tiny_models.nest(tiny_models.build()), sparsity)
    facts = measuring.facts(model)
    assert (
        facts["flops"] == products(*facts["per_layer"].values(), tokens=facts["tokens"])
        and facts["tokens"] == 40
    )
    assert facts["per_layer"] == models.kept(model)
    assert model.config._attn_implementation == "sdpa"
    assert facts["embedding_parameters"] == 16 * (40 + 40 + 2)


def test_operations_of_bert_base():
    """21.743 in the layers' maps, 0.604 in attention's products, the pooler."""
    with torch.device("meta"):
        model = transformers.BertModel(transformers.BertConfig()).eval()
    assert measuring.example_flops(model, 128) == 2 * (10_871_635_968 + 12 * 2 * 128 * 128 * 768 + 768 * 768)


def test_operations_of_experts():
    """A token meets one expert and the router, however many there are."""
    dense = tiny_models.build(dtype=torch.float32)
    made = moe_bert.with_experts(dense, attention=1, ffn=4, shared_fraction=1, noise="none", seed=0)
    facts = measuring.facts(made.eval())
    assert facts["flops"] - measuring.facts(dense)["flops"] == 2 * 3 * facts["tokens"] * 16 * 4
    assert facts["per_layer"]["ffn_experts"] == [4, 4, 4] and facts["per_layer"]["attention_experts"] == [
        1,
        1,
        1,
    ]


@pytest.mark.parametrize("case", [case for case in tiny_models.CASES if case != "bert"])
def test_every_family_is_counted(case):
    """Fewer units, fewer operations; what attention is computed with stays as it was."""
    model = tiny_models.nest(tiny_models.build(case))
    before = model.config._attn_implementation
    found = [measuring.example_flops(models.crop(model, sparsity), T) for sparsity in (0, 60, 100)]
    assert found[0] > found[1] > found[2] > 0 and model.config._attn_implementation == before
    assert (
        found[0] - found[1]
        >= 2
        * T
        * (
            cost.linear_macs(models.layer_modules(model))
            - cost.linear_macs(models.layer_modules(models.crop(model, 60)))
        )
        / 128
    )


class Rows:
    """A split of rows of known lengths, whose tokens are their numbers."""

    def __init__(self, lengths):
        self.lengths = np.array(lengths)

    def in_order(self, batch_size):
        order = np.argsort(-self.lengths, kind="stable")
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def collate(self, rows):
        mask = torch.arange(max(self.lengths[rows])) < torch.tensor(self.lengths[rows])[:, None]
        ids = torch.tensor(rows)[:, None] * 100 + torch.arange(mask.shape[1])
        return Batch({"input_ids": ids * mask, "attention_mask": mask.long()}, None, rows)


def test_batches_that_are_timed():
    cases = timing.cases(Rows(range(3, 103)))
    assert {
        name: [tuple(batch.inputs["input_ids"].shape) for batch in batches] for name, batches in cases.items()
    } == {
        "1x128": [(1, 128)],
        "1xreal": [(1, 102), (1, 77), (1, 52), (1, 28), (1, 3)],
        "32x128": [(32, 128)],
        "32xreal": [(32, 102), (32, 70), (32, 38)],
    }
    (batch,) = cases["1x128"]
    row = int(batch.indices[0])
    length = row + 3
    assert batch.inputs["attention_mask"].all()
    assert batch.inputs["input_ids"][0].tolist() == [100 * row + i % length for i in range(128)]


def test_few_and_short_rows():
    """A split of three rows still makes a batch of 32; a model of 64 positions is timed with 64 tokens, and
    the name says so."""
    cases = timing.cases(Rows([5, 6, 7]), max_tokens=64)
    assert list(cases) == ["1x64", "1xreal", "32x64", "32xreal"]
    assert [batch.inputs["input_ids"].shape for batch in cases["32xreal"]] == [(32, 7)]


def test_latency_of_several_batches():
    """Examples over the sum of the batches' medians: long batches count by their time."""
    times = iter([0, 0] + [40, 10] * 3)

    class Sleeper(torch.nn.Module):
        def forward(self, *, input_ids):
            import time

            time.sleep(next(times) / 1000)

    found = cost.latency(
        Sleeper().eval(), [{"input_ids": torch.zeros(n, 1)} for n in (3, 1)], repeats=3, warmup=1
    )
    assert found["examples_per_second"] == pytest.approx(4 / 0.05, rel=0.1)


def test_peak_of_a_pass():
    """64 MiB that a pass takes for a moment are seen, also after a larger pass; the weights are added."""
    program = (
        "import torch\n"
        "from utils.cost import peak_of\n"
        "def take(megabytes):\n"
        "    def run():\n"
        "        torch.ones(megabytes, 2**18).sum()\n"
        "    run()\n"
        "    return peak_of(run, weights=1000, device='cpu')\n"
        "print(take(256), take(64))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    large, small = map(int, done.stdout.split())
    assert large == pytest.approx(1000 + 2**28, rel=0.05) and small == pytest.approx(1000 + 2**26, rel=0.1)


def test_short_names():
    names = flags.evaluation.short_names
    assert names(["outputs/a/mrpc", "outputs/b/mrpc/ckpt"]) == ["a/mrpc", "b/mrpc"]
    assert names(["outputs/a", "bert-base-uncased"]) == ["a", "bert-base-uncased"]
    assert names(["x/a", "x/a"]) == ["x/a", "x/a"]


# ---- The script


@pytest.fixture(scope="module")
def base(small_demo):
    return ("--task_name", "demo", "--data_dir", small_demo, "--use_cpu")


def test_evaluation_compares_and_draws(base, tuned_demo, nested_demo, tmp_path):
    """Teacher first; the nested teacher differs from it by nothing; numbers of layers, sizes, times and the
    picture are there."""
    words = [
        *f"--teacher_model_path {tuned_demo} --model_path {nested_demo} --sparsities 0,90".split(),
        *f"--compare --num_resamples 200 --num_repeats 2 --output_dir {tmp_path / 'run'}".split(),
        *"--selection_metric f1_entailment".split(),
    ]
    run("run_evaluation.py", *base, *words)
    results = read_json(tmp_path / "run" / "results.json")
    rows = results["rows"]
    assert [row["teacher"] for row in rows] == [True, False, False] and "thread" in results["hardware"]
    assert [row["name"].split()[-1] for row in rows[1:]] == ["0S", "90S"]
    nothing = {"difference": 0.0, "low": 0.0, "high": 0.0}
    assert rows[1]["difference"] == {"dev/acc": nothing, "dev/f1_entailment": nothing}
    difference = rows[2]["difference"]["dev/acc"]
    assert difference["difference"] == pytest.approx(rows[2]["dev/acc"] - rows[0]["dev/acc"])
    assert difference["low"] <= difference["difference"] <= difference["high"]
    assert (
        rows[0]["disk_bytes"] == (tuned_demo / "ckpt" / "model.safetensors").stat().st_size
        and rows[2]["disk_bytes"] is None
    )
    assert (
        set(rows[0]["speed"]) == {"1x128", "1xreal", "32x128", "32xreal"}
        and rows[0]["peak_bytes"] > rows[0]["bytes"]
    )
    assert rows[2]["flops"] < rows[1]["flops"] == rows[0]["flops"]
    assert sum(rows[2]["per_layer"]["neurons"]) == rows[2]["neurons"] == 102
    with open(tmp_path / "run" / "table.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert lines[2]["per_layer/heads"] == " ".join(map(str, rows[2]["per_layer"]["heads"]))
    assert float(lines[1]["speed/32x128/median_ms"]) > 0
    assert (tmp_path / "run" / "costs.png").stat().st_size > 10_000
    again = run("run_evaluation.py", *base, *words)
    assert "finished before" in again.stderr and again.stdout.split() == [str(tmp_path / "run")]


def test_the_split_is_in_every_key(base, tuned_demo, tmp_path):
    for split, number in (("test", 32), ("train", 40)):
        words = [
            "--split",
            split,
            *(["--max_eval_samples", 40] if split == "train" else []),
            "--num_repeats",
            0,
        ]
        run("run_evaluation.py", *base, "--model_path", tuned_demo, *words, "--output_dir", tmp_path / split)
        results = read_json(tmp_path / split / "results.json")
        (row,) = results["rows"]
        assert results["data"] == {split: number}
        assert [key for key in row if "/" in key] == [f"{split}/acc"] and "speed" not in row
        assert (row[f"{split}/acc"] * number) % 1 == pytest.approx(0, abs=1e-9)


FLAGS = [
    (["--compare"], ["--compare: found one model"]),
    (["--export_dir", "x"], ["--export_dir: has a meaning only with --export"]),
    (["--do_infer", "--split", "dev"], ["--split: has no meaning with --do_infer, which answers all rows"]),
    (["--predict", "x", "--max_eval_samples", 5], ["--max_eval_samples: has no meaning with --predict"]),
    (["--predict", "x", "--compare"], ["--compare: has no meaning with --predict"]),
    (
        ["--report", "."],
        ["--task_name: has no meaning with --report", "--model_path: has no meaning with --report"],
    ),
    (["--export", "dense", "--sparsities", "50,90"], ["--export: found 1 models and 2 sparsities"]),
    (["--export", "zip"], ["--export: 'zip' is not one of dense, compact, onnx"]),
]


@pytest.mark.parametrize("flags, said", FLAGS, ids=[case[0][0] + str(i) for i, case in enumerate(FLAGS)])
def test_flags_that_contradict(flags, said, base, nested_demo, tmp_path):
    done = run(
        "run_evaluation.py",
        *base,
        "--model_path",
        nested_demo,
        *flags,
        "--output_dir",
        tmp_path / "run",
        code=2,
    )
    assert all(words in done.stderr for words in said) and not (tmp_path / "run").exists(), done.stderr
