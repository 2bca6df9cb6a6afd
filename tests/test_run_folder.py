"""Run folders: what is the user's stays, two runs never share one, what a kill, a full disk or an editor
leaves is one message.

Most cases are rows of tables; each is a script in a process of its own, or its parse() where nothing else can
be reached.
"""

import errno
import fcntl
import importlib
import json
import os
import pickle
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import constrained
import pytest
from commands import ROOT, kill_when, run
from copied_runs import FINE, RECORD, command, content, one_message

from utils import files, logs, provenance, run_folder, run_lock
from utils.errors import FlagError, RunError

# ---- --overwrite: foreign files stay, the old run until there is a new one


def test_overwrite_leaves_foreign_files_where_they_are(tuned, small_demo):
    """Also through a link, and where the run folder is the working directory."""
    mine = {
        "my_notes.txt": "mine",
        "analysis/table.txt": "too",
        "ckpt.tmp/x": "x",
        "args.json.tmp": "y",
        "replaced-1/a": "z",
        "table.csv": "not an evaluation's",
        "onnx/model.onnx": "exported",
    }
    for name, text in mine.items():
        (tuned / name).parent.mkdir(exist_ok=True)
        (tuned / name).write_text(text)
    (tuned.parent / "link").symlink_to(tuned)
    flags = [*FINE, "--data_dir", small_demo, "--overwrite"]
    old = json.loads((tuned / "args.json").read_text())["started"]
    run("run_finetuning.py", *flags, "--output_dir", tuned.parent / "link")
    done = run(
        "tests/constrained.py",
        f"cwd={tuned}",
        "--",
        "run_finetuning.py",
        *flags,
        "--seed",
        5,
        "--output_dir",
        ".",
    )
    assert done.stdout == "ckpt\n" and (tuned.parent / "link").is_symlink()
    assert json.loads((tuned / "args.json").read_text())["settings"]["seed"] == 5 and old
    assert {name: (tuned / name).read_text() for name in mine} == mine
    assert not run_folder.replaced(tuned) and not (tuned / "state").exists()


def test_overwrite_of_what_is_not_ours_is_refused(tmp_path, small_demo, tuned):
    """Another program's args.json, a marker that is not ours, a file of the user's in ckpt/ or
    predictions/."""
    for name, text in (
        ("args.json", '{"lr": 1}'),
        ("args.json", '{"stage": "finetuning", "settings": {}}'),
        ("args.json", "[]"),
        ("args.json", "{"),
        (".run_folder", "mine"),
        ("results.json", "{}"),
    ):
        (tmp_path / "theirs").mkdir()
        (tmp_path / "theirs" / name).write_text(text)
        before = content(tmp_path)
        for overwrite in ((), ("--overwrite",)):
            flags = [*FINE, "--data_dir", small_demo, *overwrite, "--output_dir", tmp_path / "theirs"]
            one_message(run("run_finetuning.py", *flags, code=2), "--output_dir", "this program")
        assert content(tmp_path) == before
        shutil.rmtree(tmp_path / "theirs")
    for name in ("ckpt/notes.txt", "predictions/plots/a.png", "predictions/mine.tsv"):
        (tuned / name).parent.mkdir(parents=True, exist_ok=True)
        (tuned / name).write_text("mine")
        before = content(tmp_path)
        flags = [*FINE, "--data_dir", small_demo, "--overwrite", "--output_dir", tuned]
        one_message(run("run_finetuning.py", *flags, code=2), "/".join(name.split("/")[:2]), "would be lost")
        assert content(tmp_path) == before
        (tuned / name).unlink()
        shutil.rmtree(tuned / "predictions", ignore_errors=True)
    (tuned / "predictions").mkdir()
    (tuned / "predictions/.demo_dev.tsv.0123456789abcdef.tmp").touch()  # a kill's
    assert run_folder.status(tuned, RECORD, overwrite=True) == ("new", None)


def test_a_run_from_before_the_marker(tuned, small_demo):
    """It is recognised by its args.json: reported, then overwritten."""
    (tuned / ".run_folder").unlink()
    assert "finished before" in run("run_finetuning.py", *command(tuned)).stderr
    (tuned / ".run_folder").unlink()
    run("run_finetuning.py", *FINE, "--data_dir", small_demo, "--overwrite", "--output_dir", tuned)
    assert (tuned / ".run_folder").is_file()


