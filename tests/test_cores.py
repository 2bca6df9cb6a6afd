"""How many worker processes a corpus is built by, on systems that do not say which cores a process may
use."""

import os

import pytest

import run_corpus
from utils import cores


@pytest.mark.parametrize("absent", [[], ["process_cpu_count"], ["process_cpu_count", "sched_getaffinity"]])
def test_cores_on_every_system(monkeypatch, absent):
    for name in absent:
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    found = run_corpus.parse(["--input", "a.txt", "--sentences_only"]).num_workers
    assert found == cores.usable() and (found == 96) == (not hasattr(os, "sched_getaffinity"))


def test_cores_that_this_process_may_not_use_do_not_count(monkeypatch):
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system has no affinity")
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 3, 5})
    assert cores.usable() == 3
