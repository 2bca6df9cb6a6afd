"""Text without labels beside, or instead of, a task's train, for objectives that need none."""

import numpy as np
import pytest
from commands import run

from data import new_rows, tasks
from data.task_data import TaskData
from modules.losses import scored_tokens
from utils.errors import DataError


def test_forms(tmp_path):
    """A table with the task's columns, labelled or not, and lines of a .txt where a row is one text."""
    (tmp_path / "a.csv").write_text('sentence,label\n"one, two",1\nthree,\n')
    (tmp_path / "b.txt").write_text("four\n\nfive\n")
    for name, texts in (("a.csv", ["one, two", "three"]), ("b.txt", ["four", "five"])):
        (examples,) = new_rows.read_unlabelled(tmp_path / name, tasks.get("sst2"))
        assert (examples.first, examples.labels) == (texts, None)
    with pytest.raises(DataError, match=r"b\.txt: found lines of text; expected a table with sentence1 and"):
        new_rows.read_unlabelled(tmp_path / "b.txt", tasks.get("rte"))
    (tmp_path / "b.txt").write_text("\n")
    with pytest.raises(DataError, match=r"b\.txt:1: found no text"):
        new_rows.read_unlabelled(tmp_path / "b.txt", tasks.get("sst2"))


def test_words_without_tags_are_answered(tmp_path, encoder_dir):
    """The first piece of each word counts, with whatever text it stands in; train is whole without them."""
    folder = tmp_path / "conll"
    folder.mkdir()
    (folder / "train.txt").write_text("EU B-ORG\nsays O\n\nso O\n")
    (folder / "more.txt").write_text("unbelievably\nso\n")
    options = {"tokenizer_path": encoder_dir, "data_dir": tmp_path, "max_length": 16}
    data = TaskData(tasks.get("conll"), unlabelled=(folder / "more.txt",), **options)
    assert data.train.examples.first == [["EU", "says"], ["so"], ["unbelievably", "so"]]
    assert not data.train.labelled
    batch = data.train.collate(np.arange(3))
    scored = scored_tokens(batch.labels, batch.mask, kind="tagging")
    assert scored.sum(1).tolist() == [2, 1, 2] and batch.divisors["labels"] == 5
    assert batch.mask.sum(1).tolist()[2] > 4  # of several pieces, the first one counts
    only = TaskData(tasks.get("conll"), unlabelled=(folder / "more.txt",), unlabelled_only=True, **options)
    assert only.train.examples.first == [["unbelievably", "so"]]


def test_what_is_held_out_stays_out(small_demo, caplog):
    """Rows of the pool that train came from are not trained on where their text is held out; others are, by
    whatever order."""
    pool = small_demo / "demo" / "train.tsv"
    options = {"tokenizer_path": None, "data_dir": small_demo, "max_length": 64, "unlabelled": (pool,)}

    def texts(split):
        return list(zip(split.examples.first, split.examples.second))

    whole = TaskData(tasks.get("demo"), **options)
    held = TaskData(tasks.get("demo"), hold_out=0.2, **options)
    out = {*texts(held.selection["hold_out"])}
    kept = [text for text in texts(whole.train) if text not in out]
    with caplog.at_level("INFO", logger="compression"):
        assert out and sorted(texts(held.train)) == sorted(kept) and len(kept) < len(whole.train)
    number = (len(whole.train) - len(kept)) // 2
    assert f"text without labels: {number} of {len(whole.train) // 2} rows left out" in caplog.text
    only = TaskData(tasks.get("demo"), hold_out=0.99, unlabelled_only=True, **options)
    assert len(only.train) == len(whole.train) // 2 - len(only.selection["hold_out"])


def test_distillation(tuned_demo, small_demo, tmp_path):
    """More rows are trained on, and none of train where they are alone; gold labels are refused."""
    base = ("run_distillation.py", *f"--task_name demo --data_dir {small_demo} --use_cpu".split())
    base += ("--teacher_model_path", tuned_demo, "--layer_or_sparsity", "2L", "--unlabelled_file")
    base += (small_demo / "demo" / "test.tsv",)
    for flags, rows in (((), 160 + 32), (("--unlabelled_only",), 32)):
        folder = tmp_path / str(rows)
        done = run(*base, *flags, "--max_steps", 1, "--num_train_epochs", 1, "--output_dir", folder)
        assert f"train: {rows} examples" in done.stderr
        assert (folder / "ckpt" / "model.safetensors").exists()
    done = run(*base, "--model_type", "kd", "--output_dir", tmp_path / "kd", code=2)
    assert "--unlabelled_file: kd has the loss against the gold labels" in done.stderr
    done = run(*base[:-2], "--unlabelled_only", "--output_dir", tmp_path / "kd", code=2)
    assert "--unlabelled_only: has a meaning only with --unlabelled_file" in done.stderr


def test_stark_and_ted(tuned_demo, nested_demo, small_demo, tmp_path):
    """What distils takes more text; what learns from gold labels, or scores units by them, keeps train's."""
    more = ["--unlabelled_file", small_demo / "demo" / "test.tsv"]
    base = [*f"--task_name demo --data_dir {small_demo} --use_cpu".split(), *more]
    short = "--max_steps 1 --num_train_epochs 1".split()
    models = ["--teacher_model_path", tuned_demo, "--student_model_path", tuned_demo]
    rewound = ["--do_rewind", "--student_layer", 1, "--teacher_sparsities", 50, "--task_weight", 0]
    folder = tmp_path / "stark"
    flags = [*base, *models, *rewound, *short, "--unlabelled_only", "--output_dir", folder]
    done = run("run_stark.py", *flags)
    assert "data: train 32, scored 160, dev 64" in done.stderr
    mode = [*"--mode kd --kl_alpha 1 --task_weight 0".split(), *short, "--output_dir", tmp_path / "ted"]
    done = run("run_ted.py", *base, *models, *mode)
    assert "data: train 192, dev 64" in done.stderr and "= kl " in done.stderr
    filters = ["--mode", "filters", "--model_path", tuned_demo]
    refusals = [
        ("run_stark.py", models, "units are scored by gold labels, which these rows lack"),
        ("run_stark.py", [*models, *rewound[:-2]], "kd has the loss against the gold labels"),
        ("run_ted.py", filters, "with --mode filters the filters' task heads learn from gold labels"),
        ("run_ted.py", ["--mode", "ft", *models[2:]], "with --mode ft the student learns from gold labels"),
        ("run_ted.py", ["--mode", "kd", "--kl_alpha", 1, *models], "--mode kd has the loss against the gold"),
        ("run_ted.py", [*"--mode lwd --mse_alpha 1 --task_weight 0".split(), *models], "--task_weight 0: "),
    ]
    for script, flags, said in refusals:
        done = run(script, *base, *flags, "--output_dir", tmp_path / "none", code=2)
        assert said in done.stderr, done.stderr