def test_the_old_run_stays_until_there_is_a_new_one(tuned, small_demo):
    """No file larger than a hundredth of the weights can be written: the new run has no state, the old one is
    whole and named."""
    before = content(tuned)
    flags = ["run_finetuning.py", *FINE, "--data_dir", small_demo, "--output_dir", tuned]
    done = run("tests/constrained.py", "file_size=20000", "--", *flags, "--overwrite", code=2)
    one_message(done, "File too large", "replaced-1", "the same command without --overwrite continues")
    kept = content(tuned / "replaced-1")
    assert {name: kept[name] for name in before} == before and not list(tuned.rglob("*.tmp"))
    assert "continues" in run("tests/constrained.py", "file_size=20000", "--", *flags, code=2).stderr
    run(*flags)
    assert not (tuned / "replaced-1").exists() and (tuned / "results.json").exists()


def test_killed_anywhere_while_it_replaces_a_run(tmp_path):
    """SIGKILL at each operation until the new run has begun: the next start finds the old run whole, or aside
    and the new one."""
    ends = []
    while "new" not in ends[-1:]:
        folder = tmp_path / str(len(ends))
        (folder / "ckpt").mkdir(parents=True)
        for name, text in (
            ("args.json", json.dumps(RECORD)),
            ("results.json", "{}"),
            ("ckpt/config.json", "{}"),
            ("mine", "x"),
        ):
            (folder / name).write_text(text)
        before = content(folder)
        child = os.fork()
        if child == 0:
            constrained.kill_at(len(ends) + 1, str(folder))
            run_lock.lock(folder)
            run_folder.move_aside(folder)
            files.write_json(folder / "args.json", {**RECORD, "settings": {"seed": 1}})
            os._exit(0)
        _, code = os.waitpid(child, 0)
        assert code == (
            0
            if (folder / "args.json").exists() and "seed" in (folder / "args.json").read_text()
            else signal.SIGKILL
        )
        run_lock.lock(folder)
        run_folder.put_back(folder)
        run_folder.tidy(folder, finished=False)
        kept = content(folder)
        ends.append("new" if "seed" in kept["args.json"].decode() else "old")
        if ends[-1] == "new":
            kept |= {
                name.removeprefix("replaced-1/"): kept[name]
                for name in list(kept)
                if name.startswith("replaced-1/")
            }
        assert {name: kept[name] for name in before} == before and not list(folder.rglob("*.tmp"))
    assert len(ends) > 10


# ---- What is read may not lie in what is emptied


