"""Checkpoints, tables, addresses and flags that mean harm or are nonsense: one message, or the right answer;
never a traceback.

In this process, through the functions that every script uses; tests/test_bad_input.py has the scripts
themselves.
"""

import csv
import io
import json
import logging
import shutil

import pytest
import torch
import transformers
from commands import run
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import models
import run_distillation
import run_evaluation
import run_minimoe
from data import readers
from data.corpus import documents
from data.model_tokenizer import load_tokenizer
from data.squad import questions
from utils import checkpoints, evaluation_tables, files, logs, report
from utils.errors import CheckpointError, DataError, FlagError, UserError, of_machine
from utils.printable import message, printable

SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A classifier's folder, without a tokenizer."""
    folder = tmp_path_factory.mktemp("whole")
    config = transformers.BertConfig(**SIZES, max_position_embeddings=16, id2label={0: "no", 1: "yes"})
    models.save_model(transformers.BertForSequenceClassification(config), folder)
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def edit(folder, **values):
    config = {**json.loads((folder / "config.json").read_text()), **values}
    (folder / "config.json").write_text(json.dumps(config))


def grid(point, key="50"):
    return {"kind": "sparse", "sparsity": 0, "grid": {key: point}}


CONFIGS = {
    "model_type 5": ({"model_type": 5}, "model_type"),
    "model_type null": ({"model_type": None}, "model_type"),
    "architectures 5": ({"architectures": 5}, "architectures: found 5"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads: found 0"),
    "size as text": ({"hidden_size": "16"}, "hidden_size: found '16'"),
    "three million layers": ({"num_hidden_layers": 3_000_000}, "num_hidden_layers: found 3000000"),
    "compression a list": ({"compression": []}, "compression: found []"),
    "a word for a sparsity": (
        {"compression": grid({"heads": [1], "neurons": [1]}, "abc")},
        "compression.grid.abc",
    ),
    "a point without heads": ({"compression": grid({"neurons": [1]})}, "compression.grid.50"),
    "experts in a dense model": ({"compression": {"kind": "experts"}}, "compression.kind: found 'experts'"),
    "labels a list": ({"id2label": ["no", "yes"]}, "id2label: found"),
    "a list of held-out shares": ({"hold_out": [0.1]}, "hold_out: found"),
    "a word for a held-out share": ({"hold_out": {"demo": "some"}}, "hold_out: found"),
    "padding that is no piece": ({"pad_token_id": 40}, "pad_token_id: found 40"),
    "code of the hub": ({"attn_implementation": "stranger/kernel"}, "attn_implementation"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_config_values(name, copy):
    values, said = CONFIGS[name]
    edit(copy, **values)
    for load in (checkpoints.read_config, models.load_model):
        with pytest.raises(CheckpointError) as caught:
            load(copy)
        assert said in str(caught.value) and "config.json" in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"model_type": ' + "9" * 5000 + "}", "", "\0", "[]"])
def test_config_that_is_none(text, copy):
    (copy / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        checkpoints.read_config(copy)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"weight_map": []}', '{"weight_map": {"a": 5}}',
    '{"weight_map": {"a": "../outside.safetensors"}}',
             '{"weight_map": {"a": "/outside.safetensors"}}', "[" * 100_000],
)  # fmt: skip
def test_index_of_weights(text, copy):
    (copy / "model.safetensors").rename(copy.parent / "outside.safetensors")
    (copy / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json: damaged"):
        models.load_model(copy)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value, whole, copy, tmp_path):
    model = models.load_model(whole, kind="classification", label_names=["no", "yes"])
    with torch.no_grad():
        model.bert.embeddings.position_embeddings.weight[9, 3] = value
    with pytest.raises(CheckpointError, match=r"position_embeddings\.weight has 1 of 256"):
        models.save_model(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    model.save_pretrained(copy)
    with pytest.raises(CheckpointError, match=r"position_embeddings\.weight has 1 of 256"):
        models.load_model(copy, kind="classification", label_names=["no", "yes"])


def test_weights_that_are_all_zero(copy):
    """What a file system leaves of a file whose size was written and whose bytes were not."""
    tensors = load_file(copy / "model.safetensors")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    save_file(zeros, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="all weights are 0"):
        models.load_model(copy, kind="classification", label_names=["no", "yes"])


def test_a_head_of_an_unknown_kind(copy):
    """Weights of a head, and no class in config.json: neither taken nor made anew in silence."""
    edit(copy, architectures=None)
    for new_head in (False, True):
        with pytest.raises(CheckpointError, match=r'has classifier.*"BertForSequenceClassification"'):
            options = {"kind": "classification", "label_names": ["no", "yes"]}
            models.load_model(copy, new_head=new_head, **options)
    models.load_model(copy)


@pytest.mark.parametrize(
    "values, said",
    [
        ({"label2id": {"no": 1, "yes": 0}}, "contradicts"),
        ({"id2label": {"0": "no", "2": "yes"}, "label2id": None}, r"has the ids \[0, 2\]; expected 0 to 1"),
    ],
)
def test_labels_that_contradict_each_other(values, said, copy):
    edit(copy, **values)
    with pytest.raises(CheckpointError, match=said):
        models.load_model(copy, kind="classification", label_names=["no", "yes"])


def test_code_of_a_checkpoint_is_neither_run_nor_asked_for(tuned_demo, tmp_path, monkeypatch):
    folder = shutil.copytree(tuned_demo / "ckpt", tmp_path / "copy")
    tokenizer = {"tokenizer_class": None, "auto_map": {"AutoTokenizer": ["code.Mine", "code.Mine"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n" * 9))
    for values in (
        {"auto_map": {"AutoConfig": "code.Mine"}, "model_type": "stranger"},
        {"auto_map": {"AutoModel": "code.Mine"}},
    ):
        edit(folder, **values)
        with pytest.raises(CheckpointError):
            load_tokenizer(folder)
    with pytest.raises(CheckpointError):
        models.load_model(folder)
    assert not (tmp_path / "ran").exists()


def test_more_pieces_than_rows(tuned_demo, tmp_path):
    folder = shutil.copytree(tuned_demo / "ckpt", tmp_path / "copy")
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["first", "second"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(CheckpointError, match=f"has {rows + 2} pieces, its model {rows} rows"):
        load_tokenizer(folder)


def test_a_fault_of_the_config_is_not_the_tokenizers(tuned_demo, tmp_path):
    folder = shutil.copytree(tuned_demo / "ckpt", tmp_path / "copy")
    edit(folder, hidden_act=5)
    with pytest.raises(CheckpointError, match=r"config\.json: not a config .*hidden_act.*expected str"):
        load_tokenizer(folder)
    edit(folder, hidden_act="gelu", type_vocab_size=1)
    with pytest.raises(CheckpointError, match="numbers the segments of a pair 0 and 1"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    "header", ["sentence1\tsentence2\tlabel\tlabel", "sentence1\tsentence1\tsentence2\tlabel"]
)
def test_two_columns_of_a_name(header, tmp_path):
    (tmp_path / "a.tsv").write_text(header + "\n" + "a\tb\tc\td"[: 2 * len(header.split("\t")) - 1] + "\n")
    with pytest.raises(DataError, match="found 2 columns called"):
        readers.read_table(
            tmp_path / "a.tsv",
            readers.Table("sentence1", "sentence2", "label"),
            split="train",
            kind="classification",
            label_ids={"d": 0},
        )
    (tmp_path / "a.csv").write_text("text,text\na,b\n")
    with pytest.raises(DataError, match="found 2 columns called text"):
        list(documents.read_documents(documents.find_sources([str(tmp_path / "a.csv")])))


@pytest.mark.parametrize("key", ["id", "question", "context"])
def test_halves_of_surrogate_pairs_in_squad(key, tmp_path):
    entry = {"id": "1", "question": "who?", "answers": [], "is_impossible": True}
    paragraph = {"context": "a text", "qas": [entry]}
    (paragraph if key == "context" else entry)[key] = "x\ud800"
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    with pytest.raises(DataError, match=rf"{key}: found .*half of a surrogate pair") as caught:
        questions.read_questions(tmp_path / "dev.json", split="dev")
    str(caught.value).encode()


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://localhost:port/a.txt", "http://localhost:1/a.txt", "http://localhost:99999/a"],
)
def test_addresses(url, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.DOWNLOADED_DATASETS_PATH", tmp_path)
    with pytest.raises(DataError):
        list(documents.read_documents(documents.find_sources([url], format="text")))
    assert list(tmp_path.iterdir()) == []


def test_what_is_printed():
    assert printable("a\tb\n\x1b]0;x\x07\0\x9b\r\ud800") == "a\tb\n\\x1b]0;x\\x07\\x00\\x9b\\r\\ud800"
    assert len(message("\r" * 3_800_000)) < 9000 and "3800000 characters" in message("x" * 3_800_000)
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s", ("\x1b[2J",), None)
    assert logs._Formatter("%(message)s").format(record) == "\\x1b[2J"
    with pytest.raises(UnicodeEncodeError) as caught:
        "\xfc".encode("ascii")
    assert "PYTHONIOENCODING" in of_machine(caught.value)
    with pytest.raises(UnicodeEncodeError) as caught:
        "caf\udce9".encode()
    assert of_machine(caught.value).startswith("'caf\\udce9': the name of a file or folder that is not UTF-8")


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@a", "\ta"])
def test_no_formulas(name, tmp_path):
    evaluation_tables.write_csv(tmp_path / "table.csv", [{"name": name, "macs": -3, "per_layer": [-1, 2]}])
    with open(tmp_path / "table.csv", newline="") as file:
        assert [*csv.DictReader(file)] == [{"name": f"'{name}", "macs": "-3", "per_layer": "-1 2"}]


@pytest.mark.parametrize("metrics", [5, [1], {"dev": 5}, {"dev": {"acc": []}}])
def test_a_bad_run_is_a_line_of_the_report(metrics, tmp_path):
    for name, found in (("bad", metrics), ("good", {"dev": {"acc": 0.5}})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(
            json.dumps({"stage": "finetuning", "task": "demo", "metrics": found})
        )
    text = report.write(tmp_path).read_text()
    assert (
        "good" in text
        and "bad" in text
        and [run.name for run in report.find_runs(tmp_path) if not run.problems] == ["good"]
    )


TASK = ["--task_name", "demo"]
DISTIL = [*TASK, "--teacher_model_path", "nobody/teacher", "--student_model_path", "nobody/student"]
MOE = ["--teacher_model_path", "nobody/teacher", "--corpus", "none"]
FLAGS = [
    (run_distillation, [*DISTIL, "--seed", 2**64], "--seed"),
    (run_distillation, [*DISTIL, "--adam_beta1", 1], "--adam_beta1"),
    (run_distillation, [*DISTIL, "--temperature", "1e200"], "--temperature"),
    (run_distillation, [*DISTIL, "--temperature", "1e-300"], "--temperature"),
    (run_distillation, [*DISTIL, "--hidden_weight", 0, "--soft_label_weight", 0], "all are 0"),
    (run_distillation, [*DISTIL, "--hidden_weight", "1e300"], "--hidden_weight"),
    (run_evaluation, [*TASK, "--model_path", "nobody/a", "--num_threads", 10**12], "--num_threads"),
    (run_evaluation, [*TASK, "--model_path", "nobody/a", "--num_resamples", 10**12], "--num_resamples"),
    (run_minimoe, [*MOE, "--student_hidden", 12_000_000], "--student_hidden"),
    (run_minimoe, [*MOE, "--expert_shared_fraction", "1e999999999"], "--expert_shared_fraction"),
    (run_minimoe, [*MOE, "--num_heldout_blocks", "9" * 5000], "--num_heldout_blocks"),
]


@pytest.mark.parametrize(
    "script, flags, said", FLAGS, ids=[" ".join(map(str, case[1][-2:]))[:60] for case in FLAGS]
)
def test_flags(script, flags, said):
    with pytest.raises(FlagError, match=said):
        script.parse([str(word) for word in flags])


def test_student_of_another_width(whole, copy):
    edit(copy, hidden_size=8)
    flags = [*TASK, "--teacher_model_path", str(whole), "--student_model_path", str(copy)]
    with pytest.raises(FlagError, match="8 wide, the teacher 16"):
        run_distillation.parse(flags)
    run_distillation.parse([*flags, "--model_type", "kd"])
    run_distillation.parse([*flags, "--hidden_weight", "0"])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["grid", "kind", "0"]), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = ["model_type", "architectures", "id2label", "label2id", "compression", "vocab_size", *SIZES]


@settings(max_examples=60, derandomize=True, deadline=None)
@given(values=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=2))
def test_any_config(whole, tmp_path_factory, values):
    """A message, or a config that is as it was written."""
    folder = tmp_path_factory.mktemp("any")
    written = {**json.loads((whole / "config.json").read_text()), **values}
    (folder / "config.json").write_text(json.dumps(written))
    before = sorted(folder.iterdir())
    try:
        assert json.dumps(checkpoints.read_config(folder)) == json.dumps(written)
    except UserError as error:
        assert "config.json" in str(error)
    assert sorted(folder.iterdir()) == before


@settings(max_examples=60, derandomize=True, deadline=None)
@given(data=st.binary(max_size=30) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_json_file(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "model.safetensors.index.json"
    path.write_bytes(data)
    try:
        assert isinstance(files.read_object(path, {}, error=CheckpointError, advice="copy it again"), dict)
    except CheckpointError as error:
        assert f"{path}: damaged" in str(error)


def test_any_file_of_a_checkpoint_a_run_and_a_corpus():
    """Through the scripts: a run that ends or one message, nothing outside of the run folder touched."""
    run("tests/fuzz_driver.py", "--examples", 10)
