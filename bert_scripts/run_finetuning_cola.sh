#!/usr/bin/env bash
# Fine-tune the teacher on CoLA.
#   SEED=1 bash bert_scripts/run_finetuning_cola.sh --learning_rate 5e-5     # any flag given by hand wins
set -euo pipefail
cd "$(dirname "$0")/.."
MODEL=${MODEL:-bert-base-uncased}          # a hub name or a folder
DATA_DIR=${DATA_DIR:-datasets}             # the parent of cola/
OUTPUT=${OUTPUT:-outputs/finetuning/cola}
${LAUNCH:-python} run_finetuning.py --task_name cola --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --per_device_train_batch_size 16 --learning_rate 3e-5 --num_train_epochs 10 --eval_interval 0 --seed "${SEED:-776}" "$@"
