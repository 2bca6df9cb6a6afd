#!/usr/bin/env bash
# SST-2, stage I of TED: a filter on every layer of the frozen teacher (SIZE=base) or student (SIZE=xsmall).
#   SIZE=xsmall bash deberta_scripts/run_learn_filters_sst2.sh       # after run_finetuning_sst2.sh with the same SIZE
# expect  not measured
# time    not measured
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
MODEL=${MODEL:-outputs/deberta/sst2/$SIZE}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/sst2/${SIZE}_filters}
if [ "$SIZE" = base ]; then rate=2e-5; else rate=4e-5; fi
${LAUNCH:-python} run_ted.py --mode filters --task_name sst2 --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --filter_interval 1 --filter_output_dim 768 --cache_teacher --max_length 256 \
    --per_device_train_batch_size 32 --learning_rate "$rate" --warmup_proportion 0 \
    --num_train_epochs 6 --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
