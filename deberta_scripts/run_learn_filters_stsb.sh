#!/usr/bin/env bash
# STS-B, stage I of TED: a filter on every layer of the frozen teacher (SIZE=base) or student (SIZE=xsmall).
#   SIZE=xsmall bash deberta_scripts/run_learn_filters_stsb.sh       # after run_finetuning_stsb.sh with the same SIZE
# expect  not measured
# time    not measured; 100 updates of warm-up on GLUE's whole train
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
MODEL=${MODEL:-outputs/deberta/stsb/$SIZE}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/stsb/${SIZE}_filters}
if [ "$SIZE" = base ]; then rate=2e-5 warmup=0.0463; else rate=1e-4 warmup=0.0463; fi
${LAUNCH:-python} run_ted.py --mode filters --task_name stsb --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --filter_interval 1 --filter_output_dim 768 --cache_teacher --max_length 128 --selection_metric spearman \
    --per_device_train_batch_size 16 --learning_rate "$rate" --warmup_proportion "$warmup" \
    --num_train_epochs 6 --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
