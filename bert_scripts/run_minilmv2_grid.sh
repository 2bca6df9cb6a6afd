#!/usr/bin/env bash
# Fine-tune a distilled encoder on GLUE: epochs x rates with the first seed, then the best setting with every seed; a table.
#   STUDENT=outputs/minilmv2/6L_384 TASKS="mrpc rte" bash bert_scripts/run_minilmv2_grid.sh      # runs that are done stay
# grid, batch, warm-up, decay and length: bloomberg/minilmv2.bb, which reports the best of the 15 runs; so both are printed here
set -euo pipefail
cd "$(dirname "$0")/.."
STUDENT=${STUDENT:-outputs/minilmv2/6L_384}
DATA_DIR=${DATA_DIR:-datasets}             # the parent of mrpc/, rte/, ...
OUTPUT=${OUTPUT:-outputs/grid/$(basename "$STUDENT")}
TASKS=${TASKS:-qnli qqp rte sst2 mnli}
EPOCHS=${EPOCHS:-3 5 10}
RATES=${RATES:-1e-5 1.5e-5 2e-5 3e-5 4e-5}
SEEDS=${SEEDS:-42 43 44}
tune() { # task epochs rate seed
    ${LAUNCH:-python} run_finetuning.py --task_name "$1" --data_dir "$DATA_DIR" --model_path "$STUDENT" --num_train_epochs "$2" \
        --learning_rate "$3" --seed "$4" --output_dir "$OUTPUT/$1/$2_epochs_$3_seed_$4" --per_device_train_batch_size 32 \
        --max_length 128 --warmup_proportion 0.1 --weight_decay 0.01 "${@:5}"
}
for task in $TASKS; do
    for epochs in $EPOCHS; do
        for rate in $RATES; do
            tune "$task" "$epochs" "$rate" "${SEEDS%% *}" "$@"
        done
    done
    read -r epochs rate < <(python bert_scripts/grid.py pick "$OUTPUT/$task" "${SEEDS%% *}")
    for seed in $SEEDS; do
        tune "$task" "$epochs" "$rate" "$seed" "$@"
    done
done
python bert_scripts/grid.py table "$OUTPUT" | tee "$OUTPUT/table.md"