SCRIPTS = {  # the flags that a script needs besides the one in question, which may be any of them
    "run_finetuning.py": {"--task_name": "demo", "--model_path": "other"},
    "run_sparsification.py": {"--task_name": "demo", "--model_path": "other"},
    "run_distillation.py": {
        "--task_name": "demo",
        "--teacher_model_path": "other",
        "--layer_or_sparsity": "2L",
    },
    "run_maxidisc.py": {
        "--task_name": "demo",
        "--teacher_model_path": "other",
        "--layer_or_sparsity_path": "2L",
    },
    "run_minidisc.py": {"--task_name": "demo", "--teacher_model_path": "other"},
    "run_stark.py": {"--task_name": "demo", "--teacher_model_path": "other", "--student_model_path": "other"},
    "run_ted.py": {
        "--task_name": "demo",
        "--mode": "kd",
        "--kl_alpha": "1",
        "--teacher_model_path": "other",
        "--student_model_path": "other",
    },
    "run_minilmv2.py": {"--teacher_model_path": "other", "--corpus": "corpus"},
    "run_minimoe.py": {"--teacher_model_path": "other", "--corpus": "corpus", "--layer": "3"},
    "run_evaluation.py": {"--task_name": "demo", "--model_path": "other"},
    "run_vocabulary.py": {
        "--task_name": "demo",
        "--model_path": "other",
        "--trim_embeddings": "",
        "--vocabulary_size": "58",
    },
    "run_corpus.py": {"--input": "other/config.json", "--tokenizer_name_or_path": "other"},
}
INPUTS = [
    ("run_finetuning.py", {"--model_path": "run"}, "is the run folder"),
    ("run_finetuning.py", {"--model_path": "run/ckpt"}, "lies in the run folder"),
    ("run_finetuning.py", {"--model_path": "link/nested"}, "lies in the run folder"),
    (
        "run_finetuning.py",
        {"--model_path": "other", "--output_dir": "other/new"},
        "the run folder lies in it",
    ),
    ("run_finetuning.py", {"--data_dir": "run/data"}, "lies in the run folder"),
    ("run_finetuning.py", {"--data_dir": "run"}, "is the run folder"),
    ("run_sparsification.py", {"--model_path": "run/nested"}, "lies in the run folder"),
    ("run_distillation.py", {"--teacher_model_path": "run/nested"}, "lies in the run folder"),
    (
        "run_distillation.py",
        {"--student_model_path": "run/nested", "--layer_or_sparsity": None},
        "lies in the run folder",
    ),
    ("run_maxidisc.py", {"--teacher_model_path": "run/nested"}, "lies in the run folder"),
    ("run_maxidisc.py", {"--hops_dir": "run/hops"}, "lies in the run folder"),
    ("run_minidisc.py", {"--teacher_model_path": "run/nested"}, "lies in the run folder"),
    ("run_stark.py", {"--student_model_path": "run/nested"}, "lies in the run folder"),
    ("run_ted.py", {"--student_model_path": "run/nested"}, "lies in the run folder"),
    ("run_minilmv2.py", {"--corpus": "run/corpus"}, "lies in the run folder"),
    (
        "run_minilmv2.py",
        {"--corpus": "run/text/*.txt", "--streaming": "", "--max_steps": "3"},
        "lies in the run folder",
    ),
    ("run_minilmv2.py", {"--tokenizer_name_or_path": "run/nested"}, "lies in the run folder"),
    ("run_minimoe.py", {"--corpus": "run/corpus"}, "lies in the run folder"),
    ("run_vocabulary.py", {"--model_path": "run/nested"}, "lies in the run folder"),
    ("run_vocabulary.py", {"--corpus": "run/text"}, "lies in the run folder"),
    ("run_evaluation.py", {"--model_path": "run/nested"}, "lies in the run folder"),
    ("run_evaluation.py", {"--export": "dense", "--export_dir": "run/exports"}, "lies in the run folder"),
    ("run_corpus.py", {"--input": "run/text"}, "lies in the run folder"),
    ("run_corpus.py", {"--input": "run/text/*.txt"}, "lies in the run folder"),
    ("run_corpus.py", {"--input": "text", "--output_dir": "text/built"}, "the run folder lies in it"),
    ("run_corpus.py", {"--tokenizer_name_or_path": "run/ckpt"}, "lies in the run folder"),
]


@pytest.fixture(scope="session")
def crowded(tmp_path_factory, tuned_demo, nested_demo, built_corpus) -> Path:
    """A run with a text, a corpus and a teacher in it, and the same beside it."""
    folder = tmp_path_factory.mktemp("crowded")
    shutil.copytree(tuned_demo, folder / "run")
    for name in ("other", "run/nested"):
        shutil.copytree(nested_demo / "ckpt", folder / name)
    for name in ("corpus", "run/corpus"):
        shutil.copytree(built_corpus, folder / name)
    for name in ("run/text", "text"):
        (folder / name).mkdir()
        (folder / name / "a.txt").write_text("a text")
    (folder / "link").symlink_to(folder / "run")
    return folder


