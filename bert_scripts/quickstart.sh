#!/usr/bin/env bash
# The whole job, end to end: fine-tune -> sparsify -> direct 90S student -> MiniDisc 90S student -> a table and pictures.
#   bash bert_scripts/quickstart.sh                                             # generated data, a small BERT from random weights
#   TASK=mrpc MODEL=bert-base-uncased DATA_DIR=datasets bash bert_scripts/quickstart.sh      # a real task, hours on a CPU
# On its own data the scores mean nothing beyond themselves: it shows that everything works, and what the files look like.
# Started again after an interruption it continues; finished stages return at once. OVERWRITE=1 starts afresh.
set -euo pipefail
cd "$(dirname "$0")/.."
source bert_scripts/setup.sh requirements.txt
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-3000} # threads that wait for each other soon let other processes run (GUIDE.md)
TASK=${TASK:-demo}
DATA_DIR=${DATA_DIR:-datasets}
OUTPUT=${OUTPUT:-outputs/quickstart/$TASK}
SEED=${SEED:-776}
LAUNCH=${LAUNCH:-python}
common=(--task_name "$TASK" --data_dir "$DATA_DIR" --seed "$SEED" ${OVERWRITE:+--overwrite})
train=(--per_device_train_batch_size 16 --learning_rate 3e-5)
tune=("${train[@]}" --model_path "${MODEL:-bert-base-uncased}")
distil=("${train[@]}" --cache_teacher)
if [ "$TASK" = demo ] && [ -z "${MODEL:-}" ]; then # settings for a model that has learnt nothing yet
    tune=(--model_path scratch --per_device_train_batch_size 32 --learning_rate 5e-4 --num_train_epochs 8)
    distil=(--per_device_train_batch_size 32 --learning_rate 5e-4 --num_train_epochs 6 --cache_teacher)
fi
run() { # $LAUNCH script flags; the settings are shown as they are run
    echo "+ $LAUNCH $*" >&2
    $LAUNCH "$@"
}
run run_finetuning.py "${common[@]}" "${tune[@]}" --output_dir "$OUTPUT/teacher"
run run_sparsification.py "${common[@]}" --model_path "$OUTPUT/teacher" --output_dir "$OUTPUT/nested"
run run_distillation.py "${common[@]}" "${distil[@]}" --teacher_model_path "$OUTPUT/nested" --layer_or_sparsity 90S --output_dir "$OUTPUT/direct_90S"
run run_minidisc.py "${common[@]}" "${distil[@]}" --teacher_model_path "$OUTPUT/nested" --target_sparsity 90 --output_dir "$OUTPUT/minidisc_90S"
students=("$OUTPUT/direct_90S" "$OUTPUT/minidisc_90S")
for assistant in "$OUTPUT"/minidisc_90S/assistant_*; do
    if [ -d "$assistant" ]; then students+=("$assistant"); fi
done
run run_evaluation.py "${common[@]}" --overwrite --output_dir "$OUTPUT/table" \
    --teacher_model_path "$OUTPUT/teacher" --model_path "${students[@]}"
echo "table: $OUTPUT/table/table.csv   pictures: $OUTPUT/table/costs.png $OUTPUT/nested/curve.png $(ls "$OUTPUT"/minidisc_90S/tradeoff_*.png 2>/dev/null | tr '\n' ' ')"
