#!/usr/bin/env bash
# The runs behind the README's TED table: a student of 3 layers, fine-tuned further, or distilled by KD, LWD and TED, three seeds.
#   bash results/ted/run.sh mrpc stsb sst2            # after results/minidisc/run.sh, whose teachers (6 layers) are taken
#   python results/ted/table.py                       # the table, from the results.json files kept here
# All four start from the same student: three of the teacher's layers, fine-tuned once (stage 0), with its filters (stage I).
set -euo pipefail
cd "$(dirname "$0")/../.."
TEACHERS=${TEACHERS:-outputs/results/minidisc}
DATA_DIR=${DATA_DIR:-../shared/datasets}
OUTPUT=${OUTPUT:-outputs/results/ted}
KEPT=${KEPT:-results/ted}
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
for task in "$@"; do
    epochs=3 lwd=5 ted=100
    if [ "$task" = stsb ]; then ted=50; fi
    if [ "$task" = sst2 ]; then epochs=2 lwd=20 ted=20; fi # 20,000 rows, short sentences
    base=(--task_name "$task" --data_dir "$DATA_DIR" --precision bf16 --max_train_samples 20000 --log_interval 100
        --per_device_train_batch_size 32 --learning_rate "${RATE:-1e-4}" --num_train_epochs $epochs)
    # shellcheck disable=SC2206
    base+=(${FLAGS:-})
    run="$OUTPUT/$task" teacher="$TEACHERS/$task/teacher"
    python run_ted.py --mode ft "${base[@]}" --teacher_model_path "$teacher" --student_layer 3 --layer_choice even \
        --output_dir "$run/student"
    python run_ted.py --mode filters "${base[@]}" --model_path "$teacher" --filter_interval 2 --cache_teacher \
        --output_dir "$run/teacher_filters"
    python run_ted.py --mode filters "${base[@]}" --model_path "$run/student" --cache_teacher --output_dir "$run/student_filters"
    start=(--student_model_path "$run/student_filters" --student_init stage1)
    distil=("${start[@]}" --teacher_model_path "$run/teacher_filters" --kl_alpha 20 --cache_teacher)
    for seed in ${SEEDS:-776 777 778}; do
        seeded=("${base[@]}" --seed "$seed")
        python run_ted.py --mode ft "${seeded[@]}" "${start[@]}" --output_dir "$run/ft_$seed"
        python run_ted.py --mode kd "${seeded[@]}" "${distil[@]}" --output_dir "$run/kd_$seed"
        python run_ted.py --mode lwd "${seeded[@]}" "${distil[@]}" --mse_alpha $lwd --teacher_filter_interval 2 \
            --output_dir "$run/lwd_$seed"
        python run_ted.py --mode ted "${seeded[@]}" "${distil[@]}" --mse_alpha $ted --output_dir "$run/ted_$seed"
    done
    for folder in "$run"/*/; do # what is kept beside this script: everything but weights
        kept="$KEPT/$task/$(basename "$folder")"
        mkdir -p "$kept"
        cp "$folder"/{args.json,log.txt,metrics.jsonl,results.json} "$kept/"
    done
done
