"""What README.md and datasets/README.md show, run as written in a folder of its own with tiny models."""

import os
import re

import torch
import transformers
from commands import ROOT, alone, outcome

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
