#!/usr/bin/env bash
# QNLI, stage I of TED: a filter on every layer of the frozen teacher (SIZE=base) or student (SIZE=xsmall).
#   SIZE=xsmall bash deberta_scripts/run_learn_filters_qnli.sh       # after run_finetuning_qnli.sh with the same SIZE
# expect  not measured
# time    not measured; 500 updates of warm-up on GLUE's whole train
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
MODEL=${MODEL:-outputs/deberta/qnli/$SIZE}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/qnli/${SIZE}_filters}
if [ "$SIZE" = base ]; then rate=1e-5 warmup=0.0509; else rate=5e-5 warmup=0.0509; fi
${LAUNCH:-python} run_ted.py --mode filters --task_name qnli --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --filter_interval 1 --filter_output_dim 768 --cache_teacher --max_length 256 \
    --per_device_train_batch_size 32 --learning_rate "$rate" --warmup_proportion "$warmup" \
    --num_train_epochs 3 --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
