"""Run folders that something has damaged, and machines that refuse: one message that names the file, exit
code 2."""

import json
import os
import shutil
import signal
import subprocess
import threading

import pytest
import signal_driver
from commands import outcome, run
from copied_runs import FINE, command, content, one_message

from utils import logs, run_folder, snapshots
from utils.errors import UserError, of_machine

# ---- Damaged files: what an editor, a disk or another program has left


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def binary(path):
    path.write_bytes(bytes(range(128, 256)) + b"\n")


def a_list(path):
    path.write_text("[1, 2]\n")


def deep(path):
    path.write_text("[" * 100_000)


def digits(path):
    path.write_text("9" * 5000)


def a_folder(path):
    path.unlink()
    path.mkdir()


def of(**values):
    """Other values under some keys of a JSON file."""

    def change(path):
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


FAULTS = (cut, empty, binary, a_list, deep, digits, a_folder)
SNAPSHOT = "state/train/SNAPSHOT"
DAMAGED = [
    *(("args.json", fault) for fault in FAULTS),
    *(
        ("args.json", of(**values))
        for values in (
            {"stage": 5},
            {"settings": []},
            {"inputs": None},
            {"versions": "x"},
            {"git_commit": 1},
            {"processes": "two"},
            {"command": "run_finetuning.py"},
            {"command": [None]},
            {"before": [5]},
            {"before": [{"command": [5]}]},
            {"resumed": "x"},
            {"resumed": [1]},
            {"resumed": [{"versions": {}}]},
        )
    ),
    *(("results.json", fault) for fault in FAULTS),
    *(
        ("results.json", of(**values))
        for values in ({"stage": None}, {"metrics": 1}, {"metrics": {"dev": 0.5}})
    ),
    *(("metrics.jsonl", fault) for fault in (binary, a_list, a_folder)),
    *(("state/seconds", fault) for fault in (empty, binary, a_list, a_folder)),
    *(("state/train/latest", fault) for fault in FAULTS),
    *((f"{SNAPSHOT}/state.json", fault) for fault in FAULTS),
    *(
        (f"{SNAPSHOT}/state.json", of(**values))
        for values in (
            {"done": "yes"},
            {"done": True, "last": None},
            {"position": 1.5},
            {"step": True},
            {"best": 1},
            {"best": {"value": "high"}},
            {"best": {"value": 1.0, "metrics": [], "choice": {}}},
            {"scaler": []},
            {"seconds": "long"},
            {"tensors": []},
            {"evaluation_due": None},
            {"rows": "x"},
            {"window": []},
            {"window": {"sums": 1}},
            {"window": {"sums": [{"task": "x"}], "logged": {}, "seconds": 1.0}},
        )
    ),
    *((f"{SNAPSHOT}/state.safetensors", fault) for fault in (cut, empty, binary, a_list, a_folder)),
    (f"{SNAPSHOT}/best", lambda path: shutil.rmtree(path)),
    (f"{SNAPSHOT}/best", lambda path: (shutil.rmtree(path), path.touch())),
]


def read_all(folder):
    """All that a start reads of a run folder."""
    run_folder.read_record(folder)
    run_folder.seconds(folder)
    if (folder / "results.json").exists():
        run_folder.read_results(folder)
    logs.evaluations(folder, "train", split="dev")
    snapshots.read(snapshots.latest(folder / "state/train"), "cpu")


@pytest.mark.parametrize(
    "name, fault", DAMAGED, ids=[f"{n} {case[0]} {case[1].__name__}" for n, case in enumerate(DAMAGED)]
)
def test_damaged_files(name, fault, unfinished, tuned_demo):
    """An error of the user's that names the file, says what was found, and what to do."""
    shutil.copy(tuned_demo / "results.json", unfinished)
    path = unfinished / name.replace("SNAPSHOT", (unfinished / "state/train/latest").read_text())
    read_all(unfinished)
    fault(path)
    with pytest.raises(UserError if fault is not a_folder else (UserError, OSError)) as found:
        read_all(unfinished)
    said = str(found.value) if isinstance(found.value, UserError) else of_machine(found.value)
    assert str(path) in said and len(said) < 700 and ("afresh" in said or "expected" in said)


IN_SCRIPTS = [
    ("args.json", empty), ("args.json", a_folder), ("metrics.jsonl", a_list), ("metrics.jsonl", a_folder),
    ("log.txt", a_folder),
    ("state/train/latest", a_list), (f"{SNAPSHOT}/state.json", a_folder), (f"{SNAPSHOT}/state.safetensors",
    cut),
    (f"{SNAPSHOT}/best", shutil.rmtree), ("state/seconds", a_folder),
]  # fmt: skip


