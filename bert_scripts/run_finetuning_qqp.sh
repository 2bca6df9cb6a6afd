#!/usr/bin/env bash
# Fine-tune the teacher on QQP.
#   SEED=1 bash bert_scripts/run_finetuning_qqp.sh --learning_rate 5e-5     # any flag given by hand wins
set -euo pipefail
cd "$(dirname "$0")/.."
MODEL=${MODEL:-bert-base-uncased}          # a hub name or a folder
DATA_DIR=${DATA_DIR:-datasets}             # the parent of qqp/
OUTPUT=${OUTPUT:-outputs/finetuning/qqp}
${LAUNCH:-python} run_finetuning.py --task_name qqp --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 10 --eval_interval 3000 --seed "${SEED:-776}" "$@"