@pytest.mark.parametrize(
    "script, given, said", INPUTS, ids=[f"{n} {case[0]}" for n, case in enumerate(INPUTS)]
)
def test_an_input_in_the_run_folder(script, given, said, crowded, small_demo, monkeypatch):
    """Refused while the flags are read, with and without --overwrite: nothing is generated or removed."""
    monkeypatch.chdir(crowded)
    data = {"--data_dir": str(small_demo)} if "--task_name" in SCRIPTS[script] else {}
    flags = {**SCRIPTS[script], **data, "--output_dir": "run", **given}
    words = [word for flag, value in flags.items() if value is not None for word in (flag, value) if word]
    parse = importlib.import_module(script.removesuffix(".py")).parse
    before = content(crowded)
    for overwrite in ([], ["--overwrite"]):
        with pytest.raises(FlagError, match=said) as found:
            parse([*words, *overwrite])
        changed = [flag for flag in given if flag not in ("--output_dir", "--layer_or_sparsity", "--export")]
        assert any(f"{flag} " in str(found.value) for flag in changed or ["--model_path"])
    assert content(crowded) == before


def test_an_input_that_a_config_names(crowded, tmp_path):
    """Text in the run folder that only the JSON file of --input leads to."""
    (tmp_path / "corpus.json").write_text(json.dumps({"urls": [str(crowded / "run/text/*.txt")]}))
    flags = [
        "--input",
        tmp_path / "corpus.json",
        "--sentences_only",
        "--num_workers",
        1,
        "--output_dir",
        crowded / "run",
    ]
    before = content(crowded)
    one_message(
        run("run_corpus.py", *flags, "--overwrite", code=2),
        crowded / "run/text/a.txt",
        "lies in the run folder",
    )
    assert content(crowded) == before


def test_what_may_lie_there(crowded, small_demo, monkeypatch):
    """A run folder below the data folder, whose files are read by name; a hub name that begins like the run
    folder."""
    monkeypatch.chdir(crowded)
    parse = importlib.import_module("run_finetuning").parse
    for words in (
        ["--data_dir", str(small_demo), "--output_dir", str(small_demo / "runs/1")],
        ["--data_dir", str(small_demo / "demo"), "--output_dir", str(small_demo / "demo/run")],
        ["--data_dir", str(small_demo), "--model_path", "run2/model", "--output_dir", "run2"],
    ):
        parse(["--task_name", "demo", *words])


@pytest.mark.parametrize("script", SCRIPTS)
def test_paths_that_no_machine_takes(script, crowded, small_demo, monkeypatch):
    """A name of 300 characters, and the home of nobody that there is, under every flag that takes a path."""
    monkeypatch.chdir(crowded)
    data = {"--data_dir": str(small_demo)} if "--task_name" in SCRIPTS[script] else {}
    given = {**SCRIPTS[script], **data, "--output_dir": "new"}
    parse = importlib.import_module(script.removesuffix(".py")).parse
    flags = [
        flag
        for flag in given
        if flag in ("--corpus", "--input") or flag.endswith(("_model_path", "--model_path", "_dir"))
    ]
    for flag in flags:
        for path, said in (
            ("x" * 300, "File name too long"),
            ("a/" + "x" * 300, "File name too long"),
            ("~nobody_is_here/x", "no user"),
        ):
            words = [word for pair in {**given, flag: path}.items() for word in pair]
            with pytest.raises(FlagError, match=f"{flag} .*{said}"):
                parse(words)


# ---- One process tree at a time


def holder(folder, *, shared=False):
    """A process that holds the lock of a folder until its stdin ends."""
    code = f"""
import sys
from utils import run_lock
run_lock.lock({str(folder)!r}, shared={shared})
print("held", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_two_starts_into_one_folder(tmp_path, small_demo):
    """The second, with another seed, is refused while the first works, and says who it is; a killed one lets
    go."""
    flags = [
        "--task_name",
        "demo",
        "--data_dir",
        small_demo,
        "--use_cpu",
        "--output_dir",
        tmp_path / "run",
        "--log_interval",
        1,
    ]
    said = []

    def second():
        if not (tmp_path / "run/metrics.jsonl").exists():
            return False
        said.append(run("run_finetuning.py", *flags, "--seed", 2, *(["--overwrite"] * len(said)), code=2))
        return len(said) == 2

    assert kill_when(second, "run_finetuning.py", *flags, "--seed", 1)
    for done in said:
        one_message(done, "another run works in it (process ")
    rows = map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    steps = [row["step"] for row in rows if "lr" in row]
    assert steps == sorted({*steps})
    assert json.loads((tmp_path / "run/args.json").read_text())["settings"]["seed"] == 1
    one_message(run("run_finetuning.py", *flags, "--seed", 2, code=2), "--seed: 1 in the run, 2 now")


def test_two_begin_at_once(tmp_path):
    """Both saw no folder; the second to begin meets the first, or what it has left."""
    assert run_folder.status(tmp_path / "run", RECORD, overwrite=False) == ("new", None)
    (tmp_path / "run").mkdir()
    first = holder(tmp_path / "run")
    with pytest.raises(RunError, match=f"another run works in it .process {first.pid}."):
        run_lock.lock(tmp_path / "run")
    files.write_json(tmp_path / "run/args.json", RECORD)
    first.communicate()
    run_lock.lock(tmp_path / "run")
    assert run_folder.status(tmp_path / "run", RECORD, overwrite=False) == ("unfinished", None)


def test_the_lock_outlives_the_main_process(tmp_path):
    """With several processes the others share it: it is free when the last of them has died."""
    (tmp_path / ".run_folder").touch()
    code = f"""
