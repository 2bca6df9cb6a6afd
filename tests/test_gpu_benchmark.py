"""The GPU benchmark on a CPU: its sections run from end to end on tiny sizes; what goes wrong in one is told
and contained."""

import dataclasses
import functools
import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
from commands import start_server

import models
from benchmarks.gpu import __main__ as program
from benchmarks.gpu import agreement, attention, machine, made_up, report, sections, settings, speed, stages
from models import measuring


@pytest.fixture(autouse=True, scope="module")
def one_server():
    """The sections are forked from the server that the scripts are forked from, whatever runs first."""
    start_server()


@pytest.fixture
def tiny(tmp_path):
    return settings.BenchmarkSettings("cpu", False, tmp_path, tmp_path / "none", tmp_path / "none", None)


def test_every_section(tmp_path, capsys):
    output = tmp_path / "results" / "gpu.json"
    nowhere = ["--data_dir", str(tmp_path / "none"), "--encoder", str(tmp_path / "none")]
    code = program.main(["--device", "cpu", "--output", str(output), *nowhere])
    found, printed = json.loads(output.read_text()), capsys.readouterr().out
    assert code == 0, printed
    assert list(found["sections"]) == list(sections.SECTIONS) and found["device"] == "cpu"
    rows = {name: section["rows"] for name, section in found["sections"].items()}
    assert not [row for each in rows.values() for row in each if "error" in row or row.get("passed") is False]
    assert [row["method"] for row in rows["gradients"]] == list(agreement.CASES)
    assert rows["resume"][0]["killed, whole equal"] is True
    assert {row["script"] for row in rows["resume"]} == {"run_finetuning"}
    for name in ("finetuning", "distillation", "minidisc", "deterministic"):
        row = rows[name][0]
        assert row["tokens/s"] > 0 and row["TFLOP/s"] > 0 and "MFU" not in row, "a CPU has no peak here"
        assert 0 <= row["padding"] < 1 and row["peak MiB"] > 100
    assert rows["minidisc"][1]["parts ms"].keys() >= {"teacher", "50%", "update"}
    assert [row["what"] for row in rows["experts"]] == ["block"] * 4 + ["student"] * 2
    assert {row["attention"] for row in rows["attention"] if "ms" in row} >= {
        "eager",
        "sdpa",
        "sdpa, flash",
        "packed",
    }
    assert len(rows["stages"]) == 19 and {row["precision"] for row in rows["stages"]} == {"bf16"}
    assert rows["compile"][-1]["eager / compiled"] > 0
    assert "once for all" in printed and "at most" in printed and found["machine"]["cpu"] in printed
    assert not list(tmp_path.glob("gpu_*"))


