#!/usr/bin/env bash
# RTE, stage I of TED: a filter on every layer of the frozen teacher (SIZE=base) or student (SIZE=xsmall).
#   SIZE=xsmall bash deberta_scripts/run_learn_filters_rte.sh       # after run_finetuning_rte.sh with the same SIZE
# expect  not measured
# time    not measured
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
MODEL=${MODEL:-outputs/deberta/rte/$SIZE}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/rte/${SIZE}_filters}
if [ "$SIZE" = base ]; then rate=3e-5 size=16; else rate=6e-5 size=32; fi
${LAUNCH:-python} run_ted.py --mode filters --task_name rte --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --filter_interval 1 --filter_output_dim 768 --cache_teacher --max_length 256 \
    --per_device_train_batch_size "$size" --learning_rate "$rate" --warmup_proportion 0 \
    --num_train_epochs 6 --weight_decay 0 --max_grad_norm 1 --cls_dropout 0 --seed "${SEED:-42}" "$@"
