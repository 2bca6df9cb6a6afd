#!/usr/bin/env bash
# SQuAD 2.0, stage I of TED: a filter on every layer of the frozen teacher (SIZE=base) or student (SIZE=xsmall).
#   SIZE=xsmall bash deberta_scripts/run_learn_filters_squad2.sh       # after run_finetuning_squad2.sh with the same SIZE
# expect  not measured
# time    not measured; published about 40 minutes each on a V100
set -euo pipefail
cd "$(dirname "$0")/.."
SIZE=${SIZE:-base}
MODEL=${MODEL:-outputs/deberta/squad2/$SIZE}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/deberta/squad2/${SIZE}_filters}
if [ "$SIZE" = base ]; then rate=3e-5 size=24 accumulate=2; else rate=5e-5 size=8 accumulate=1; fi
${LAUNCH:-python} run_ted.py --mode filters --task_name squad2 --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --filter_interval 1 --filter_output_dim 768 --max_length 384 --doc_stride 128 \
    --per_device_train_batch_size "$size" --num_grad_accum_steps "$accumulate" --learning_rate "$rate" --warmup_proportion 0 \
    --num_train_epochs 3 --weight_decay 0 --max_grad_norm 1 --seed "${SEED:-42}" "$@"
