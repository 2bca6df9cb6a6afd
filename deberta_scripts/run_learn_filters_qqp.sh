#!/usr/bin/env bash
# QQP, stage I of TED: a filter on every layer of the frozen teacher (SIZE=base) or student (SIZE=xsmall).
#   SIZE=xsmall bash deberta_scripts/run_learn_filters_qqp.sh       # after run_finetuning_qqp.sh with the same SIZE
# expect  not measured
# time    not measured; 5,000 updates of warm-up on GLUE's whole train
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
MODEL=${MODEL:-outputs/deberta/qqp/$SIZE}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/qqp/${SIZE}_filters}
if [ "$SIZE" = base ]; then rate=2e-5 warmup=0.1099; else rate=6e-5 warmup=0.1099; fi
${LAUNCH:-python} run_ted.py --mode filters --task_name qqp --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --filter_interval 1 --filter_output_dim 768 --cache_teacher --max_length 256 --selection_metric f1 \
    --per_device_train_batch_size 64 --learning_rate "$rate" --warmup_proportion "$warmup" \
    --num_train_epochs 8 --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
