"""What every stage shares and no method owns.  Nothing here imports data, models or modules.

The command line
    flags/: parser, shared groups, one file for each family of scripts.  errors: what a user can cause.
What is known without torch
    families: the table of encoder families.  checkpoints: where one is, what its config says.  filter_specs:
    what TED's filters are like.  hops: sizes of relation distillations.
A run
    runs: run folders, how every script begins and ends.  files: whole or absent.  logs: the log and
    metrics.jsonl.  snapshots: what a killed run continues from.  cards: model cards.  distributed: processes.
    interruptions: they stop together.
Training and evaluation
    batch: one mini-batch.  training: the loop.  evaluation: a model over a split.  frozen_outputs: a
    teacher's, kept or not. metrics, answers: scores.  bootstrap: of differences.  chance: beside an answer
    that never changes.
Cost
    cost: parameters, products, latency.  timing: what is timed.  cores, allocator: the processor and the C
library's memory. Reports
    plots: pictures.  evaluation_tables: of run_evaluation.py.  report/: a page about all runs.
"""
