#!/usr/bin/env bash
# MRPC, stage I of TED: a filter on every layer of the frozen teacher (SIZE=base) or student (SIZE=xsmall).
#   SIZE=xsmall bash deberta_scripts/run_learn_filters_mrpc.sh       # after run_finetuning_mrpc.sh with the same SIZE
# expect  not measured
# time    not measured
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
MODEL=${MODEL:-outputs/deberta/mrpc/$SIZE}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/mrpc/${SIZE}_filters}
if [ "$SIZE" = base ]; then rate=3e-5; else rate=7e-5; fi
${LAUNCH:-python} run_ted.py --mode filters --task_name mrpc --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --filter_interval 1 --filter_output_dim 768 --cache_teacher --max_length 256 --selection_metric f1 \
    --per_device_train_batch_size 32 --learning_rate "$rate" --warmup_proportion 0 \
    --num_train_epochs 6 --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
