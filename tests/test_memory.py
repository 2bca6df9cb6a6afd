"""Memory: what is there, and flags that ask for more than that."""

import pytest
from commands import outcome, run, scarce_memory

from utils import memory
from utils.errors import RunError

MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    800 kB\n"


def group(folder, names, values, stat):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, values):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(stat)


@pytest.mark.parametrize(
    "number, own, parent, wanted",
    [
        (2, ("max", 300), ("max", 0), 800 * 1024),  # no limit but the machine's
        (2, (5000, 4000), ("max", 0), 1000 + 70),  # what the system can give up counts as free
        (2, (5000, 4000), (4500, 4400), 100 + 70),  # the group above has less
        (2, (5000, 6000), ("max", 0), 0),
        (1, (5000, 4000), (9223372036854771712, 0), 1000 + 70),
        (1, ("what", 4000), (9223372036854771712, 0), 800 * 1024),
    ],
)
def test_what_is_available(number, own, parent, wanted, tmp_path):
    version_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    names = ("memory.max", "memory.current") if number == 2 else version_1
    mount = tmp_path / "cgroup"
    root = mount if number == 2 else mount / "memory"
    stat = "file 99\ninactive_file 70\ntotal_inactive_file 70\n"
    group(root, names, parent, stat)
    group(root / "jobs/one", names, own, stat)
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "self").write_text("0::/jobs/one\n" if number == 2 else "4:cpu,memory:/jobs/one\n3:pids:/x\n")
    where = {"meminfo": tmp_path / "meminfo", "of_process": tmp_path / "self", "mount": mount}
    assert memory.available(**where) == wanted
    assert memory.available(**{**where, "mount": tmp_path / "none"}) == 800 * 1024


def test_this_machine():
    """Linux tells; what no machine has is refused, with both sizes."""
    free = memory.available()
    assert free is None or free > 2**20
    if free is not None:
        with pytest.raises(RunError, match=r"^they need 1024.0 GiB; only .* are free; have less$"):
            memory.require(2**40, what="they", advice="have less")
    memory.require(1000, what="it", advice="have less")


def test_outputs_that_do_not_fit(tuned_demo, small_demo, tmp_path):
    """One message with the size, before the outputs are kept; with a few bytes more they are."""
    flags = [
        *f"--task_name demo --data_dir {small_demo} --use_cpu --teacher_model_path {tuned_demo}".split(),
        *f"--max_steps 1 --layer_or_sparsity 1L --cache_teacher --output_dir {tmp_path / 'run'}".split(),
    ]
    codes, text = outcome("run_distillation.py", *flags, before=[(scarce_memory, (1000,))])
    assert codes == [2] and "Traceback" not in text
    message = text.partition("error: ")[2]
    assert "--cache_teacher: the outputs of" in message and "0.0 MiB of memory are free" in message
    assert "leave --cache_teacher out" in message
    run("run_distillation.py", *flags)
