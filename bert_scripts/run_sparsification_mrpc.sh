#!/usr/bin/env bash
# Sort the heads and neurons of the MRPC teacher by importance and write its grid of sparsities; nothing is trained.
#   bash bert_scripts/run_sparsification_mrpc.sh --scoring_split dev          # after run_finetuning_mrpc.sh
set -euo pipefail
cd "$(dirname "$0")/.."
MODEL=${MODEL:-outputs/finetuning/mrpc}     # the run folder of the fine-tuned teacher
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/sparsification/mrpc}
${LAUNCH:-python} run_sparsification.py --task_name mrpc --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --scoring_batch_size 32 --seed "${SEED:-776}" "$@"