import sys
from utils import run_lock
run_lock.lock({str(tmp_path)!r})
run_lock.share_lock({str(tmp_path)!r})
print("held", flush=True)
sys.stdin.read()
"""
    main = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert main.stdout.readline() == "held\n"
    worker = holder(tmp_path, shared=True)
    main.kill()
    main.communicate()
    with pytest.raises(RunError, match=f"process {worker.pid}"):
        run_lock.lock(tmp_path)
    worker.kill()
    worker.communicate()
    run_lock.lock(tmp_path)


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    """The log says that nothing is kept out, and the run goes on."""

    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(logs.logger, "propagate", True)
    run_lock.lock(tmp_path)
    assert "has no locks" in caplog.text and (tmp_path / ".run_folder").exists()
    files.write_text(tmp_path / "args.json", "{}")
    run_folder.tidy(tmp_path, finished=False)


def test_a_finished_run_is_reported_while_it_is_in_use(tuned):
    words, other = command(tuned), holder(tuned)
    for processes in (1, 2):
        assert "finished before" in run("run_finetuning.py", *words, processes=processes).stderr
    one_message(run("run_finetuning.py", *words, "--do_test", code=2), f"process {other.pid}")
    other.communicate()


# ---- Permissions and temporary names


@pytest.mark.parametrize("umask", ["002", "027", "077"])
def test_files_have_the_permissions_of_the_umask(umask, tmp_path, small_demo):
    run(
        "tests/constrained.py",
        f"umask={umask}",
        "--",
        "run_finetuning.py",
        *FINE,
        *f"--data_dir {small_demo} --do_train --do_infer --infer_split dev".split(),
        *f"--output_dir {tmp_path / 'run'}".split(),
    )
    for path in [tmp_path / "run", *(tmp_path / "run").rglob("*")]:
        mode = (0o777 if path.is_dir() else 0o666) & ~int(umask, 8)
        assert stat.S_IMODE(path.stat().st_mode) == mode, path
    assert (tmp_path / "run/ckpt/model.safetensors").exists() and list(
        (tmp_path / "run/predictions").iterdir()
    )


def test_temporary_names_are_not_followed(tmp_path, tuned, small_demo):
    """Links under the names that were used before lead nowhere."""
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "room").mkdir()
    (tmp_path / "room/mine").write_text("mine")
    for name in ("report.html.tmp", "run/args.json.tmp", "run/results.json.tmp", "run/metrics.jsonl.tmp"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    (tuned / "ckpt.tmp").symlink_to(tmp_path / "room")
    (tuned / "state/train").mkdir(parents=True)
    (tuned / "state/train/tmp").symlink_to(tmp_path / "room")
    run("run_finetuning.py", *FINE, "--data_dir", small_demo, "--overwrite", "--output_dir", tuned)
    run("run_evaluation.py", "--report", tmp_path)
    assert (tmp_path / "victim").read_text() == "mine" and (tmp_path / "room/mine").read_text() == "mine"
    assert (tuned / "ckpt.tmp").is_symlink() and (tmp_path / "report.html.tmp").is_symlink()


def test_an_export_leaves_its_neighbours_alone(tmp_path, tuned, small_demo):
    """compact.tmp/ is the user's; what a killed export has left is not."""
    dead = tmp_path / "ex/.dense.0123456789abcdef.tmp"
    for folder in (tmp_path / "ex/dense.tmp", dead):
        folder.mkdir(parents=True)
        (folder / "mine").write_text("x")
    flags = [
        "--task_name",
        "demo",
        "--data_dir",
        small_demo,
        "--use_cpu",
        "--max_eval_samples",
        16,
        "--model_path",
        tuned,
    ]
    run(
        "run_evaluation.py",
        *flags,
        "--export",
        "dense",
        "--export_dir",
        tmp_path / "ex",
        "--output_dir",
        tmp_path / "eval",
    )
    assert (
        (tmp_path / "ex/dense.tmp/mine").exists()
        and (tmp_path / "ex/dense/config.json").exists()
        and not dead.exists()
    )


