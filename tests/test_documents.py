"""What README.md and datasets/README.md show, run as written in a folder of its own with tiny models."""

import gzip
import json
import os
import re
import subprocess

import pyarrow
import torch
import transformers
from commands import ROOT, alone, outcome
from corpus_runs import save_teacher
from pyarrow import parquet

import models
from data import tasks
from utils.files import read_json

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 20}


def model_of(name, tokenizer):
    """A random BERT with the head and the labels of a task."""
    task = tasks.get(name)
    made = transformers.BertForSequenceClassification
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=128,
        id2label=dict(enumerate(task.label_names)),
        label2id={label: i for i, label in enumerate(task.label_names)},
        **SIZES,
    )
    torch.manual_seed(0)
    return made(config).eval()


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def run_in(folder, command):
    """Run `python SCRIPT FLAGS` in a folder; what it printed."""
    python, script, *flags = command.split()
    assert python == "python"
    codes, printed = outcome(script, *flags, before=[(os.chdir, (folder,))])
    assert codes == [0], printed
    return printed


def test_the_snippet_of_the_readme(tmp_path, demo_tokenizer):
    """The export command makes the folder that the lines of Python load, alone with torch and
    transformers."""
    section = (ROOT / "README.md").read_text().split("## Using the result\n")[1].partition("\n## ")[0]
    (command,) = [line for line in blocks(section, "bash")[0].splitlines() if "--export " in line]
    model = model_of("mrpc", demo_tokenizer)
    models.sort_units(model, torch.rand(2, 4), torch.rand(2, 20), grid=[0, 50])
    source = re.search(r"--model_path (\S+)", command)[1]
    models.save_model(models.crop(model, 50), tmp_path / source, tokenizer=demo_tokenizer)
    (tmp_path / "datasets" / "mrpc").mkdir(parents=True)
    rows = "Quality\t#1 String\t#2 String\n1\tthe soup was cold .\tthe tip\n0\tthe tip\tthe soup\n"
    (tmp_path / "datasets" / "mrpc" / "dev.tsv").write_text(rows)
    run_in(tmp_path, command)
    (code,) = blocks(section, "python")
    label, probability = alone(code, tmp_path, cache=tmp_path / "cache").split()
    assert label in tasks.get("mrpc").label_names and 0.5 <= float(probability) <= 1
    folder = re.search(r"hf upload \S+ ([^\s`]+)", section)[1]
    assert f'"{folder}"' in code and "auto_map" in read_json(tmp_path / folder / "config.json")


def test_the_commands_about_data(tmp_path, demo_tokenizer):
    """All that datasets/README.md shows."""
    found = "".join(blocks((ROOT / "datasets" / "README.md").read_text(), "bash")).splitlines()
    cleaned, tuned, inferred = found[2], found[0], found[1]
    assert len(found) == 3 and cleaned.startswith("awk ")
    # rows of texts and labels, one file packed
    rows = [{"text": "the soup was cold", "label": "bad"}, {"text": "a good tip", "label": "good"}] * 4
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "reviews.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "reviews_dev.parquet")
    save_teacher(tmp_path / "bert-base-uncased", demo_tokenizer, max_position_embeddings=128, **SIZES)
    printed = run_in(tmp_path, f"{tuned} --use_cpu")
    assert "reviews: a task of the kind classification" in printed and "bad 4, good 4" in printed
    # diagnostics
    model = model_of("mnli", demo_tokenizer)
    models.save_model(model, tmp_path / "outputs" / "finetuning" / "mnli", tokenizer=demo_tokenizer)
    (tmp_path / "datasets" / "ax").mkdir(parents=True)
    rows = "index\tsentence1\tsentence2\n0\tthe soup\tthe tip\n1\tthe tip\tthe soup\n"
    (tmp_path / "datasets" / "ax" / "diagnostic.tsv").write_text(rows)
    run_in(tmp_path, f"{inferred} --use_cpu")
    (answers,) = (tmp_path / "outputs").rglob("AX.tsv")
    _, *answered = answers.read_text().splitlines()
    assert [line.split("\t")[0] for line in answered] == ["0", "1"]
    assert {line.split("\t")[1] for line in answered} <= {*tasks.get("mnli").label_names}
    # a row with an empty question, and one that a line end has broken
    good = ["id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "1\t1\t2\twho\twhat\t0", "2\t3\t4\ta\tb\t1"]
    broken = [good[0], good[1], "3\t5\t6\t\twhy\t0", "4\t7\t8\thow", "so\twhen\t1", good[2]]
    (tmp_path / "qqp").mkdir()
    (tmp_path / "qqp" / "train.tsv").write_text("\n".join(broken) + "\n")
    subprocess.run(["bash", "-euc", cleaned], cwd=tmp_path / "qqp", check=True)
    assert (tmp_path / "qqp" / "clean.tsv").read_text().splitlines() == good
