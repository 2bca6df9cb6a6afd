#!/usr/bin/env bash
# The runs behind the README's TED table. The student has 3 of the teacher's 6 layers; from one start (fine-tuned in stage 0, with the
# filters of stage I) it is fine-tuned further, or distilled by KD, LWD and TED: three seeds, on SQuAD 2.0 (a sample) one.
# deberta: a DeBERTaV3 of 4 layers with random weights, made here, and 2 of its layers: the path from end to end, no score.
#   bash results/ted/run.sh                           # about two hours of one core; what has finished is not run again
#   TASKS="mrpc squad2" SEEDS=776 bash results/ted/run.sh
#   python results/ted/table.py                       # the table, from the results.json files kept here
#   FLAGS="--max_train_samples 64 --max_eval_samples 32" SEEDS=776 TEACHER=try OUTPUT=try KEPT=try/kept bash results/ted/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
TASKS=${*:-${TASKS:-mrpc stsb sst2 squad2 deberta}}
SEEDS=${SEEDS:-776 777 778}
MODEL=${MODEL:-../shared/models/all-MiniLM-L6-v2}     # 6 layers, 384 wide, 22M parameters
DATA_DIR=${DATA_DIR:-../shared/datasets}
TEACHER=${TEACHER:-outputs/results/minidisc}          # the parent of <task>/teacher; made where it is absent
OUTPUT=${OUTPUT:-outputs/results/ted}
KEPT=${KEPT:-results/ted}                             # of each run everything but weights
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
for task in $TASKS; do
    run="$OUTPUT/$task" teacher="$TEACHER/$task/teacher" name=$task seeds=$SEEDS model=$MODEL keep=3
    # Rows and epochs are what an hour allows. Weights are those published for DeBERTaV3, but for TED's 5000 on SQuAD: after so few
    # updates of the filters the distance (0.02 to 0.03 at the start) would be 20 times all the rest
    rows=20000 tuned=1 epochs=1 size=32 rate=1e-4 kl=20 lwd=5 ted=100 more=()
    case $task in
        stsb) rows=4000 ted=50 ;;
        sst2) lwd=20 ted=20 ;;
        squad2 | deberta)
            name=squad2 seeds=${SEEDS%% *} teacher="$run/teacher" tuned=2 size=8 rate=2e-4 kl=10 lwd=100 ted=100
            more=(--max_length 256 --doc_stride 64 --max_eval_samples 500)
            ;;
    esac
    if [ "$task" = deberta ]; then
        model="$OUTPUT/small_deberta" keep=2 rows=300 tuned=1 rate=1e-3
        more+=(--max_eval_samples 200)
        python results/ted/small_deberta.py "$DATA_DIR" "$model"
    fi
    train=(--task_name $name --data_dir "$DATA_DIR" --precision bf16 --log_interval 20 --max_train_samples $rows
        --per_device_train_batch_size $size --learning_rate $rate "${more[@]}")
    # shellcheck disable=SC2206
    flags=(${FLAGS:-})
    if [ ! -e "$teacher/results.json" ]; then
        python run_finetuning.py "${train[@]}" --num_train_epochs $tuned --model_path "$model" --output_dir "$teacher" "${flags[@]}"
    fi
    # Stage 0 of the student, stage I of both; the states of first tokens are cached, those of all tokens are not
    cache=(--cache_teacher --num_train_epochs 6)
    if [ $name = squad2 ]; then cache=(--num_train_epochs 1); fi
    python run_ted.py --mode ft "${train[@]}" --num_train_epochs 2 --teacher_model_path "$teacher" --student_layer $keep \
        --layer_choice even --output_dir "$run/student" "${flags[@]}"
    python run_ted.py --mode filters "${train[@]}" "${cache[@]}" --model_path "$teacher" --filter_interval 2 \
        --output_dir "$run/teacher_filters" "${flags[@]}"
    python run_ted.py --mode filters "${train[@]}" "${cache[@]}" --model_path "$run/student" --output_dir "$run/student_filters" \
        "${flags[@]}"
    start=(--student_model_path "$run/student_filters" --student_init stage1)
    distil=("${start[@]}" --teacher_model_path "$run/teacher_filters" --kl_alpha $kl)
    for seed in $seeds; do
        seeded=("${train[@]}" --num_train_epochs $epochs --seed "$seed")
        python run_ted.py --mode ft "${seeded[@]}" "${start[@]}" --output_dir "$run/ft_$seed" "${flags[@]}"
        python run_ted.py --mode kd "${seeded[@]}" "${distil[@]}" --output_dir "$run/kd_$seed" "${flags[@]}"
        python run_ted.py --mode lwd "${seeded[@]}" "${distil[@]}" --mse_alpha $lwd --teacher_filter_interval 2 \
            --output_dir "$run/lwd_$seed" "${flags[@]}"
        python run_ted.py --mode ted "${seeded[@]}" "${distil[@]}" --mse_alpha $ted --output_dir "$run/ted_$seed" "${flags[@]}"
    done
    for folder in "$run"/*/; do
        kept="$KEPT/$task/$(basename "$folder")"
        mkdir -p "$kept"
        cp "$folder"/{args.json,log.txt,metrics.jsonl,results.json} "$kept/"
    done
done
