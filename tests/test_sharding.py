"""Models that are shared out (--shard): what two processes check together, and what is refused by name.

That scripts do the same with it as without is in test_distributed.py.
"""

import pytest
import sharding_driver
from commands import checked_processes, run


def test_shared_out_models(tmp_path):
    """Two families with a position bias for all layers, one with fused projections, two plain ones."""
    checked_processes(sharding_driver.main, 2 * [(tmp_path,)], tmp_path, joined=True)


TASK, CORPUS = "--task_name demo", "--corpus {nested} --teacher_model_path {nested}"


@pytest.mark.parametrize(
    "script, flags, processes, said",
    [
        ("run_finetuning.py", f"{TASK} --compile --precision fp16", 2, ["--compile", "fp16"]),
        ("run_finetuning.py", TASK, 1, ["torchrun"]),
        ("run_minimoe.py", f"{CORPUS} --moe 1,2", 2, ["not supported by minimoe"]),
        ("run_minilmv2.py", f"{CORPUS} --ofa_hidden 32", 2, ["once-for-all students"]),
    ],
)
def test_refused(script, flags, processes, said, nested_demo):
    words = ["--shard", "--use_cpu", *flags.format(nested=nested_demo).split()]
    done = run(script, *words, processes=processes, code=2)
    assert all(f"--shard: {word}" in done.stderr or word in done.stderr for word in said), done.stderr
    assert "Traceback" not in done.stderr
