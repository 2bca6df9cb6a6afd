"""results/: the list of jobs against the scripts' own flags, the command that runs it on the demo task,
tables and verdicts."""

import fcntl
import importlib
import importlib.util
import itertools
import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from data import tasks
from results import figure, records, systems, tables, verdicts
from results import jobs as listed
from results.__main__ import chosen, main
from results.jobs import SCORED, Chosen, Jobs, Run
from results.prediction import Predictor
from results.runner import Failed, Runner, Stopped
from utils import bootstrap, files
from utils.filter_specs import FilterSpec, filtered_layers

ROOT = Path(__file__).resolve().parents[1]
SIZES = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "vocab_size": 30522,
}
SMALL = {"model_type": "bert", **SIZES}
BASE = {
    "model_type": "mpnet",
    **SIZES,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "intermediate_size": 3072,
}


# ---- The list


def test_every_job_is_complete_and_comes_after_what_it_needs():
    """All references name kinds that stand before, so there are no cycles; only what is scored on hold-out
    rows chooses."""
    jobs, seen = listed.all_jobs(), set()
    assert len({job.name for job in jobs.values()}) == len(jobs) and {job.block for job in jobs.values()} == {
        *listed.BLOCKS
    }
    for name, job in jobs.items():
        assert name == job.name and name.startswith(f"{job.block}/") and job.study in "ABVU"
        for value in [*job.references(listed.Run), *job.references(listed.Chosen)]:
            tried = jobs.of(value.kind, getattr(value, "seed", listed.FIRST))
            assert tried and {other.name for other in tried} <= seen, f"{name} needs {value}"
            if isinstance(value, listed.Chosen) or len(tried) > 1:
                assert len(tried) == 3 and all(float(other.flags["--hold_out"]) > 0 for other in tried), (
                    f"{name}: {value}"
                )
                assert (
                    all(value.flag in other.flags for other in tried)
                    if isinstance(value, listed.Chosen)
                    else True
                )
        seen.add(name)
    assert sum(share for block, (_, share) in listed.BLOCKS.items() if block[0] in "AB") < 120


def test_each_side_tries_three_rates_and_gets_all_updates():
    """Direct students train for both hops' epochs; systems that are compared have the same seeds, rows and
    hold-out share."""
    jobs = listed.all_jobs()
    for kind in jobs.kinds():
        if "_minidisc_" not in kind:
            continue
        block, task = kind.split("/")[0], kind.split("/")[1].split("_")[0]
        size = "90S" if "lam" in kind else kind.rsplit("_", 1)[1]
        direct, ours = jobs.of(f"{block}/{task}_direct_{size}"), jobs.of(kind)
        assert {job.flags["--num_train_epochs"] for job in direct} == {
            2 * job.flags["--num_train_epochs"] for job in ours
        }
        assert {job.seed for job in ours} <= {job.seed for job in direct}
        for flag in ("--hold_out", "--max_train_samples", "--task_name", "--per_device_train_batch_size"):
            assert len({job.flags.get(flag) for job in [*direct, *ours]}) == 1, (kind, flag)


