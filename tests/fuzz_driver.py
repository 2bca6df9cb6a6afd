"""Files of checkpoints, runs and corpora with random faults, through the scripts: one message or a run that
ends, never a traceback, and nothing but the run folder is touched.

    python tests/fuzz_driver.py                        # 12 examples of each file
    python tests/fuzz_driver.py corpus.json --examples 1000

Each example is a file as it was written with one or two faults: a value of another kind anywhere in it, a key
less, bytes that are others or not there.  A fault is printed as the smallest one that hypothesis finds.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

TASK = (
    *"--task_name demo --data_dir {place}/data --use_cpu --max_steps 4 --eval_interval 2".split(),
    *"--per_device_train_batch_size 8 --save_minutes 0 --log_interval 1 --output_dir {place}/run".split(),
)
TUNE = ("run_finetuning", *TASK, "--model_path", "{place}/model")
RELATIONS = (
    *"run_minilmv2 --corpus {place}/corpus --teacher_model_path {place}/model --use_cpu".split(),
    *"--num_heldout_blocks 8 --max_steps 1 --per_device_train_batch_size 8 --layer 1".split(),
    *"--num_relation_heads 2 --output_dir {place}/run".split(),
)
FILES = {  # file: where it lies, the command that reads it
    "config.json": ("model", TUNE),
    "tokenizer_config.json": ("model", TUNE),
    "model.safetensors.index.json": ("model", TUNE),
    "args.json": ("run", TUNE),
    "state.json": ("run/state/train/*", TUNE),
    "latest": ("run/state/train", TUNE),
    "metrics.jsonl": ("run", TUNE),
    "corpus.json": ("corpus", RELATIONS),
}
NUMBERS = st.sampled_from([-1, 0, 1, 3, 50, 10**12, -(10**400), 0.5, float("nan"), float("inf"), 1e300])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=4) | st.just("../outside"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
PLACES = st.integers(0, 10**6)
FAULTS = st.one_of(
    st.tuples(st.just("value"), PLACES, VALUES),
    st.tuples(st.just("without"), PLACES),
    st.tuples(st.just("cut"), PLACES),
    st.tuples(st.just("bytes"), PLACES, st.binary(min_size=1, max_size=3)),
    st.tuples(
        st.just("whole"), st.binary(max_size=20) | VALUES.map(lambda value: json.dumps(value).encode())
    ),
)


def spoilt(data: bytes, fault) -> bytes:
    """A file's bytes with a fault."""
    kind, *how = fault
    if kind == "whole":
        return how[0]
    if kind in ("value", "without"):
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return data
        parents = [(parent, key) for parent, key in places(value)]
        if not parents:
            return data
        parent, key = parents[how[0] % len(parents)]
        if kind == "value":
            parent[key] = how[1]
        else:
            del parent[key]
        return json.dumps(value).encode()
    at = how[0] % (len(data) + 1)
    return data[:at] if kind == "cut" else data[:at] + how[1] + data[at + len(how[1]) :]


def places(value):
    """Yield (list or dictionary, key) of all that is in a JSON value."""
    keys = range(len(value)) if isinstance(value, list) else [*value] if isinstance(value, dict) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def play(words, place):
    """Run a script in this process; returns its exit code and the messages."""
    from utils import runs

    name, *flags = (word.format(place=place) for word in words)
    script, said = importlib.import_module(name), io.StringIO()
    sys.argv = [f"{name}.py", *flags]
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        return runs._outcome(script.main, script.parse), said.getvalue()


def make(place):
    """A model with its tokenizer and an index of its weights, data, a corpus, a run that has not finished."""
    import torch
    import transformers

    from data import demo
    from data.model_tokenizer import load_tokenizer
    from utils import training

    demo.write_files(place / "all")
    (place / "data/demo").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        lines = (place / "all" / f"{split}.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        (place / "data/demo" / f"{split}.tsv").write_text("".join(lines[:17]), encoding="utf-8")
    tokenizer = load_tokenizer(demo.build_tokenizer(place / "all"))
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    labels = {"id2label": {0: "not_entailment", 1: "entailment"}}
    labels["label2id"] = {name: number for number, name in labels["id2label"].items()}
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=128, **sizes, **labels
    )
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(place / "model", max_shard_size="2KB")
    tokenizer.save_pretrained(place / "model")
    (place / "text.txt").write_text("\n\n".join(f"{a}\n{b}" for a, b, _ in demo.rows(60)))
    words = "run_corpus --input {place}/text.txt --tokenizer_name_or_path {place}/model --max_seq_length 16"
    code, said = play((*words.split(), *"--num_workers 1 --output_dir {place}/corpus".split()), place)
    assert code == 0, said

    class Killed(Exception):
        """Stands for the end of the process."""

    def update(loop, *arguments, number=[0], whole=training._Loop._update, **options):  # noqa: B006
        number[0] += 1
        if number[0] > 3:
            raise Killed
        return whole(loop, *arguments, **options)

    before, training._Loop._update = training._Loop._update, update
    with contextlib.suppress(Killed):
        play(TUNE, place)
    training._Loop._update = before
    shutil.rmtree(place / "all")


def contents(place, *, without):
    """{path: bytes} of what lies below a place, but for one folder."""
    return {
        path: path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and without not in (path, *path.parents)
    }


def fuzz(name, whole, place, examples):
    """Raise AssertionError, or what the script has raised, for the smallest fault of a file that is not met
    as promised."""
    where, words = FILES[name]

    def lay_out():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(whole, place)
        if not where.startswith("run"):
            shutil.rmtree(place / "run")
        (file,) = place.glob(f"{where}/{name}")
        return file

    lay_out()
    code, said = play(words, place)
    assert code == 0, said

    checks = {"deadline": None, "suppress_health_check": [*HealthCheck]}

    @settings(max_examples=examples, derandomize=True, database=None, **checks)
    @given(faults=st.lists(FAULTS, min_size=1, max_size=2))
    def check(faults):
        file = lay_out()
        data = file.read_bytes()
        for fault in faults:
            data = spoilt(data, fault)
        file.write_bytes(data)
        before = contents(place, without=place / "run")
        code, said = play(words, place)
        assert code in (0, 2), (code, said)
        assert said.count("error: ") == (code == 2), said
        assert contents(place, without=place / "run") == before

    check()


def main(argv=None):
    """Fuzz the files that are named; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="file", help=f"of {', '.join(FILES)}; all")
    parser.add_argument("--examples", type=int, default=12, help="of each file")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # A run knows its paths: what is copied must lie where it was made
        whole, place = folder / "whole", folder / "place"
        place.mkdir()
        os.chdir(folder)
        make(place)
        shutil.copytree(place, whole)
        for name in args.files or FILES:
            fuzz(name, whole, place, args.examples)
            print(f"{name}: {args.examples} examples", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
