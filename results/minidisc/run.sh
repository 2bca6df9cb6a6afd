#!/usr/bin/env bash
# The runs behind the README's table: teacher, nested teacher, direct and MiniDisc students at 90% and 95% sparsity.
#   bash results/minidisc/run.sh mrpc stsb sst2       # MODEL and DATA_DIR as below; about an hour on two CPU cores
#   SPARSITIES=90 bash results/minidisc/run.sh conll
#   python results/minidisc/table.py                  # the table, from the results.json files kept here
set -euo pipefail
cd "$(dirname "$0")/../.."
MODEL=${MODEL:-../shared/models/all-MiniLM-L6-v2}     # 6 layers, 384 wide, 22M parameters
DATA_DIR=${DATA_DIR:-../shared/datasets}
OUTPUT=${OUTPUT:-outputs/results/minidisc}
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
for task in "$@"; do
    base=(--task_name "$task" --data_dir "$DATA_DIR" --precision bf16)
    size=16 rate=5e-5 epochs=4 student_epochs=4
    if [ "$task" = stsb ]; then student_epochs=3; fi
    if [ "$task" = sst2 ]; then size=32 epochs=2 student_epochs=2; fi # 20,000 rows, short sentences
    if [ "$task" = conll ]; then rate=1e-4 epochs=2 student_epochs=3; fi
    train=(--max_train_samples 20000 --log_interval 100)
    run="$OUTPUT/$task"
    python run_finetuning.py "${base[@]}" "${train[@]}" --model_path "$MODEL" --output_dir "$run/teacher" \
        --per_device_train_batch_size $size --learning_rate $rate --num_train_epochs $epochs
    python run_sparsification.py "${base[@]}" --model_path "$run/teacher" --output_dir "$run/nested" --num_scoring_samples 4000
    distil=(--teacher_model_path "$run/nested" --learning_rate ${RATE:-6e-4} --num_train_epochs $student_epochs --cache_teacher
        --per_device_train_batch_size 32)
    for sparsity in ${SPARSITIES:-90 95}; do
        python run_distillation.py "${base[@]}" "${train[@]}" "${distil[@]}" --output_dir "$run/direct_${sparsity}S" \
            --layer_or_sparsity ${sparsity}S
        python run_minidisc.py "${base[@]}" "${train[@]}" "${distil[@]}" --output_dir "$run/minidisc_${sparsity}S" \
            --target_sparsity $sparsity --trunc_sparsity 70
    done
    for folder in "$run"/*/; do # what is kept beside this script: everything but weights
        kept="results/minidisc/$task/$(basename "$folder")"
        mkdir -p "$kept"
        cp "$folder"/{args.json,log.txt,results.json} "$kept/"
        for file in "$folder"/*.png "$folder"/metrics.jsonl; do [ -e "$file" ] && cp "$file" "$kept/"; done
    done
done