def test_what_another_process_is_writing_stays(tmp_path):
    """And what a killed one has left goes, if it is of a file of ours."""
    dead = tmp_path / ".args.json.0123456789abcdef.tmp"
    for path in (dead, tmp_path / ".notes.txt.0123456789abcdef.tmp"):
        path.touch()
    with files.new_file(tmp_path / "args.json") as aside:
        run_folder.tidy(tmp_path, finished=False)
        assert aside.exists() and not dead.exists()
        aside.write_text("{}")
    with pytest.raises(ZeroDivisionError), files.new_folder(tmp_path / "ckpt"):
        raise ZeroDivisionError
    assert sorted(os.listdir(tmp_path)) == [".notes.txt.0123456789abcdef.tmp", "args.json"]


def test_a_report_of_the_users_own(tmp_path, tuned):
    run("run_evaluation.py", "--report", tmp_path)
    run("run_evaluation.py", "--report", tmp_path)  # replaces its own
    (tmp_path / "report.html").write_text("<html>mine</html>")
    one_message(
        run("run_evaluation.py", "--report", tmp_path, code=2), tmp_path / "report.html", "--output_dir"
    )
    assert (tmp_path / "report.html").read_text() == "<html>mine</html>"


class Harmful:
    """Makes a file when it is read from a pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_get_model_of_a_strangers_pickle(tmp_path, tuned):
    """Nothing of it is run, nor is the user told to; a file in the place of the folder stays."""
    words = ["deberta_scripts/get_model.py", tmp_path / "model", tmp_path / "made"]
    (tmp_path / "model").mkdir()
    one_message(run(*words, code=2), tmp_path / "model", "found nothing; expected config.json")
    shutil.copy(tuned / "ckpt/config.json", tmp_path / "model")
    for data in (pickle.dumps({"a": Harmful(tmp_path / "ran")}, 2), b"", b"no pickle at all"):
        (tmp_path / "model/pytorch_model.bin").write_bytes(data)
        done = run(*words, code=2)
        one_message(done, "pytorch_model.bin", "nothing of it was run")
        assert "weights_only=" not in done.stderr and not (tmp_path / "ran").exists()
    (tmp_path / "made").write_text("mine")
    one_message(run(*words, code=2), tmp_path / "made", "a file")
    one_message(run(*words[:2], "~no-such-user/x", code=2), "~no-such-user/x: no such user")
    assert (tmp_path / "made").read_text() == "mine"


def test_get_model_keeps_what_it_would_not_write(tmp_path, tuned):
    shutil.copytree(tuned / "ckpt", tmp_path / "model")
    (tmp_path / "model/README.md").unlink()
    for _ in range(2):
        run("deberta_scripts/get_model.py", tmp_path / "model", tmp_path / "made")
    (tmp_path / "made/notes").mkdir()
    one_message(
        run("deberta_scripts/get_model.py", tmp_path / "model", tmp_path / "made", code=2),
        "notes",
        "would be lost",
    )
    assert (tmp_path / "made/notes").is_dir() and sorted(os.listdir(tmp_path)) == ["made", "model", "run"]
    one_message(
        run("deberta_scripts/get_model.py", "no/such/model", tmp_path / "new", code=2), "no/such/model"
    )
    one_message(
        run("deberta_scripts/get_model.py", tmp_path / "run", tmp_path / "new", code=2),
        tmp_path / "run",
        "pytorch_model.bin",
    )
    assert not (tmp_path / "new").exists()


# ---- What a kill leaves


def test_a_folder_that_has_only_begun(tmp_path, small_demo):
    """The marker, whole or cut; what was being written; args.json.tmp of the time before the marker."""
    for names in (
        [".run_folder"],
        [".run_folder", ".args.json.0123456789abcdef.tmp"],
        [".args.json.0123456789abcdef.tmp"],
        ["args.json.tmp"],
        [],
    ):
        (tmp_path / "run").mkdir()
        for name in names:
            (tmp_path / "run" / name).touch()
        assert run_folder.claim(tmp_path / "run", RECORD, overwrite=False, answers=False) == ("new", 0.0)
        assert run_folder.claim(tmp_path / "run", RECORD, overwrite=True, answers=False) == ("new", 0.0)
        if names == ["args.json.tmp"]:
            run("run_finetuning.py", *FINE, "--data_dir", small_demo, "--output_dir", tmp_path / "run")
            assert sorted(os.listdir(tmp_path / "run"))[:2] == [".run_folder", "args.json"]
        shutil.rmtree(tmp_path / "run")


def test_killed_after_results_json(tuned):
    """The state, the run that was replaced and half a file go when the run is reported; foreign files
    stay."""
    (tuned / "state/train").mkdir(parents=True)
    (tuned / "replaced-3").mkdir()
    for name in (
        "state/train/latest",
        "replaced-3/.run_folder",
        "replaced-3/args.json",
        ".ckpt.0123456789abcdef.tmp",
        "notes.tmp",
    ):
        (tuned / name).touch()
    run("run_finetuning.py", *command(tuned))
    assert sorted(os.listdir(tuned)) == [
        ".run_folder",
        "args.json",
        "ckpt",
        "log.txt",
        "metrics.jsonl",
        "notes.tmp",
        "results.json",
    ]


def test_a_killed_dry_run(tmp_path, small_demo):
    """Its folder goes with the next start of any script; that of a living one stays."""
    rooms = [tmp_path / "tmp", tmp_path / "out"]
    for room in rooms:
        room.mkdir()
    flags = [*FINE, "--data_dir", small_demo, "--output_dir", rooms[1] / "run"]
    words = ["tests/constrained.py", f"tmp={rooms[0]}", "--", "run_finetuning.py", *flags]
    assert kill_when(
        lambda: [*rooms[0].glob("*/args.json"), *rooms[0].glob(".*/args.json")], *words, "--dry_run"
    )
    assert len(os.listdir(rooms[0])) == 1 and not os.listdir(rooms[1])
    with files.new_file(rooms[0] / "bert-compression-dry-run"):
        run(*words)
        assert len(os.listdir(rooms[0])) == 1
    run(*words[:-2], "--dry_run")
    assert os.listdir(rooms[0]) == ["bert-compression-dry-run"] and os.listdir(rooms[1]) == ["run"]


def test_an_export_that_was_killed_is_made_again(tmp_path, tuned, small_demo):
    """The same command continues although the folder is there, which another run's would not."""
    (tmp_path / "ex").mkdir()
    flags = [
        "--task_name",
        "demo",
        "--data_dir",
        small_demo,
        "--use_cpu",
        "--max_eval_samples",
        16,
        "--model_path",
        tuned,
    ]
    words = [
        "run_evaluation.py",
        *flags,
        "--export",
        "dense",
        "--export_dir",
        tmp_path / "ex",
        "--output_dir",
        tmp_path / "eval",
    ]
    assert kill_when(
        lambda: (tmp_path / "ex/dense").exists() and not (tmp_path / "eval/results.json").exists(), *words
    )
    run(*words)
    assert "finished before" in run(*words).stderr
    one_message(run(*words, "--overwrite", code=2), tmp_path / "ex/dense", "exists")


