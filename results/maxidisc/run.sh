#!/usr/bin/env bash
# MaxiDisc over every one-assistant path to 90% on MRPC, beside MiniDisc with the same settings: scores and cost of each.
#   bash results/maxidisc/run.sh                      # after results/minidisc/run.sh mrpc; about an hour on one CPU core
#   python results/maxidisc/table.py                  # the table, from the results.json files kept here
set -euo pipefail
cd "$(dirname "$0")/../.."
DATA_DIR=${DATA_DIR:-../shared/datasets}
TEACHER=${TEACHER:-outputs/results/minidisc/mrpc/nested}
OUTPUT=${OUTPUT:-outputs/results/maxidisc/mrpc}
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
distil=(--task_name mrpc --data_dir "$DATA_DIR" --precision bf16 --log_interval 100 --teacher_model_path "$TEACHER" --cache_teacher
    --learning_rate 6e-4 --per_device_train_batch_size 32 --num_train_epochs 1)
timed() { # CPU seconds of a command, user and system, into a file: what it costs, however busy the machine is
    local TIMEFORMAT="%U %S"
    { time "${@:2}" 2>&3; } 3>&2 2>"$1"
}
mkdir -p results/maxidisc/mrpc
for smallest in 70 50; do
    timed results/maxidisc/mrpc/minidisc_from_$smallest.seconds python run_minidisc.py "${distil[@]}" --target_sparsity 90 \
        --trunc_sparsity $smallest --output_dir "$OUTPUT/minidisc_from_$smallest"
done
timed results/maxidisc/mrpc/maxidisc.seconds python run_maxidisc.py "${distil[@]}" --all_paths --target 90S --trunc_sparsity 0 \
    --output_dir "$OUTPUT/maxidisc"
for folder in "$OUTPUT"/{minidisc_from_70,minidisc_from_50,maxidisc}; do
    kept="results/maxidisc/mrpc/$(basename "$folder")"
    mkdir -p "$kept"
    cp "$folder"/{args.json,log.txt,results.json,metrics.jsonl} "$folder"/*.png "$kept/"
done
