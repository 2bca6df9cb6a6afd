"""What all tests share: one thread, no network, and the real data and encoder where they are."""

import json
import os
import shutil
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)

from utils import cores, memory  # noqa: E402

MOST_WORKERS, WORKER_BYTES = 4, 2 * 2**30  # with the server that its scripts are forked from, and the scripts


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config) -> int:
    """How many processes share the tests with `-n auto`, as tests/run.sh has it."""
    return num_workers(config.args, num_cores=cores.usable(), free=memory.available())


def num_workers(arguments, *, num_cores, free) -> int:
    """As many as cores, as far as memory goes, and no more than files; 0, no process beside pytest's own,
    where one would do.

    arguments: files, tests in files, folders, as pytest takes them.  free: bytes, or None where not known.
    """
    files = {argument.partition("::")[0] for argument in arguments}
    most = len(files) if all(file.endswith(".py") for file in files) else MOST_WORKERS
    if free is not None:
        most = min(most, free // WORKER_BYTES)
    number = min(num_cores, most, MOST_WORKERS)
    return number if number > 1 else 0


@pytest.fixture
def asked_to_stop(monkeypatch):
    """A function (whether this process has been asked to stop), which stands for the signal."""
    from utils import interruptions

    return lambda asked: monkeypatch.setattr(interruptions, "_asked", 0.0 if asked else None)


@pytest.fixture
def forked_benchmarks(monkeypatch):
    """The benchmarks fork their processes from the server that the scripts are forked from."""
    from commands import server

    from benchmarks import timing

    server()
    monkeypatch.setattr(timing, "START", "forkserver")


def _folder(variable, default, flag_file):
    folder = Path(os.environ.get(variable) or ROOT.parent / "shared" / default)
    if not (folder / flag_file).exists():
        pytest.skip(f"no {flag_file} in {folder}; set {variable}")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The parent of the real task folders: $DATA_DIR or ../shared/datasets."""
    return _folder("DATA_DIR", "datasets", "mrpc/train.tsv")


@pytest.fixture(scope="session")
def encoder_dir() -> Path:
    """A real pretrained encoder with its tokenizer: $MODEL_DIR or ../shared/models/all-MiniLM-L6-v2."""
    return _folder("MODEL_DIR", "models/all-MiniLM-L6-v2", "config.json")


@pytest.fixture(scope="session")
def demo_dir(tmp_path_factory) -> Path:
    """A data folder with the demo task in it."""
    from data import demo

    folder = tmp_path_factory.mktemp("data")
    demo.write_files(folder / "demo")
    return folder


@pytest.fixture(scope="session")
def small_demo(tmp_path_factory, demo_dir) -> Path:
    """A data folder with few rows of the demo task: for runs whose scores do not matter."""
    folder = tmp_path_factory.mktemp("small") / "demo"
    folder.mkdir()
    for split, number in (("train", 160), ("dev", 64), ("test", 32)):
        lines = (demo_dir / "demo" / f"{split}.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{split}.tsv").write_text("".join(lines[: 1 + number]), encoding="utf-8")
    return folder.parent


@pytest.fixture(scope="session")
def tuned_demo(tmp_path_factory, small_demo) -> Path:
    """The run folder of a demo model, fine-tuned for a moment."""
    from commands import run

    folder = tmp_path_factory.mktemp("tuned") / "run"
    run(
        "run_finetuning.py",
        *f"--task_name demo --data_dir {small_demo} --use_cpu --output_dir {folder}".split(),
        *"--num_train_epochs 1 --per_device_train_batch_size 16 --learning_rate 0.001".split(),
    )
    return folder


@pytest.fixture(scope="session")
def nested_demo(tmp_path_factory, small_demo, tuned_demo) -> Path:
    """The run folder of a nested demo model."""
    from commands import run

    folder = tmp_path_factory.mktemp("nested") / "run"
    run(
        "run_sparsification.py",
        *f"--task_name demo --data_dir {small_demo} --use_cpu --output_dir {folder}".split(),
        *f"--model_path {tuned_demo} --grid 0,50,60,70,80,90,95".split(),
    )
    return folder


@pytest.fixture(scope="session")
def corpus_tokenizer_dir(tmp_path_factory) -> Path:
    """A checkpoint folder with nothing but the small WordPiece tokenizer of the corpus tests."""
    from corpus_texts import bert_like

    folder = tmp_path_factory.mktemp("tokenizer")
    bert_like().save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


@pytest.fixture(scope="session")
def built_corpus(corpus_tokenizer_dir, tmp_path_factory) -> Path:
    """A small corpus of blocks of 16 tokens, built by run_corpus.py."""
    from commands import run
    from corpus_texts import text

    folder = tmp_path_factory.mktemp("finished")
    (folder / "a.txt").write_text("\n\n".join(document for document in text() if document))
    run(
        "run_corpus.py",
        *f"--input {folder / 'a.txt'} --tokenizer_name_or_path {corpus_tokenizer_dir}".split(),
        *f"--max_seq_length 16 --num_workers 1 --output_dir {folder / 'run'}".split(),
    )
    return folder / "run"


@pytest.fixture(scope="session")
def demo_text(tmp_path_factory) -> Path:
    """A text file of the demo task's sentences."""
    from data import demo

    file = tmp_path_factory.mktemp("text") / "reviews.txt"
    file.write_text("\n\n".join(f"{review}\n{statement}" for review, statement, _ in demo.rows(500)) + "\n")
    return file


@pytest.fixture(scope="session")
def demo_tokenizer(tmp_path_factory):
    """The tokenizer of the demo task's words."""
    from data import demo
    from data.model_tokenizer import load_tokenizer

    return load_tokenizer(demo.build_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture(scope="session")
def small_teacher(tmp_path_factory, demo_tokenizer) -> Path:
    """The checkpoint of a random encoder for relation distillation."""
    from corpus_runs import save_teacher

    return save_teacher(tmp_path_factory.mktemp("teacher") / "random", demo_tokenizer)


@pytest.fixture(scope="session")
def demo_corpus(tmp_path_factory, demo_text, small_teacher) -> Path:
    """The text, built into blocks with the teacher's tokenizer."""
    from commands import run
    from corpus_runs import LENGTH

    folder = tmp_path_factory.mktemp("corpus") / "demo"
    run(
        "run_corpus.py",
        *f"--input {demo_text} --tokenizer_name_or_path {small_teacher}".split(),
        *f"--max_seq_length {LENGTH} --output_dir {folder} --num_workers 1".split(),
    )
    return folder


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory, tuned_demo, nested_demo):
    """A folder with checkpoints that share the demo's tokenizer: tuned, nested, a bare encoder, a tagger, a
    rater."""
    import transformers

    folder = tmp_path_factory.mktemp("checkpoints")
    shutil.copytree(tuned_demo / "ckpt", folder / "tuned")
    shutil.copytree(nested_demo / "ckpt", folder / "nested")
    words = json.loads((folder / "tuned" / "config.json").read_text())["vocab_size"]
    sizes = {
        "vocab_size": words,
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "max_position_embeddings": 128,
    }
    names = ["O", *(f"{prefix}-{kind}" for kind in ("PER", "ORG", "LOC", "MISC") for prefix in "BI")]
    ids = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }
    built = {
        "encoder": transformers.BertModel(transformers.BertConfig(**sizes)),
        "tagger": transformers.BertForTokenClassification(transformers.BertConfig(**sizes, **ids)),
        "rater": transformers.BertForSequenceClassification(transformers.BertConfig(**sizes, num_labels=1)),
    }
    for name, model in built.items():
        model.save_pretrained(folder / name)
        for file in (folder / "tuned").glob("tokenizer*"):
            shutil.copy(file, folder / name)
    return folder


