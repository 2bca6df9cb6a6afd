"""Twenty updates of each script on the demo task: every logged number is the one kept in golden_runs.json, to
the last bit.

If you meant to refactor, a failure here is a bug.  If you meant to change what a method does, write the file
anew, in a commit of its own that says why:

    python tests/test_golden_runs.py            # all, or the names of some

Bits depend on the processor and on torch: on another machine than the file's, numbers are compared to 1e-4,
weights not at all.
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from commands import run  # noqa: E402

KEPT = HERE / "golden_runs.json"
TIMED = {"examples_per_second", "eta_seconds"}
TRAINED = (
    *"--per_device_train_batch_size 16 --max_steps 20 --eval_interval 10".split(),
    *"--log_interval 1 --use_cpu --learning_rate 0.001 --num_train_epochs 4".split(),
)
DROPOUT = ("--hidn_dropout", 0.1, "--att_dropout", 0.1)
TASK = ("--task_name", "demo", "--data_dir", "{data}")
CORPUS = ("--corpus", "{corpus}", "--num_heldout_blocks", 40)
SIZES = ("--layer", 2, "--hidden", 48, "--heads", 4)
TED = ("--student_model_path", "{student filters}", "--student_init", "stage1", "--kl_alpha", 5)
# Name: script, flags; {name} is the folder of an earlier run
RUNS = {
    "finetuning": ("run_finetuning.py", *TASK, *TRAINED, *DROPOUT),
    "nested": ("run_sparsification.py", *TASK, *"--use_cpu --model_path {finetuning}".split()),
    "kd 2L": (
        "run_distillation.py",
        *TASK,
        *TRAINED,
        *"--model_type kd --teacher_model_path {finetuning} --layer_or_sparsity 2L".split(),
        *"--temperature 2".split(),
        *DROPOUT,
    ),
    "sparse 90S": (
        "run_distillation.py",
        *TASK,
        *TRAINED,
        *"--teacher_model_path {nested} --layer_or_sparsity 90S --num_grad_accum_steps 2".split(),
        *"--cache_teacher".split(),
    ),
    "maxidisc": (
        "run_maxidisc.py",
        *TASK,
        *TRAINED,
        *"--teacher_model_path {nested} --layer_or_sparsity_path 70,90S".split(),
    ),
    "minidisc": ("run_minidisc.py", *TASK, *TRAINED, *DROPOUT, "--teacher_model_path", "{nested}"),
    "stark": (
        "run_stark.py",
        *TASK,
        *TRAINED,
        "--teacher_model_path",
        "{finetuning}",
        "--student_model_path",
        "{kd 2L}",
        *"--do_rewind --student_layer 2 --teacher_sparsities 30".split(),
    ),
    "student": (
        "run_ted.py",
        *TASK,
        *TRAINED,
        *"--mode ft --teacher_model_path {finetuning} --student_layer 2".split(),
    ),
    "teacher filters": (
        "run_ted.py",
        *TASK,
        *TRAINED,
        *"--mode filters --model_path {finetuning} --filter_interval 2".split(),
    ),
    "student filters": (
        "run_ted.py",
        *TASK,
        *TRAINED,
        *"--mode filters --model_path {student} --cache_teacher".split(),
    ),
    "ted kd": (
        "run_ted.py",
        *TASK,
        *TRAINED,
        "--mode",
        "kd",
        "--teacher_model_path",
        "{teacher filters}",
        *TED,
    ),
    "ted lwd": (
        "run_ted.py",
        *TASK,
        *TRAINED,
        "--mode",
        "lwd",
        "--teacher_model_path",
        "{teacher filters}",
        *TED,
        *"--mse_alpha 10 --teacher_filter_interval 2".split(),
    ),
    "ted": (
        "run_ted.py",
        *TASK,
        *TRAINED,
        "--mode",
        "ted",
        "--teacher_model_path",
        "{teacher filters}",
        *TED,
        "--mse_alpha",
        10,
    ),
    "corpus": (
        "run_corpus.py",
        *"--input {text} --tokenizer_name_or_path {finetuning} --max_seq_length 32".split(),
        *"--num_workers 1".split(),
    ),
    "minilmv2": (
        "run_minilmv2.py",
        *CORPUS,
        *SIZES,
        *TRAINED,
        *"--teacher_model_path {finetuning} --num_relation_heads 8".split(),
    ),
    "minimoe": (
        "run_minimoe.py",
        *CORPUS,
        *SIZES,
        *TRAINED,
        *"--teacher_model_path {finetuning} --moe 1,4 --num_relation_heads 8".split(),
        *"--relation_source extra".split(),
    ),
    "moe finetuning": ("run_finetuning.py", *TASK, *TRAINED, "--model_path", "{minimoe}"),
    "evaluation": (
        "run_evaluation.py",
        *TASK,
        *"--use_cpu --num_repeats 0 --compare --num_resamples 200".split(),
        *"--teacher_model_path {finetuning}".split(),
        "--model_path",
        "{sparse 90S}",
        "{minidisc}",
    ),
}


def machine() -> dict:
    """What bits depend on."""
    model = next((line for line in _cpuinfo() if line.startswith("model name")), platform.processor())
    return {"torch": torch.__version__, "cpu": model, "kernels": torch.backends.cpu.get_cpu_capability()}


def _cpuinfo():
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def play(folder, data, names=tuple(RUNS)):
    """Yield (name, what is compared) of the runs in a folder, one after the other.  data: the folder of the
    demo task."""
    from data import demo

    text = folder / "reviews.txt"
    text.write_text("\n\n".join(f"{review}\n{statement}" for review, statement, _ in demo.rows(300)) + "\n")
    places = {"data": data, "text": text, **{name: folder / name for name in RUNS}}
    for name in names:
        script, *words = RUNS[name]
        run(script, *(str(word).format_map(places) for word in words), "--output_dir", folder / name)
        yield name, numbers(folder / name)


def numbers(folder) -> dict:
    """Every number that a run logged and its metrics, and the hash of its weights."""
    from utils.files import read_json, sha256

    results, logged, weights = (
        read_json(folder / "results.json"),
        folder / "metrics.jsonl",
        folder / "ckpt/model.safetensors",
    )
    lines = logged.read_text().splitlines() if logged.exists() else []
    rows = [{key: value for key, value in json.loads(line).items() if key not in TIMED} for line in lines]
    found = {"rows": rows, "metrics": results.get("metrics", {})}
    for key in {"curve", "rewinds"} & {*results}:
        found[key] = [
            {name: value for name, value in row.items() if name != "seconds"} for row in results[key]
        ]
    if "rows" in results:  # an evaluation
        found["models"] = [
            {name: value for name, value in row.items() if "/" in name} for row in results["rows"]
        ]
    return found | ({"weights": sha256(weights)} if weights.exists() else {})


def flat(value, path=""):
    """{path: leaf} of nested lists and dicts."""
    items = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    if items is None:
        return {path: value}
    return {key: leaf for name, item in items for key, leaf in flat(item, f"{path}/{name}").items()}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    from data import demo

    return demo_rows(tmp_path_factory.mktemp("golden"), demo)


def demo_rows(folder, demo):
    """The demo task with 400 rows to train on and 64 for dev."""
    demo.write_files(folder / "whole" / "demo")
    (folder / "demo").mkdir()
    for split, number in (("train", 400), ("dev", 64), ("test", 32)):
        lines = (folder / "whole/demo" / f"{split}.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / "demo" / f"{split}.tsv").write_text("".join(lines[: 1 + number]), encoding="utf-8")
    return folder


def test_every_number_is_as_before(small):
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    same_machine = kept["machine"] == machine()
    assert set(kept["runs"]) == set(RUNS), "a run without golden numbers; see above how they are written"
    wrong = {}
    for name, found in play(small, small):
        wanted, seen = flat(kept["runs"][name]), flat(json.loads(json.dumps(found)))
        if not same_machine:
            wanted, seen = ({k: v for k, v in leaves.items() if k != "/weights"} for leaves in (wanted, seen))
        differ = [
            key for key in {*wanted, *seen} if not equal(wanted.get(key), seen.get(key), exact=same_machine)
        ]
        if differ:
            first = min(differ)
            wrong[name] = (
                f"{len(differ)} of {len(wanted)} numbers, first {first}: {wanted.get(first)} then, "
                f"{seen.get(first)} now"
            )
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())


def equal(one, other, *, exact):
    if exact or not (isinstance(one, int | float) and isinstance(other, int | float)):
        return one == other
    return bool(np.isclose(one, other, rtol=1e-4, atol=1e-4))


if __name__ == "__main__":
    import tempfile

    sys.path.insert(0, str(HERE.parent))
    torch.set_num_threads(1)
    from data import demo

    with tempfile.TemporaryDirectory() as place:
        folder = demo_rows(Path(place), demo)
        written = json.loads(KEPT.read_text()) if KEPT.exists() else {"runs": {}}
        for name, found in play(folder, folder):
            if not sys.argv[1:] or name in sys.argv[1:]:
                written["runs"][name] = found
        KEPT.write_text(
            json.dumps({"machine": machine(), "runs": written["runs"]}, indent=1) + "\n", encoding="utf-8"
        )
