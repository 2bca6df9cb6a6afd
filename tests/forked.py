"""A script run in a process that was forked from one with the libraries already imported: a start costs
milliseconds.

Imported by the fork server of commands.py, with IMPORTED: no script has to wait for these.
"""

import os
import runpy
import sys

IMPORTED = [
    "scipy.stats",
    "sklearn.metrics",
    "safetensors.torch",
    "torch.distributed",
    "matplotlib.pyplot",
    "transformers.models.bert.modeling_bert",
    "transformers.models.auto.tokenization_auto",
    "datasets",
    "data.corpus",
    "data.own_tasks",
    "data.task_data",
    "models",
    "models.exporting",
    "models.measuring",
    "models.once_for_all",
    "models.relation_distillation",
    "modules.importance",
    "utils.plots",
    "utils.report",
    "utils.runs",
    "warmed",
]


def script(path, words, environment, folder, out, err, before=None):
    """Run a script as `python path words...` would, in a folder, with its output in two files.

    before: (function, arguments): called in the process, just before the script.
    """
    sys.stdin = open(os.devnull)
    for descriptor, name in ((1, out), (2, err)):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv, sys.path[0] = [path, *words], os.path.dirname(path)
    if before is not None:
        function, arguments = before
        function(*arguments)
    runpy.run_path(path, run_name="__main__")