@pytest.fixture
def refused(tmp_path, tuned_demo):
    """Runs a script that must refuse: refused(script, flags, what the message says)."""
    from commands import run

    shutil.copytree(tuned_demo, tmp_path / "run")

    def check(script, flags, said, *, output_dir=tmp_path / "run", overwrite=True, **options):
        before = contents(tmp_path)
        flags = [*flags, "--output_dir", output_dir, *(["--overwrite"] if overwrite else []), "--use_cpu"]
        done = run(script, *flags, code=2, **options)
        assert "Traceback" not in done.stderr and done.stdout == ""
        *_, message = done.stderr.partition("error: ")
        assert done.stderr.count("error: ") == 1 and message
        for word in said:
            assert str(word) in message, message
        assert contents(tmp_path) == before
        return message

    return check


def contents(folder):
    """Everything below a folder, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def tuned(tmp_path, tuned_demo) -> Path:
    """A copy of a finished run."""
    shutil.copytree(tuned_demo, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="session")
def unfinished_demo(small_demo, tmp_path_factory) -> Path:
    """A run that was killed after its first state, six updates before its end."""
    from commands import kill_when
    from copied_runs import resumable

    folder = tmp_path_factory.mktemp("unfinished") / "run"
    flags = [*resumable(small_demo), "--output_dir", folder]
    assert kill_when(lambda: (folder / "state/seconds").exists(), "run_finetuning.py", *flags)
    return folder


@pytest.fixture
def unfinished(tmp_path, unfinished_demo) -> Path:
    """A copy of an unfinished run."""
    shutil.copytree(unfinished_demo, tmp_path / "run")
    return tmp_path / "run"