class First(Runner):
    """A runner for which the first candidate is the best one, without any record."""

    def best(self, kind, seed):
        return self.jobs.of(kind, seed)[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A runner, and all run folders as they are when everything is finished, as far as the flags' checks look
    at them."""
    folder = tmp_path_factory.mktemp("written")
    for name, config in (("small", SMALL), ("base", BASE)):
        (folder / name).mkdir()
        files.write_json(folder / name / "config.json", config)
    places = {
        "MODEL": folder / "small",
        "BASE_MODEL": folder / "base",
        "DATA_DIR": ROOT.parent / "shared" / "datasets",
    }
    environment = {
        name: str(path)
        for name, path in {**places, "OUTPUT": folder / "out", "RECORDS": folder / "kept"}.items()
    }
    runner = First(listed.all_jobs(), environment=environment)
    for job in runner.jobs.values():
        if job.is_run:
            write(runner, job)
    return runner


def write(runner, job):
    """A finished run of a job: args.json, results.json, and in ckpt/ the config and the filters that it would
    have."""
    words = runner.words(job)
    given = dict(itertools.pairwise(words))
    source = next(
        (
            given[flag]
            for flag in ("--student_model_path", "--model_path", "--teacher_model_path")
            if flag in given
        ),
        None,
    )
    folder = runner.folder(job) / "ckpt"
    folder.mkdir(parents=True)
    for name in ("args.json", "results.json"):
        (folder.parent / name).write_text("{}")
    if source is None:
        return
    config = next(
        files.read_json(path)
        for place in ("", "ckpt")
        if (path := Path(source) / place / "config.json").exists()
    )
    if "--hold_out" in given:
        config["hold_out"] = {**config.get("hold_out", {}), given["--task_name"]: float(given["--hold_out"])}
    if job.script == "run_sparsification.py":
        points = {point: {"heads": [], "neurons": []} for point in given["--grid"].split(",")}
        config["compression"] = {"kind": "sparse", "sparsity": 0, "grid": points}
    part = given.get(
        "--layer_or_sparsity", f"{given.get('--student_sparsity', given.get('--target_sparsity', ''))}S"
    )
    if job.script in ("run_distillation.py", "run_minidisc.py") and part != "S":
        whole = config["compression"]["grid"]
        grid = {point: whole[point] for point in whole if float(point) >= float(part[:-1])}
        config["compression"] = {"kind": "sparse", "sparsity": float(part[:-1]), "grid": grid}
        config["model_type"] = f"sparse-{config['model_type'].removeprefix('sparse-')}"
    if job.script == "run_vocabulary.py":
        config["vocab_size"] = int(given["--vocabulary_size"])
    if "--student_layer" in given or "--layer" in given:
        config["num_hidden_layers"] = int(given.get("--student_layer") or given["--layer"])
    if "--hidden" in given:
        config |= {"hidden_size": int(given["--hidden"]), "intermediate_size": 4 * int(given["--hidden"])}
    if given.get("--moe") == "1,4":
        config |= {"model_type": f"moe-{config['model_type']}"}
    (folder / "config.json").write_text(json.dumps(config))
    if given.get("--mode") == "filters":
        layers = filtered_layers(config["num_hidden_layers"], int(given.get("--filter_interval", 1)))
        heads = [
            {
                "layer": n,
                "metric": "acc",
                "score": 0.6,
                "baseline": 0.5,
                "low": 0.1,
                "high": 0.2,
                "above": True,
            }
            for n in layers
        ]
        width = config["hidden_size"]
        spec = FilterSpec(
            given["--task_name"],
            config["num_hidden_layers"],
            width,
            layers,
            width,
            False,
            given["--filter_token"] == "mean",
            heads,
        )
        spec.write(folder)


def test_every_command_is_accepted_by_its_script(written):
    """Each command line passes the script's own checks, against configs like those that the jobs before it
    leave."""
    has_onnx = importlib.util.find_spec("onnxscript") is not None
    for job in written.jobs.values():
        if not job.is_run or ("--export" in job.flags and not has_onnx):
            continue
        words = written.words(job)
        args = importlib.import_module(words[0].removesuffix(".py")).parse(words[1:])
        assert args.output_dir == str(written.folder(job)), job.name
        assert getattr(args, "hold_out", None) == job.flags.get(
            "--hold_out", getattr(args, "hold_out", None)
        ), job.name


def test_names_on_the_command_line():
    """Studies, blocks, kinds and jobs; in the list's order, each once; a wrong name says what is near."""
    jobs = listed.all_jobs()
    assert {job.study for job in chosen(jobs, ["A"])} == {"A"} and chosen(jobs, ["all"]) == [*jobs.values()]
    assert [job.name for job in chosen(jobs, ["B1/mrpc_nested", "B1/mrpc_teacher"])] == [
        "B1/mrpc_teacher",
        "B1/mrpc_nested",
    ]
    assert len(chosen(jobs, ["B1/mrpc_direct_90S", "B1/mrpc_direct_90S_777"])) == 5
    with pytest.raises(Failed, match="B1/mrpc_teacher"):
        chosen(jobs, ["B1/mrpc_techer"])


# ---- Running


def demo_jobs():
    """A teacher of many updates; two students of it, and one that learns from the better of them."""
    jobs = Jobs()
    data = {
        "--task_name": "demo",
        "--data_dir": "$DATA_DIR",
        "--use_cpu": True,
        "--hold_out": 0.2,
        "--log_interval": 1,
        **SCORED,
    }
    train = {**data, "--per_device_train_batch_size": 16}
    jobs.add(
        "D1/teacher", "run_finetuning.py", {**train, "--num_train_epochs": 12, "--num_patience_epochs": 12}
    )
    student = {**train, "--num_train_epochs": 1, "--layer_or_sparsity": "2L"}
    flags = {**student, "--teacher_model_path": Run("D1/teacher")}
    jobs.add("D1/direct", "run_distillation.py", flags, seeds=(776,), rates=("1e-3", "0.1"))
    flags = {**student, "--teacher_model_path": Run("D1/direct"), "--learning_rate": Chosen("D1/direct")}
    jobs.add("D1/second", "run_distillation.py", flags)
    return jobs


@pytest.fixture
def environment(tmp_path, small_demo):
    """Folders of its own; nothing else is set."""
    return {"OUTPUT": str(tmp_path / "out"), "RECORDS": str(tmp_path / "kept"), "DATA_DIR": str(small_demo)}


def test_a_miniature_is_interrupted_continued_and_made_again(environment, small_demo, capfd):
    """A job stopped in training and continued; its weights gone, and made again when a job that needs them is
    run."""
    jobs = demo_jobs()
    teacher, direct = jobs["D1/teacher"], jobs["D1/direct_776_1e-3"]
    runner = Runner(jobs, environment=environment)
    log = runner.folder(teacher) / "metrics.jsonl"

    def interrupt():
        while not log.exists():
            time.sleep(0.01)
        runner.stop()

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(Stopped):
        runner.make([direct])
    assert (
        runner.state(teacher) == "begun"
        and runner.state(direct) == "open"
        and not runner.record(teacher).exists()
    )
    runner = Runner(jobs, environment=environment)
    runner.make([teacher])
    kept = runner.record(teacher)
    assert runner.state(teacher) == "done" and "continued from update" in (kept / "log.txt").read_text()
    assert not (kept / "ckpt").exists() and not (kept / "predictions").exists()
    lines, results = (kept / "dev.txt").read_text().splitlines(), files.read_json(kept / "results.json")
    gold = [line.split("\t")[-1] for line in (small_demo / "demo" / "dev.tsv").read_text().splitlines()[1:]]
    assert results["metrics"]["dev"]["acc"] == np.mean(
        [found == label for found, label in zip(lines, gold, strict=True)]
    )
    cost = files.read_json(kept / "cost.json")["seconds"]
    # Both pieces: the libraries alone take a second each
    assert records.hours(kept) == cost["cpu"] / 3600 > 2 / 3600

    before = (kept / "args.json").read_bytes()
    shutil.rmtree(runner.folder(teacher) / "ckpt")
    assert runner.state(teacher) == "recorded"
    capfd.readouterr()
    runner.make([teacher])  # is done: nobody needs its weights
    assert capfd.readouterr().out == ""
    together = Runner(jobs, processes=2, environment=environment)
    together.make([jobs["D1/second"]])
    assert {together.state(job) for job in jobs.values()} == {"done"}
    out = capfd.readouterr().out
    assert out.count("\n== ") == 4 and (kept / "args.json").read_bytes() == before
    started, recorded = (
        [out.index(f"{sign}D1/direct_776_{rate}{end}") for rate in ("1e-3", "0.1")]
        for sign, end in (("== ", ":"), ("\n", ": recorded"))
    )
    assert max(started) < min(recorded)  # side by side, the teacher before them, what needs both after them
    assert out.index("== D1/teacher") < min(started) and max(recorded) < out.index("== D1/second")
    assert "update" in together.folder(direct).with_name(f"{direct.name[3:]}.out").read_text()


def test_the_time_is_over(environment):
    """A script that has not begun to train is stopped as well; then nothing is started any more."""
    jobs = demo_jobs()
    runner = Runner(jobs, until=0.5, environment=environment)
    for _ in range(2):
        with pytest.raises(Stopped):
            runner.make([jobs["D1/teacher"]])
    assert not runner.is_whole(jobs["D1/teacher"]) and not runner.is_done(jobs["D1/teacher"])


def test_jobs_that_fail(environment, capfd, monkeypatch):
    """The script's own message is shown, what needs the job is not run, others are; and nobody runs a job
    that is being run."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    jobs = Jobs()
    flags = {"--task_name": "demo", "--data_dir": "$DATA_DIR"}
    jobs.add("D1/wrong", "run_finetuning.py", {**flags, "--learning_rat": 1})
    jobs.add("D1/needs", "run_sparsification.py", {**flags, "--model_path": Run("D1/wrong")})
    jobs.add("D1/busy", "run_sparsification.py", {**flags, "--model_path": "nowhere/at/all"})
    busy = Runner(jobs).folder(jobs["D1/busy"])
    busy.parent.mkdir(parents=True)
    with open(busy.with_name("busy.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["D1", "--processes", "2"], jobs) == 1
    out, err = capfd.readouterr()
    assert out.count("== ") == 1 and "--learning_rat: no such flag" in err and "D1/wrong: exit code 2" in err
    assert "D1/busy: another call" in err
    assert main([], jobs) == 0 and "D1/needs" in capfd.readouterr().out
    assert main(["D2"], jobs) == 2


def pretend(runner, job, *, hold_out, cpu=36.0, **more):
    """A record with this score on hold-out rows."""
    record = runner.record(job)
    record.mkdir(parents=True)
    files.write_json(
        record / "args.json", {"settings": {"selection_metric": "acc", **more.pop("settings", {})}}
    )
    metrics = {"hold_out": {"acc": hold_out}, **more.pop("metrics", {})}
    last = {"last_metrics": {"hold_out": {"acc": hold_out - 0.1}}}
    files.write_json(
        record / "results.json", {"metrics": metrics, "best_step": 3, "num_steps": 4, **last, **more}
    )
    files.write_json(record / "cost.json", {"seconds": {"cpu": cpu, "wall": 2 * cpu}, "machine": ""})
    return record


def test_the_best_rate_is_that_of_the_hold_out_rows(environment):
    """Dev does not count; its run folder and its rate go into what refers to it."""
    jobs = demo_jobs()
    runner = Runner(jobs, environment=environment)
    for name, hold_out, dev in (("D1/direct_776_1e-3", 0.5, 0.9), ("D1/direct_776_0.1", 0.6, 0.1)):
        pretend(runner, jobs[name], hold_out=hold_out, metrics={"dev": {"acc": dev}})
    words = runner.words(jobs["D1/second"])
    assert words[words.index("--learning_rate") + 1] == "0.1"
    fewer = Runner(jobs, environment={**environment, "WITHOUT": "--use_cpu --do_infer"}).words(
        jobs["D1/second"]
    )
    assert [word for word in words if word not in fewer] == ["--use_cpu", "--do_infer"]
    assert words[words.index("--teacher_model_path") + 1].endswith("/D/D1/direct_776_0.1")


def test_the_prediction(environment):
    """What is not training, once; updates and evaluations of the hold-out rows as many as planned."""
    jobs = demo_jobs()
    predictor, job = Predictor(jobs, environment=environment), jobs["D1/teacher"]
    words = predictor.words(job)
    flags = dict(itertools.pairwise(words))
    assert (
        flags["--max_steps"] == "50"
        and flags["--log_interval"] == "10"
        and words.count("--log_interval") == 1
    )
    assert "predicted" in flags["--output_dir"]
    assert "/predicted/D1/direct_776_1e-3" in " ".join(predictor.words(jobs["D1/second"]))
    assert predictor.rivals("D1/direct", 776) == []  # one of them will do
    folder = predictor.folder(job)
    folder.mkdir(parents=True)
    files.write_json(folder / "results.json", {"data": {"train": 130, "hold_out": 32}, "metrics": {}})
    rows = [
        {"stage": "train", "step": step, "examples_per_second": speed}
        for step, speed in ((10, 1), (20, 8), (50, 8))
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    files.write_json(folder.with_name("teacher.cost.json"), {"cpu": 150.0, "wall": 150.0})
    update, planned = 16 / 8, 12 * 9  # 130 rows are 9 batches of 16
    assert predictor.seconds(job) == pytest.approx(150 + (planned - 50) * update + 11 * 2 * update / 3)


# ---- Tables and verdicts


@pytest.mark.parametrize(
    "low, high, margin, said",
    [
        (0.001, 0.02, 0, "confirmed"),
        (-0.001, 0.02, 0, "not confirmed here"),
        (0.0, 0.02, 0, "not confirmed here"),
        (-0.02, -0.001, 0, "contradicted"),
        (-0.002, 0.001, 0.003, "confirmed"),
        (-0.02, -0.004, 0.003, "contradicted"),
        (-0.02, -0.002, 0.003, "not confirmed here"),
    ],
)
def test_the_rule_for_a_verdict(low, high, margin, said):
    assert verdicts.verdict(low, high, margin=margin) == said


def test_a_claim_over_several_pairs():
    assert verdicts.overall(["confirmed", "not confirmed here"]) == "confirmed"
    assert verdicts.overall(["not confirmed here"] * 2) == "not confirmed here"
    assert verdicts.overall(["contradicted", "confirmed", "not confirmed here"]) == "mixed"


def test_every_claim_compares_kinds_of_the_list():
    """On one task each, with dev predictions on both sides and a metric for it."""
    jobs = listed.all_jobs()
    for claim in verdicts.CLAIMS:
        for kind, base in claim.pairs:
            sides = [jobs.of(one) for one in (kind, *((base,) if isinstance(base, str) else base))]
            assert all(sides), (claim.text, kind, base)
            members = [job for side in sides for job in side]
            assert len({job.flags["--task_name"] for job in members}) == 1, (claim.text, kind, base)
            assert all("--do_infer" in job.flags for job in members)
            assert members[0].flags["--task_name"] in verdicts.METRICS


def test_tables_from_records(environment, tmp_path, capsys, monkeypatch):
    """Two systems on a dev set of eight rows: chosen rates, means, the interval beside one counted out by
    hand."""
    names, gold = ("mrpc_direct_90S", "mrpc_minidisc_90S"), [1, 1, 1, 1, 0, 0, 0, 0]
    folder = tmp_path / "data" / "mrpc"
    folder.mkdir(parents=True)
    lines = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", *(f"{label}\t1\t2\ta\tb" for label in gold)]
    (folder / "dev.tsv").write_text("".join(f"{line}\n" for line in lines))
    environment["DATA_DIR"] = str(folder.parent)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    runner = Runner(listed.all_jobs())
    for job in runner.jobs.values():
        if job.kind.removeprefix("B1/") in names:
            is_best = not isinstance(job.flags.get("--learning_rate"), str) or job.name.endswith("3e-4")
            missed = (2 if "direct" in job.name else 1) if is_best else 3  # of the positive rows
            more = {"settings": {"task_name": "mrpc", "learning_rate": 3e-4 if is_best else 1e-4}}
            if "minidisc" in job.name:
                more["assistants"] = [80]
            dev = {"f1": 2 * (4 - missed) / (8 - missed), "acc": 1 - missed / 8}
            scores = {"hold_out": 0.8 if is_best else 0.7, "metrics": {"dev": dev}}
            record = pretend(runner, job, **scores, model={"encoder_parameters": 9}, **more)
            (record / "dev.txt").write_text("".join(f"{label}\n" for label in [0] * missed + gold[missed:]))
    tables.main(["B1"])
    printed = capsys.readouterr().out
    assert (
        "| mrpc_direct_90S | f1 0.6667 +- 0.0000, acc 0.7500 +- 0.0000 | 0.8000 +- 0.0000 | 0.7000 +- 0.0000 "
        "| 3 | 0.0003 |" in printed
    )
    assert "| 80S, 80S, 80S |  |  | 9 | 0.03 |" in printed
    system, base = (systems.systems(runner)[f"B1/{name}"] for name in reversed(names))
    found = verdicts.compare(system, base, data_dir=environment["DATA_DIR"], samples=4000)
    assert found["difference"] == pytest.approx(6 / 7 - 4 / 6) and found["seeds"] == 3
    (counts_RN,) = bootstrap.draws(8, 4000, seed=0)
    gaps = []
    for (
        both,
        one,
        *rest,
    ) in counts_RN:  # the row that both miss, the one that direct alone misses, two more, the negative ones
        right, missed = rest[0] + rest[1], both + one
        scores = [
            2 * hits / (2 * hits + misses) if misses + hits else 0
            for hits, misses in ((right, missed), (right + one, both))
        ]
        gaps.append(scores[1] - scores[0])
    assert (found["low"], found["high"]) == pytest.approx(
        (np.percentile(gaps, 2.5), np.percentile(gaps, 97.5))
    )
    line = next(line for line in printed.splitlines() if "B1/mrpc_minidisc_90S - B1/mrpc_direct_90S" in line)
    assert "| MRPC, f1 | +19.05 | " in line and line.endswith("| 3 | not confirmed here |")


def test_tables_of_the_records_that_are_kept():
    """Of every kind of job, also those that choose by no metric."""
    found = systems.systems(Runner(listed.all_jobs()))
    text = "\n".join(tables.block_table(found, block) for block in listed.BLOCKS)
    assert "| mrpc_30522_direct_90S | acc 0.7443 +- 0.0139, f1 0.8320 +- 0.0003" in text
    assert "| mrpc_16000_vocabulary |" in text and "| mrpc_90S_more |" in text
    assert "| V1/mrpc_16000_vocabulary | 16,000 | 0.952 | 1.064 |" in tables.vocabularies(found)
    assert "| V1/mrpc_16000_onnx_direct_90S | onnx int8 |" in tables.measured(found)


def test_the_figure(environment, tmp_path):
    """Seed by seed over no assistant; MiniDisc's share of MaxiDisc's hours with one seed."""
    runner = Runner(listed.all_jobs(), environment=environment)
    for job in runner.jobs.values():
        f1 = {"direct": 0.8, "over": 0.81, "assistant": 0.9, "minidisc": 0.82}.get(
            job.kind.removeprefix("A1/qqp_").split("_")[0]
        )
        if job.block == "A1" and f1 and not any(f"_{s}S_" in job.name for s in (30, 40, 60, 80)):
            f1 += 0.01 * (job.seed - 777) * ("over" in job.kind)
            more = {"settings": {"task_name": "qqp"}, "metrics": {"dev": {"f1": f1}}}
            if "minidisc" in job.kind:
                more["slice_of_first_hop"] = {"metrics": {"dev": {"f1": 0.7}}}
            record = pretend(runner, job, hold_out=0.5 - 0.1 * job.name.endswith("1e-4"), cpu=360.0, **more)
            # 50 is the best model, 80 the next at lambda .2, 70 at its best in the second epoch
            if "minidisc" in job.kind:
                scores = [{50: 0.80, 70: 0.76, 80: 0.75}, {50: 0.79, 70: 0.775, 80: 0.74}]
                lines = [
                    {
                        "stage": "iteration_1",
                        "choice": {"table": [{"sparsity": s, "metric": m} for s, m in each.items()]},
                    }
                    for each in scores
                ]
                (record / "metrics.jsonl").write_text(
                    "".join(f"{json.dumps(line)}\n" for line in [*lines, {"stage": "iteration_1"}])
                )
    found = systems.systems(runner)
    assert figure.gains(found, 70) == pytest.approx([0, 1, 2]) and figure.gains(found, 80) == []
    lines = figure.over_scales(found).splitlines()
    assert "| .3 | 0.9000 +- 0.0000 | 0.8100 +- 0.0100 | 1.00 +- 1.00 | 0.8771 | 0.8454 | +0.18 |" in lines
    assert "| .7 |  |  |  | 0.8874 | 0.8428 | -0.08 |" in lines
    # MaxiDisc here: none, and two paths of two hops, with one seed five runs of a tenth of an hour
    lines = figure.choices(found).splitlines()
    # .915 beside .91 and .90
    assert "| 0.2 | 70S, 70S, 70S | 0.8200 +- 0.0000 | 0.7000 +- 0.0000 | 0.10 | 0.20 |" in lines
    assert "| 0 | 50S, 50S, 50S | 0.8200 | 0.7000 | 0.10 | 0.20 |" in lines
    assert "| 0.3 | 80S, 80S, 80S | 0.8200 | 0.7000 | 0.10 | 0.20 |" in lines  # .99 beside .985
    drawn = figure.draw(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000 and len(drawn.axes[0].containers) == 1


def test_predictions_of_tags_are_a_sentence_on_each_line(tmp_path):
    """As --do_infer writes them, kept, read again: the tags that evaluation compares."""
    run = tmp_path / "run"
    (run / "predictions").mkdir(parents=True)
    (run / "predictions" / "conll_dev.txt").write_text("EU B-ORG B-ORG\nrejects O O\n\nPeter B-PER O\n")
    for name, value in (
        ("args.json", {}),
        ("results.json", {"predictions": {"dev": "predictions/conll_dev.txt"}}),
    ):
        files.write_json(run / name, value)
    records.keep(run, tmp_path / "kept", seconds={})
    assert verdicts.predictions(tmp_path / "kept", tasks.get("conll")) == [["B-ORG", "O"], ["O"]]