@pytest.mark.parametrize(
    "name, fault", IN_SCRIPTS, ids=[f"{n} {case[0]} {case[1].__name__}" for n, case in enumerate(IN_SCRIPTS)]
)
def test_damaged_files_meet_a_script(name, fault, unfinished):
    """One message, exit code 2; --overwrite starts afresh from whatever is there."""
    path = unfinished / name.replace("SNAPSHOT", (unfinished / "state/train/latest").read_text())
    words = ["run_finetuning.py", *command(unfinished)]
    fault(path)
    one_message(run(*words, code=2), path)
    if fault is a_folder and name == "args.json":
        run(*words, "--overwrite")
        assert json.loads((unfinished / "results.json").read_text())["metrics"]


def test_a_damaged_result_meets_a_script(tuned, small_demo):
    empty(tuned / "results.json")
    one_message(
        run("run_finetuning.py", *command(tuned), code=2), tuned / "results.json", "--overwrite starts afresh"
    )
    one_message(run("run_finetuning.py", *command(tuned), "--do_test", code=2), tuned / "results.json")
    shutil.rmtree(tuned / "ckpt")
    flags = [
        "--task_name",
        "demo",
        "--data_dir",
        small_demo,
        "--use_cpu",
        "--model_path",
        tuned,
        "--output_dir",
        tuned.parent / "x",
    ]
    one_message(run("run_finetuning.py", *flags, code=2), tuned, "no ckpt/config.json")


def test_a_last_line_that_was_cut(unfinished):
    """A kill leaves it; the run goes on without it."""
    with open(unfinished / "metrics.jsonl", "a") as file:
        file.write('{"stage": "train", "st')
    run("run_finetuning.py", *command(unfinished))
    assert all(json.loads(line) for line in (unfinished / "metrics.jsonl").read_text().splitlines())


def test_rows_and_a_log_that_somebody_has_removed(unfinished, caplog, monkeypatch):
    """It is said how many rows are missing; the log begins again, also while the run goes on."""
    lines = (unfinished / "metrics.jsonl").read_text().splitlines(keepends=True)
    (unfinished / "metrics.jsonl").write_text("".join(lines[1:]))
    (unfinished / "log.txt").unlink()
    monkeypatch.setattr(logs.logger, "handlers", [])
    logs.start(is_main=True)
    logs.write_to(unfinished)
    logs.logger.addHandler(caplog.handler)
    metrics = logs.Metrics(unfinished, tracker="none", name="", settings={})
    metrics.rewind("train", len(lines), step=2)
    assert f"has {len(lines) - 1} rows of train, of {len(lines)} that had been written" in caplog.text
    (unfinished / "log.txt").unlink()
    logs.logger.warning("the next line")
    assert (unfinished / "log.txt").read_text().endswith("WARNING the next line\n")


def test_a_damaged_hop(nested_demo, small_demo, tmp_path):
    """A finished hop of another run whose record is no JSON, or of which somebody has removed a part."""
    flags = [
        *FINE,
        "--data_dir",
        small_demo,
        "--teacher_model_path",
        nested_demo,
        "--layer_or_sparsity_path",
        "90S",
    ]
    run("run_maxidisc.py", *flags, "--output_dir", tmp_path / "a")
    hop = next(tmp_path.glob("hops/*/hop.json"))
    for damage in (cut, os.unlink, lambda hop: shutil.rmtree(hop.parent / "ckpt")):
        damage(hop)
        done = run("run_maxidisc.py", *flags, "--output_dir", tmp_path / "b", code=2)
        one_message(done, hop.parent, f"remove {hop.parent}")


# ---- What the machine refuses


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    (tmp_path / "disk").mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", tmp_path / "disk"], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"needs to mount a file system: {done.stderr.decode().strip()}")
    yield tmp_path / "disk"
    subprocess.run(["umount", tmp_path / "disk"], check=True)


def test_a_full_disk_keeps_the_run_that_was_there(small_disk, tuned_demo, small_demo):
    """Weights of 2.3 MB are there; a state needs three times as much."""
    shutil.copytree(tuned_demo, small_disk / "run")
    before = content(small_disk / "run")
    flags = ["run_finetuning.py", *FINE, "--data_dir", small_demo, "--output_dir", small_disk / "run"]
    done = run(*flags, "--overwrite", code=2)
    one_message(
        done,
        small_disk / "run/state/train",
        "No space left on device",
        "make room",
        "replaced-1",
        "continues",
    )
    kept = content(small_disk / "run/replaced-1")
    assert {name: kept[name] for name in before} == before
    subprocess.run(["mount", "-o", "remount,size=40m", small_disk], check=True)
    run(*flags)
    assert not (small_disk / "run/replaced-1").exists()