def test_no_gpu_is_an_error_of_its_own(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert program.main(["--output", str(tmp_path / "gpu.json")]) == 2
    assert "--device cpu" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_gpu_that_fails_is_an_error_of_each_row(tiny):
    """As after a kernel that has failed: whatever touches the device raises, also where memory is looked
    at."""
    if torch.cuda.is_available():
        pytest.skip("there is one")
    found = list(machine.rows(dataclasses.replace(tiny, device="cuda")))
    assert len(found) == 5 and all(row["error"] for row in found)


# ---- What goes wrong in a section


def rows_then(what, settings):
    yield {"what": "first", "value": np.float32(1.5), "endless": float("inf")}
    if what == "raises":
        raise ValueError("no such thing")
    if what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hangs":
        multiprocessing.get_context("fork").Process(target=_wait, args=(settings.work / "child",)).start()
        time.sleep(600)
    if what == "errs":
        yield settings_attempt(settings, lambda: 1 / 0)
        yield settings_attempt(settings, lambda: {"value": 1})
    if what == "fails":
        yield {"what": "second", "passed": False}


def settings_attempt(tiny, measure):
    return settings.attempt({"what": "second"}, measure, tiny)


def _wait(path):
    path.write_text(str(os.getpid()))
    time.sleep(600)


@pytest.mark.parametrize(
    "what, status, error, number",
    [
        ("ends", "ok", None, 1),
        ("raises", "failed", "ValueError: no such thing", 1),
        ("dies", "failed", "exit code -9", 1),
        ("hangs", "out of time", "end of its time", 1),
        ("errs", "failed", None, 3),
        ("fails", "failed", None, 2),
    ],
)
def test_a_section_fails_alone(tiny, what, status, error, number):
    sections.prepare()
    seconds = 3 if what == "hangs" else 60
    found = sections.run("made up", tiny, seconds, generate=functools.partial(rows_then, what))
    assert found["status"] == status and len(found["rows"]) == number
    assert found["rows"][0] == {"what": "first", "value": 1.5, "endless": "inf"}
    assert error is None or error in found["error"]
    if what == "raises":
        assert any("no such thing" in line for line in found["log"])
    if what == "errs":
        assert found["rows"][1]["error"].startswith("ZeroDivisionError") and found["rows"][2]["value"] == 1
        assert "second: error: ZeroDivisionError" in report.section("made up", found)
    if what == "hangs":
        child = int((tiny.work / "child").read_text())
        assert gone(child), "what a section has started ends with it"
    assert "made up: " + status in report.section("made up", found)
    json.dumps(found, allow_nan=False)


def gone(pid) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_exit_code_and_what_does_not_fit_in(tmp_path, monkeypatch, capsys):
    """A section that fails makes it 1, and so does one for which there is no time; the JSON says which."""
    failing = functools.partial(rows_then, "fails")
    monkeypatch.setattr(sections, "SECTIONS", {"first": (failing, 60), "second": (failing, 60)})
    output = tmp_path / "gpu.json"
    assert program.main(["--device", "cpu", "--output", str(output), "--only", "first"]) == 1
    assert "first, second: did not pass" in capsys.readouterr().out
    assert program.main(["--device", "cpu", "--output", str(output), "--minutes", "0.05"]) == 1
    found = json.loads(output.read_text())["sections"]
    assert [section["status"] for section in found.values()] == ["left out", "left out"]


def test_forks_that_cannot_use_the_gpu_are_known():
    error = (
        "RuntimeError: Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, ..."
    )
    assert program.poisoned({"status": "failed", "rows": [{"what": "card", "error": error}]})
    assert program.poisoned({"status": "failed", "error": error, "rows": []})
    assert not program.poisoned({"status": "ok", "rows": [{"what": "card"}]})


def test_without_the_datasets_library_its_stages_are_left_out(tiny, monkeypatch):
    whole = [stage for stage, _, _ in stages.stages(tiny, tiny.work)]
    monkeypatch.setattr(stages, "has_datasets", lambda: False)
    assert [stage for stage, _, _ in stages.stages(tiny, tiny.work)] == [*whole[:14], "evaluation"]
    monkeypatch.setattr(stages, "stages", lambda *_: [])
    (row,) = stages.rows(tiny)
    assert "datasets" in row["not to be had"]


# ---- What is measured


def test_a_wrong_gradient_is_seen():
    """A method whose gradient is off by a thousandth in one tensor of a tenth of the whole, in float32
    alone."""

    def case(place, shape):
        generator = torch.Generator().manual_seed(0)
        gradients = {name: torch.randn(shape, generator=generator).double() for name in ("large", "small")}
        gradients["small"] *= 0.1
        if place.dtype == torch.float32:
            gradients["small"] = gradients["small"] * wrong
        return {"loss": torch.tensor(2.0)}, gradients

    wrong = 1.001
    found = agreement.compare(case, (20, 30), "cpu")
    assert found["gradient, cpu"] == pytest.approx(1e-3) and found["loss, cpu"] == 0 and not found["passed"]
    wrong = 1.0
    assert agreement.compare(case, (20, 30), "cpu")["passed"]


def test_attention_that_sees_padding_is_seen(tiny, monkeypatch):
    """The packed way finds what plain products do, and would not if it took all sequences for one."""
    monkeypatch.setattr(
        made_up,
        "TINY",
        {**made_up.BASE, "hidden_size": 192, "num_hidden_layers": 4, "intermediate_size": 384},
    )
    sequences = attention.Sequences(4, 32, True, "cpu")
    right = {row["attention"]: row for row in attention.compare(sequences, tiny)}
    assert right["packed"]["passed"] and right["packed"]["difference"] < 0.01
    sequences.lengths = [sum(sequences.lengths)]
    wrong = {row["attention"]: row for row in attention.compare(sequences, tiny)}
    assert not wrong["packed"]["passed"] and wrong["sdpa"]["passed"]


def test_flops_of_any_length(tiny):
    """The polynomial through three lengths is torch's own count at every other; a student's is counted as it
    is cropped."""
    case = made_up.case(tiny, batch_size=4, num_batches=2)
    model = models.load_model(case.teacher, **case.kinds)
    for each in (model, models.crop(model, 90)):
        polynomial = speed.forward_flops(each)
        for length in (5, 16, 40):
            assert polynomial(length) == pytest.approx(measuring.example_flops(each, length), rel=1e-9)
    lengths, once = np.array([5, 40]), speed.forward_flops(model)
    trained = speed.flops_of(case, speed.run_finetuning)
    assert trained(lengths, cached=False) == pytest.approx(3 * sum(once(length) for length in (5, 40)))
    student = speed.forward_flops(models.crop(model, 90))
    distilled = speed.flops_of(case, speed.run_distillation)
    assert distilled(lengths, cached=False) == pytest.approx(sum(once(lengths) + 3 * student(lengths)))
    assert distilled(lengths, cached=True) == pytest.approx(3 * sum(student(lengths)))


def test_utilisation_is_that_of_real_tokens(tiny):
    row = speed.trained("fine-tuning", dataclasses.replace(tiny, peak=1e12), speed.run_finetuning)
    assert row["MFU"] == pytest.approx(row["TFLOP/s"])
    assert row["tokens/s"] == pytest.approx(row["tokens a step"] / row["step ms"] * 1000, rel=0.01)


def test_real_rows_where_they_are(tiny, data_dir, encoder_dir):
    real = dataclasses.replace(tiny, data_dir=data_dir, encoder=encoder_dir)
    assert made_up.case(real, batch_size=4, num_batches=2).task.name == "mrpc"


@pytest.mark.parametrize(
    "card, peak",
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA L40S", 362e12),
        ("Tesla T4", None),
    ],
)
def test_peaks_of_cards(card, peak):
    assert settings.peak_of(card) == peak


def test_aims_are_of_a_gpu(tiny):
    on_gpu = dataclasses.replace(tiny, device="cuda")
    assert settings.aim(0.4, at_least=0.35, settings=on_gpu) == "at least 0.35: met"
    assert settings.aim(1.3, at_most=1.2, settings=on_gpu) == "at most 1.2: missed"
    assert (
        settings.aim(0.4, at_least=0.35, settings=tiny)
        == settings.aim(None, at_least=1, settings=on_gpu)
        == ""
    )
