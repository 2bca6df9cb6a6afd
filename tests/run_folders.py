"""What a run leaves in its folder while it goes on and afterwards, for tests that kill it, and flags of a
short one."""

import json

from safetensors.torch import load_file

# 12 updates, evaluated and saved at 4, 8 and 12: the rows are 4 updates, an evaluation, 4 updates, ...
SHORT = (
    *"--per_device_train_batch_size 16 --num_train_epochs 2 --max_train_samples 96".split(),
    *"--eval_interval 4 --log_interval 1 --save_minutes 0 --use_cpu".split(),
    *"--learning_rate 0.001 --hidn_dropout 0.1 --att_dropout 0.1".split(),
)


def num_rows(folder):
    """How many rows a run has logged."""
    path = folder / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def history(folder):
    """Every logged row: losses, gradient norms and scores to the last bit, without what time it took."""
    file, timed = folder / "metrics.jsonl", ("examples_per_second", "eta_seconds")
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [{key: value for key, value in row.items() if key not in timed} for row in lines]


def at_row(number):
    """A moment: so many rows have been logged."""
    return lambda folder: num_rows(folder) >= number


def while_saving(number):
    """A moment: the folder aside exists, after so many logged rows."""
    return lambda folder: num_rows(folder) >= number and any(folder.glob("state/*/tmp"))


def stage_done(name):
    """A moment: a stage is over, and the run is not."""
    return lambda folder: (
        (folder / "state" / name / "latest").exists()
        and "done" in (folder / "state" / name / "latest").read_text()
    )


def weights(folder):
    """The tensors of a checkpoint."""
    return load_file(folder / "model.safetensors")