def test_a_finished_run_where_nobody_can_write(small_disk, tuned_demo):
    """It is reported; what would write there is refused."""
    shutil.copytree(tuned_demo, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    flags = command(small_disk / "run")
    assert "finished before" in run("run_finetuning.py", *flags).stderr
    done = run("run_finetuning.py", *flags, "--do_test", code=2)
    one_message(done, small_disk / "run", "Read-only file system; choose another place")


def test_a_full_disk_while_parts_are_gathered(small_disk, tuned_demo, small_demo):
    """Room for the state of both processes, 6.9 MB, and not for the model beside it."""
    subprocess.run(["mount", "-o", "remount,size=8500k", small_disk], check=True)
    flags = [
        *(
            "--task_name",
            "demo",
            "--data_dir",
            small_demo,
            "--model_path",
            tuned_demo,
            "--use_cpu",
            "--shard",
        ),
        *("--max_steps", 1, "--max_eval_samples", 16, "--output_dir", small_disk / "run"),
    ]
    done = run("run_finetuning.py", *flags, processes=2, code=2)
    assert "No space left on device; make room" in done.stderr and "Traceback" not in done.stderr


def test_a_log_that_cannot_grow(unfinished):
    (unfinished / "log.txt").unlink()
    (unfinished / "log.txt").symlink_to("/dev/full")
    said = (unfinished / "log.txt", "No space left on device", "the same command continues")
    one_message(run("run_finetuning.py", *command(unfinished), code=2), *said)
    (unfinished / "metrics.jsonl").unlink()
    (unfinished / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device.*metrics\.jsonl"):
        logs.Metrics(unfinished, tracker="none", name="", settings={}).add("train", 1, {"loss": 1.0})


def test_a_tracker_that_cannot_write(small_disk, monkeypatch, caplog, capfd):
    """It is switched off, in one line."""
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(logs.logger, "propagate", True)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    (small_disk / "room").write_bytes(bytes(4_190_000))
    (small_disk.parent / "tensorboard").symlink_to(small_disk)
    metrics = logs.Metrics(small_disk.parent, tracker="tensorboard", name="", settings={})
    metrics.rewind("train", 0, step=0)
    for step in range(3000):
        metrics.add("train", step, {"loss": 1.0})
    metrics.sync("train")
    assert (
        "switched off: [Errno 28] No space left on device" in caplog.text
        and "Traceback" not in capfd.readouterr().err
    )


def test_streams_that_are_full(tuned, small_demo, tmp_path):
    """stdout is what was asked for, and an error; stderr is the log's copy, and none.  A closed one is
    none."""
    words = ["run_finetuning.py", *command(tuned)]
    done = run("tests/constrained.py", "stdout=/dev/full", "--", *words, code=2)
    one_message(done, "standard output: No space left on device")
    assert "Exception ignored" not in done.stderr
    for given in ("stderr=/dev/full", "stderr=", "stdout="):
        run("tests/constrained.py", given, "--", *words)
    begun = ["run_finetuning.py", *FINE, "--data_dir", small_demo, "--output_dir", tmp_path / "begun"]
    signalled = [(signal_driver.send, ("evaluation", signal.SIGTERM, 0))]
    codes, _ = outcome("tests/constrained.py", "stderr=/dev/full", "--", *begun, before=signalled)
    assert codes == [130]
    rows = [row.rsplit("\t", 1)[0] for row in (small_demo / "demo/dev.tsv").read_text().splitlines()[:20]]
    (tmp_path / "new.tsv").write_text("\n".join(rows) + "\n")
    predict = [
        "run_evaluation.py",
        "--task_name",
        "demo",
        "--data_dir",
        small_demo,
        "--use_cpu",
        "--model_path",
        tuned,
        "--predict",
    ]
    done = run("tests/constrained.py", "stdout=/dev/full", "--", *predict, tmp_path / "new.tsv", code=2)
    one_message(done, "standard output: No space left on device")
    one_message(run("run_finetuning.py", *FINE, "--data_dir", small_demo, "--seed", "x", code=2), "--seed")


LIMITED = [  # the largest file that can be written, a script and its flags, what the message says
    (
        100_000,
        ["run_evaluation.py", *"--model_path {run} --export dense --export_dir {tmp}/ex".split()],
        ["{tmp}/ex/"],
    ),
    (100_000, ["run_sparsification.py", "--model_path", "{run}"], ["{tmp}/new/state"]),
    (
        3_000,
        ["run_corpus.py", *"--input {tmp}/text --tokenizer_name_or_path {run} --num_workers 2".split()],
        ["{tmp}/new/"],
    ),
    (100_000, ["deberta_scripts/get_model.py", "{run}/ckpt", "{tmp}/made"], ["{tmp}/made"]),
]


@pytest.mark.parametrize("size, words, said", LIMITED, ids=[case[1][0] for case in LIMITED])
def test_no_room(size, words, said, tuned, small_demo, tmp_path):
    """Exports, models, corpora: the message names the place, and nothing half-written is left there."""
    (tmp_path / "text").write_text("the soup was good . \n" * 2000)
    words = [str(word).format(run=tuned, tmp=tmp_path) for word in words]
    if words[0].startswith("run_"):
        words += ["--output_dir", str(tmp_path / "new")]
    if words[0] in ("run_evaluation.py", "run_sparsification.py"):
        words += [
            "--task_name",
            "demo",
            "--data_dir",
            str(small_demo),
            "--use_cpu",
            "--max_eval_samples",
            "16",
        ]
    done = run("tests/constrained.py", f"file_size={size}", "--", *words, code=2)
    one_message(done, "File too large", *(word.format(tmp=tmp_path) for word in said))
    assert not list(tmp_path.rglob("*.tmp")) and not list((tmp_path / "ex").glob("*"))


def test_no_compiler():
    """What torch.compile raises then."""
    from torch._inductor.exc import InvalidCxxCompiler

    said = of_machine(InvalidCxxCompiler())
    assert (
        said.startswith("--compile: torch.compile has failed (No working C++ compiler") and "\n" not in said
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="for root every file can be written")
def test_a_log_of_somebody_else(unfinished):
    (unfinished / "log.txt").chmod(0o444)
    one_message(
        run("run_finetuning.py", *command(unfinished), code=2), unfinished / "log.txt", "Permission denied"
    )


WRONG_PLACES = [  # flags, what the message says
    (["--output_dir", "/proc/x"], ["--output_dir /proc/x", "No such file or directory"]),
    (["--output_dir", "{tmp}/file"], ["--output_dir {tmp}/file", "is a file"]),
    (["--output_dir", "{tmp}/file/x"], ["--output_dir {tmp}/file/x", "is a file"]),
    (["--output_dir", "{tmp}/nowhere"], ["--output_dir {tmp}/nowhere", "a broken link"]),
    (["--output_dir", "{tmp}/ring"], ["--output_dir {tmp}/ring", "symbolic links"]),
    (["--data_dir", "{tmp}/file"], ["{tmp}/file"]),
    (["--model_path", "{tmp}/file"], ["--model_path: {tmp}/file", "a file"]),
    (["--model_path", "{tmp}/ring"], ["--model_path {tmp}/ring", "symbolic links"]),
]


@pytest.mark.parametrize("words, said", WRONG_PLACES, ids=[" ".join(case[0]) for case in WRONG_PLACES])
def test_wrong_places(words, said, small_demo, tmp_path):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    flags = [
        *FINE,
        "--data_dir",
        small_demo,
        "--output_dir",
        tmp_path / "run",
        *(word.format(tmp=tmp_path) for word in words),
    ]
    before = content(tmp_path)
    one_message(run("run_finetuning.py", *flags, code=2), *(word.format(tmp=tmp_path) for word in said))
    assert content(tmp_path) == before


def test_other_wrong_places(nested_demo, tuned_demo, small_demo, tmp_path):
    """Folders where files are read and files where folders are: --hops_dir, --report, --predict, --corpus,
    --export_dir."""
    (tmp_path / "file").write_text("a file")
    task = ["--task_name", "demo", "--data_dir", small_demo, "--use_cpu"]
    path, model = tmp_path / "file", ["--model_path", tuned_demo]
    hops = [
        *FINE,
        "--data_dir",
        small_demo,
        "--teacher_model_path",
        nested_demo,
        "--layer_or_sparsity_path",
        "90S",
    ]
    for words, said in (
        (["run_maxidisc.py", *hops, "--hops_dir", path], path),
        (["run_evaluation.py", "--report", path], path),
        (["run_evaluation.py", *task, *model, "--predict", tmp_path], tmp_path),
        (["run_evaluation.py", *task, *model, "--export", "dense", "--export_dir", path], path),
        (["run_minilmv2.py", "--teacher_model_path", tuned_demo, "--corpus", path, "--use_cpu"], path),
    ):
        output = [] if "--report" in words else ["--output_dir", tmp_path / f"new{len(words)}"]
        one_message(run(*words, *output, code=2), said)
