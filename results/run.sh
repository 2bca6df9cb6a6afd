#!/usr/bin/env bash
# Run or continue the experiments of results/README.md: the list with its state, or a study, a block or a job of it.
#   bash results/run.sh                               # the list; what is finished, what is not
#   bash results/run.sh B1 --until 110                # a block, in pieces of less than two hours: the next call continues
#   bash results/run.sh A1 --predict                  # 50 updates of each kind of job: the hours that the block will take
#   bash results/run.sh B1 --processes 8             # several at a time, on a GPU or many cores
#   bash results/run.sh all; python -m results.tables # everything; the tables and verdicts
# MODEL, BASE_MODEL, DATA_DIR, OUTPUT (weights), RECORDS (what is kept), PRECISION, OMP_NUM_THREADS as in results/runner.py
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 MPLBACKEND=agg
exec "${PYTHON:-python}" -m results "$@"
