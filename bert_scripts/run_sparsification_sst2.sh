#!/usr/bin/env bash
# Sort the heads and neurons of the SST-2 teacher by importance and write its grid of sparsities; nothing is trained.
#   bash bert_scripts/run_sparsification_sst2.sh --scoring_split dev          # after run_finetuning_sst2.sh
set -euo pipefail
cd "$(dirname "$0")/.."
MODEL=${MODEL:-outputs/finetuning/sst2}     # the run folder of the fine-tuned teacher
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/sparsification/sst2}
${LAUNCH:-python} run_sparsification.py --task_name sst2 --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --scoring_batch_size 32 --seed "${SEED:-776}" "$@"
