"""What the tests of run folders share: commands that take a moment, and what is on the disk or in a
message."""

import json
import os
from pathlib import Path

FINE = (
    *"--task_name demo --use_cpu --max_train_samples 32 --num_train_epochs 1".split(),
    *"--max_eval_samples 16 --per_device_train_batch_size 16".split(),
)
RECORD = {
    **{"stage": "ted", "command": ["run_ted.py"], "settings": {}, "inputs": {}, "versions": {}},
    **{"git_commit": None, "processes": 1},
}


def resumable(data_dir):
    return (
        *f"--task_name demo --data_dir {data_dir} --use_cpu --max_train_samples 96".split(),
        *"--num_train_epochs 2 --max_eval_samples 16 --per_device_train_batch_size 16".split(),
        *"--eval_interval 2 --save_minutes 0 --log_interval 1".split(),
    )


def command(folder) -> list:
    """The flags that a run was begun with, for a copy of it in another place."""
    words = json.loads((folder / "args.json").read_text())["command"][1:]
    words[words.index("--output_dir") + 1] = folder
    return words


def content(folder) -> dict:
    """{path: bytes} of all files below a folder, links by where they point."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_symlink() or path.is_file():
            found[str(path.relative_to(folder))] = (
                os.readlink(path) if path.is_symlink() else path.read_bytes()
            )
    return found


def one_message(done, *said):
    """One message, which says this."""
    assert "Traceback" not in done.stderr and done.stderr.count("error: ") == 1, done.stderr
    message = done.stderr.partition("error: ")[2]
    for word in said:
        assert str(word) in message, message