# ---- Other versions


def test_continued_under_other_versions(unfinished):
    """They are named in the log and kept in args.json, each once; a run that is only reported has nothing to
    say."""
    record = json.loads((unfinished / "args.json").read_text())
    now, commit = record["versions"]["torch"], record["git_commit"]
    record["versions"]["torch"], record["git_commit"] = "1.0", "abc"
    (unfinished / "args.json").write_text(json.dumps(record))
    words = ["run_finetuning.py", *command(unfinished)]
    latest = unfinished / "state/train/latest"
    for _ in range(2):
        before = latest.read_text()
        assert kill_when(lambda before=before: latest.read_text() != before, *words)
    assert f"torch {now} (before: 1.0), commit {commit} (before: abc)" in (unfinished / "log.txt").read_text()
    assert "versions" not in run(*words).stderr and "versions" not in run(*words).stderr
    record = json.loads((unfinished / "args.json").read_text())
    assert record["versions"]["torch"] == "1.0" and [
        part["versions"]["torch"] for part in record["resumed"]
    ] == [now]
    card = (unfinished / "ckpt/README.md").read_text()
    assert "torch 1.0" in card and f"torch {now}" in card and f"| commit | abc; then {commit} |" in card


# ---- Other data


def test_a_test_file_that_comes_later(tmp_path, tuned, small_demo):
    """A finished run answers it, and says so where it is another one than before, also in a folder of an
    earlier version, which compared it; another dev file is another run."""
    data, record = tmp_path / "data" / "demo", json.loads((tuned / "args.json").read_text())
    shutil.copytree(small_demo / "demo", data)
    words = [*command(tuned), "--data_dir", data.parent, "--do_test"]
    first = record["inputs"].pop("test/test.tsv")
    for name, added in (("data/test.tsv", 1), ("test/test.tsv", 2), (None, 0)):
        before = {name: first} if name else {}
        inputs = {**record["inputs"], **before}
        (tuned / "args.json").write_text(json.dumps({**record, "inputs": inputs}))
        rows = (small_demo / "demo" / "test.tsv").read_text().splitlines(keepends=True)
        (data / "test.tsv").write_text("".join(rows + rows[1 : 1 + added]))
        said = "test/test.tsv: another file than before" in run("run_finetuning.py", *words).stderr
        assert said is (name == "test/test.tsv")
        now = json.loads((tuned / "args.json").read_text())["inputs"]
        assert now == {**inputs, "test/test.tsv": files.sha256(data / "test.tsv")}
    with (data / "dev.tsv").open("a") as file:
        file.write(rows[1])
    one_message(run("run_finetuning.py", *words, code=2), "data/dev.tsv")


