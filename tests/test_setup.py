"""The environment that scripts run in: an active one is not changed, else .venv is made; ranges and tested
versions agree."""

import os
import re
import subprocess
import sys
import zipfile

import conftest
import pytest
from commands import ROOT

from bert_scripts import missing

FILES = sorted(ROOT.glob("requirements*.txt"))


@pytest.mark.parametrize(
    "found, spec, fitting",
    [
        (None, "", False),
        ("0.1", "", True),
        ("2.13.0+cpu", ">=2.11", True),
        ("2.9.1", ">=2.11", False),
        ("2.11.0a0+git12ab", ">=2.11", True),
        ("5.23.0", ">=5.17,<6", True),
        ("6.0.0.dev0", ">=5.17,<6", False),
        ("6", ">=5.17,<6", False),
        ("2", "==2.0.0", True),
        ("0.17.6", "==0.17.5", False),
    ],
)
def test_versions(found, spec, fitting):
    assert missing.fits(found, spec) == fitting


def test_every_requirement_has_a_tested_version():
    """constraints.txt pins what the requirements files list, inside their ranges, and nothing else."""
    wanted = dict(line for file in FILES for line in missing.requirements(file))
    tested = dict(missing.requirements(ROOT / "constraints.txt"))
    exact = {name: spec for name, spec in wanted.items() if spec.startswith("==")}
    assert {*tested} == {*wanted} - {*exact} and all(spec.startswith("==") for spec in tested.values())
    assert all(
        missing.fits(tested[name].removeprefix("=="), spec) for name, spec in wanted.items() if name in tested
    )


def sourced(folder, **environment):
    """setup.sh in a folder of its own, in a shell that says which python it then has."""
    (folder / "bert_scripts").mkdir(exist_ok=True)
    for name in ("setup.sh", "missing.py"):
        (folder / "bert_scripts" / name).write_text((ROOT / "bert_scripts" / name).read_text())
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHON")
    }
    command = [
        "bash",
        "-c",
        "set -euo pipefail; source bert_scripts/setup.sh requirements.txt; command -v python",
    ]
    return subprocess.run(
        command, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def active():
    """The variables of a shell in which this Python's environment is active."""
    programs = os.path.dirname(sys.executable)
    return {"VIRTUAL_ENV": sys.prefix, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


def test_an_active_environment_is_not_changed(active, tmp_path):
    """What is missing or too old is listed with the command, which names nothing else, and the script
    stops."""
    (tmp_path / "base.txt").write_text("pytest >= 7, < 999  # there\nhypothesis>=999\n")
    (tmp_path / "requirements.txt").write_text("-r base.txt\nno-such-thing\n")
    done = sourced(tmp_path, **active)
    assert done.returncode == 2 and done.stdout == "" and not (tmp_path / ".venv").exists()
    assert re.search(r"hypothesis +found 6\.\S+, expected >=999", done.stderr), done.stderr
    assert re.search(r"no-such-thing +found none, expected any", done.stderr)
    assert (
        "python -m pip install 'hypothesis>=999' no-such-thing\n" in done.stderr
        and "pytest" not in done.stderr
    )


def test_an_active_environment_that_has_everything(active, tmp_path):
    (tmp_path / "requirements.txt").write_text("pytest>=7\n")
    done = sourced(tmp_path, **active)
    assert (
        done.returncode == 0
        and done.stderr == ""
        and done.stdout.strip() == f"{os.path.dirname(sys.executable)}/python"
    )


def wheel(folder, version):
    """A package without content."""
    with zipfile.ZipFile(folder / f"thing-{version}-py3-none-any.whl", "w") as file:
        about = f"thing-{version}.dist-info"
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\n")
        file.writestr(
            f"{about}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        file.writestr(f"{about}/RECORD", f"{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")


def test_an_environment_is_made_with_tested_versions(tmp_path):
    """Also where an earlier attempt was broken off; the second time nothing is installed; then what has come
    to be needed, also where it is the active one."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    for version in ("1.5", "2.0"):
        wheel(tmp_path, version)
    (tmp_path / "requirements.txt").write_text("thing>=1\n")
    (tmp_path / "constraints.txt").write_text("thing==1.5\nother==1\n")
    options = {"PYTHON": sys.executable, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    done = sourced(tmp_path, **options)
    assert done.returncode == 0 and "Successfully installed thing-1.5" in done.stderr
    assert done.stdout.strip() == str(tmp_path / ".venv" / "bin" / "python")
    done = sourced(tmp_path, **options)
    assert done.returncode == 0 and done.stderr == ""
    (tmp_path / "requirements.txt").write_text("thing>=2\n")
    (tmp_path / "constraints.txt").write_text("thing==2.0\n")
    done = sourced(tmp_path, **options, VIRTUAL_ENV=str(tmp_path / ".venv"))
    assert done.returncode == 0 and "Successfully installed thing-2.0" in done.stderr


def test_an_old_python_is_refused(tmp_path):
    old = tmp_path / "old"
    old.write_text('#!/usr/bin/env bash\n[ "$1" = --version ] && echo Python 3.9.1 || exit 1\n')
    old.chmod(0o755)
    done = sourced(tmp_path, PYTHON=str(old))
    assert (
        done.returncode == 2
        and "3.11 or newer is needed, found Python 3.9.1" in done.stderr
        and "set PYTHON" in done.stderr
    )
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    "arguments, num_cores, free, number",
    [
        (["tests"], 2, None, 2),
        (["tests"], 16, 2**40, 4),
        (["tests"], 4, 7 * 2**30, 3),
        (["tests"], 4, 3 * 2**30, 0),
        (["tests"], 1, None, 0),
        (["tests/test_a.py", "tests"], 2, None, 2),
        (["tests/test_a.py", "tests/test_b.py"], 4, None, 2),
        (["tests/test_a.py::test_one", "tests/test_a.py::test_two"], 4, None, 0),
    ],
)
def test_processes_that_share_the_tests(arguments, num_cores, free, number):
    assert conftest.num_workers(arguments, num_cores=num_cores, free=free) == number


def test_a_python_without_the_libraries():
    """One message that names it; nothing is imported before."""
    command = [sys.executable, "-S", "run_sparsification.py", "--help"]  # -S: no installed packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"error: {sys.executable}: this Python has no torch and no transformers; ")


@pytest.mark.parametrize("name, said", [("torch", "2.11"), ("transformers", "5.17")])
def test_libraries_that_are_too_old(name, said, tmp_path):
    """Named with the version that requirements.txt asks for, before the imports fail on it."""
    assert f"\n{name}>={said}" in (ROOT / "requirements.txt").read_text()
    (tmp_path / f"{name}-2.10.3.dist-info").mkdir()
    (tmp_path / f"{name}-2.10.3.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 2.10.3+cpu\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "run_sparsification.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"error: {sys.executable}: this Python has no {name} from {said} on; ")


def test_a_start_that_libraries_do_not_take(tmp_path):
    """In a folder that is gone MKL cannot be loaded; without docstrings transformers cannot."""
    script = ROOT / "run_sparsification.py"
    (tmp_path / "gone").mkdir()
    gone = ["sh", "-c", f"rmdir ../gone; exec '{sys.executable}' '{script}' --help"]
    for command, said in (
        (gone, "error: the folder that this was started in is no longer there"),
        ([sys.executable, "-OO", str(script), "--help"], "error: python -OO"),
    ):
        cwd = tmp_path / "gone" if (tmp_path / "gone").exists() else tmp_path
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and done.stderr.startswith(said) and done.stderr.count("\n") == 1
