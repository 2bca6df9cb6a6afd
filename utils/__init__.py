"""What every stage shares and no method owns.  Nothing here imports data, models or modules.

The command line:
flags/: parser, shared groups, one file for each family of scripts.
errors: what a user can cause.
environment: whether the libraries are there.
printable: what strangers wrote, without what moves a terminal's cursor.

Known without torch:
families: the one table of encoder families.
config_values: whether a config.json says what is read from it.
checkpoints: where a checkpoint is, what its config says.
filter_specs: what TED's filters are like.
student_sizes: of a hop of relation distillation, of a part of a once-for-all student.

A run:
runs: how every script begins and ends.  run: one run and what it keeps.
next_steps: what usually comes after a stage.
run_folder, run_lock, locks: a run folder on the disk, its marker and lock.
provenance: what a run is made from, and what of it has changed.
files: files that are whole or absent.
snapshots: what a killed run continues from.
interruptions: all processes stop at the same place.
distributed: processes.
logs: the log and metrics.jsonl.
cards, card_snippets: what a model card says, and the lines of Python in it.

Training and evaluation:
batch: one mini-batch.
training: the loop; when a state is saved.  updates: its settings, learning rate, optimiser, micro-batches.
plan: what it takes of memory and disk, for dry runs.
window: what the next logged row sums up.
evaluation: a model over a split.
frozen_outputs: a frozen model's outputs, kept or computed anew.  kept_on_disk: what is kept there of them.
metrics, answers: scores.
bootstrap: of differences.
chance: beside an answer that never changes.

Cost and reports:
cost: parameters, products, latency, memory.
timing: what is timed.
cores, memory, allocator: the processor's cores, the memory that is there, the C library's.
plots: pictures.
styles: what all of them have in common, and a report's.
evaluation_tables: of run_evaluation.py.
report/: a page about all runs.
"""
