#!/usr/bin/env bash
# TED on MRPC, stage I: filters of the frozen teacher (SIDE=teacher) or student (SIDE=student).
#   SIDE=student bash bert_scripts/run_ted_filters_mrpc.sh                    # after run_finetuning_mrpc.sh, run_ted_ft_mrpc.sh
set -euo pipefail
cd "$(dirname "$0")/.."
SIDE=${SIDE:-teacher}
if [ "$SIDE" = teacher ]; then model=outputs/finetuning/mrpc interval=2; else model=outputs/ted/mrpc_ft interval=1; fi # 12 layers to 6
MODEL=${MODEL:-$model}
INTERVAL=${INTERVAL:-$interval}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/ted/mrpc_filters_$SIDE}
${LAUNCH:-python} run_ted.py --mode filters --task_name mrpc --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --filter_interval "$INTERVAL" --cache_teacher \
    --per_device_train_batch_size 16 --learning_rate 3e-5 --num_train_epochs 10 --seed "${SEED:-776}" "$@"
