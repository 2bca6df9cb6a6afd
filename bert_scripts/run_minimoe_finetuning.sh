#!/usr/bin/env bash
# Fine-tune a general encoder on a task. With experts the balance loss keeps its weight of 0.01.
#   TASK=conll bash bert_scripts/run_minimoe_finetuning.sh --load_balance_weight 0          # after one of run_minimoe_*.sh
# settings: ours; what the paper did is not known
set -euo pipefail
cd "$(dirname "$0")/.."
TASK=${TASK:-sst2}                         # of GLUE, or conll
MODEL=${MODEL:-outputs/minimoe/3L_384_1-4} # the run folder of a student, with experts or without
DATA_DIR=${DATA_DIR:-datasets}             # the parent of <task>/
OUTPUT=${OUTPUT:-outputs/finetuning/$(basename "$MODEL")_$TASK}
${LAUNCH:-python} run_finetuning.py --task_name "$TASK" --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --per_device_train_batch_size 32 --learning_rate 5e-5 --num_train_epochs 5 --seed "${SEED:-776}" "$@"
