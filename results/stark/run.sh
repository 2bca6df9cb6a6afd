#!/usr/bin/env bash
# StarK beside its trial student and beside the dense teacher's second student, three seeds: MRPC with 1,500 rows (3 layers: all, with
# more updates: with fewer the student answers "equivalent" throughout), SST-2 with 3,000.
#   bash results/stark/run.sh mrpc sst2               # after results/minidisc/run.sh mrpc sst2, whose teachers are taken
#   python results/stark/table.py                     # the table, from the results.json files kept here
#   FLAGS="--max_train_samples 200 --num_train_epochs 1" SCORED=64 SEEDS="776 777" OUTPUT=try/out KEPT=try/kept \
#       bash results/stark/run.sh mrpc                # a miniature, whose scores mean nothing
set -euo pipefail
cd "$(dirname "$0")/../.."
MODEL=${MODEL:-../shared/models/all-MiniLM-L6-v2}     # 6 layers, 384 wide, 22M parameters
DATA_DIR=${DATA_DIR:-../shared/datasets}
TEACHER=${TEACHER:-outputs/results/minidisc}          # the parent of <task>/teacher and <task>/nested; made where they are absent
OUTPUT=${OUTPUT:-outputs/results/stark}
KEPT=${KEPT:-results/stark}
SEEDS=${SEEDS:-776 777 778}
STUDENTS=${STUDENTS:-70S 3L}
SCORED=${SCORED:-1000}                                # rows that the teacher's units are scored on
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
for task in "$@"; do
    rows=1500
    if [ "$task" = sst2 ]; then rows=3000; fi         # shorter sentences
    base=(--task_name "$task" --data_dir "$DATA_DIR" --precision bf16)
    teacher="$TEACHER/$task/teacher" nested="$TEACHER/$task/nested"
    if [ ! -e "$teacher/results.json" ]; then
        python run_finetuning.py "${base[@]}" --max_train_samples 20000 --model_path "$MODEL" --output_dir "$teacher" \
            --learning_rate 5e-5 --num_train_epochs 3
    fi
    if [ ! -e "$nested/results.json" ]; then
        python run_sparsification.py "${base[@]}" --model_path "$teacher" --output_dir "$nested" --num_scoring_samples 4000
    fi
    for seed in $SEEDS; do
        for student in $STUDENTS; do
            used=$rows size=32 epochs=2
            if [ $student = 70S ]; then start=(--student_sparsity 70) rate=6e-4; else start=(--student_layer 3) rate=1e-4; fi
            if [ "$task" = mrpc ] && [ $student = 3L ]; then used=3668 size=16 epochs=3 rate=3e-4; fi
            run="$OUTPUT/$task/${student}_$seed"
            train=("${base[@]}" --max_train_samples $used --log_interval 100 --seed "$seed" --model_type kd --temperature 2
                --cache_teacher --per_device_train_batch_size $size --learning_rate $rate --num_train_epochs $epochs
                --teacher_model_path "$teacher" "${start[@]}")
            # shellcheck disable=SC2086
            python run_distillation.py "${train[@]}" --student_model_path "$nested" --output_dir "$run/trial" ${FLAGS:-}
            # shellcheck disable=SC2086
            python run_stark.py "${train[@]}" --student_model_path "$run/trial" --student_init_path "$nested" --do_rewind \
                --teacher_sparsities 10,30,50 --hold_out 0.1 --teacher_saw_hold_out --num_scoring_samples "$SCORED" \
                --output_dir "$run/stark" ${FLAGS:-}
            for stage in trial stark; do # what is kept beside this script: everything but weights
                mkdir -p "$KEPT/$task/${student}_$seed/$stage"
                cp "$run/$stage"/{args.json,log.txt,results.json,metrics.jsonl} "$KEPT/$task/${student}_$seed/$stage/"
            done
            cp "$run"/stark/*.png "$KEPT/$task/${student}_$seed/stark/"
        done
    done
done