def test_files_of_one_name_are_all_compared(tmp_path):
    """train/rows.csv and dev/rows.csv."""
    for folder in ("train", "dev"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.csv").write_text(folder)
    paths = [tmp_path / "train" / "rows.csv", tmp_path / "dev" / "rows.csv"]
    found = provenance.hashes({"data": paths})
    assert found == {f"data/{path.parent.name}/rows.csv": files.sha256(path) for path in paths}


# ---- The list of what is ours


def test_all_that_runs_write_is_known(tuned_demo, nested_demo, built_corpus):
    """What has no known name would be left behind by --overwrite: names in the sources, and what runs have in
    their folders."""
    for folder in (tuned_demo, nested_demo, built_corpus):
        stage = run_folder.read_record(folder)["stage"]
        assert all(run_folder.is_own(name, stage) or name == ".run_folder" for name in os.listdir(folder))
        assert run_folder.status(folder, RECORD, overwrite=True) == ("new", None)
    sources = [
        *ROOT.glob("run_*.py"),
        *(path for name in ("data", "models", "utils") for path in (ROOT / name).rglob("*.py")),
    ]
    found = set()
    for path in sources:
        stage = path.stem.removeprefix("run_") if path.parent == ROOT else None
        for pattern in (r'run\.folder / f?"([^"/]+)"', r'run\.keep\([^,]+, f?"([^"]+)"'):
            found |= {
                (stage, re.sub(r"\{[^}]*\}", "1", name)) for name in re.findall(pattern, path.read_text())
            }
    assert len(found) > 8 and not [
        (stage, name) for stage, name in found if not run_folder.is_own(name, stage)
    ]
