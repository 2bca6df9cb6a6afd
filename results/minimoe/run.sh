#!/usr/bin/env bash
# MiniMoE beside its dense twin: 3 layers, 192 wide, distilled from a Wikipedia sample; then fine-tuned on four tasks; two seeds.
#   bash results/minimoe/run.sh                       # about two hours on one CPU core; TASKS and SEEDS as below
#   python results/minimoe/table.py                   # the table, from the files kept here
#   STEPS=20 FLAGS="--max_train_samples 200 --num_train_epochs 1" SEEDS=776 OUTPUT=try/out KEPT=try/kept \
#       bash results/minimoe/run.sh                   # a miniature, whose scores mean nothing
# Corpus, updates, rates and the source of the relations (three projections behind the last layer) are the same for both.
set -euo pipefail
cd "$(dirname "$0")/../.."
MODEL=${MODEL:-../shared/models/all-MiniLM-L6-v2}     # 6 layers, 384 wide, 22M parameters
DATA_DIR=${DATA_DIR:-../shared/datasets}              # the parent of wiki/, sst2/, cola/, mrpc/, conll/
CORPUS=${CORPUS:-outputs/corpus/wiki}                 # built where it is absent
OUTPUT=${OUTPUT:-outputs/results/minimoe}
KEPT=${KEPT:-results/minimoe}
SEEDS=${SEEDS:-776 777}
STEPS=${STEPS:-1500}                                  # of 16 blocks of 128 tokens
TASKS=${TASKS:-sst2 cola mrpc conll}
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
keep() { # run folder, its name among the files kept: everything but weights
    mkdir -p "$KEPT/$2"
    cp "$1"/{args.json,log.txt,results.json,metrics.jsonl} "$KEPT/$2/"
    for file in "$1"/*.png; do [ -e "$file" ] && cp "$file" "$KEPT/$2/"; done
    true
}
if [ ! -e "$CORPUS/results.json" ]; then
    python run_corpus.py --input "$DATA_DIR/wiki/AA" --tokenizer_name_or_path "$MODEL" --output_dir "$CORPUS"
fi
for seed in $SEEDS; do
    for moe in 1,1 1,4; do
        run="$OUTPUT/${moe/,/-}_$seed"
        python run_minimoe.py --teacher_model_path "$MODEL" --corpus "$CORPUS" --layer 3 --hidden 192 --moe $moe \
            --student_init slice --precision bf16 --per_device_train_batch_size 16 --learning_rate 1e-3 --max_steps "$STEPS" \
            --eval_interval 250 --log_interval 25 --num_heldout_blocks 256 --seed "$seed" --output_dir "$run/student"
        keep "$run/student" "${moe/,/-}_$seed/student"
        for task in $TASKS; do
            rows=20000 epochs=4
            if [ "$task" = sst2 ]; then rows=8000 epochs=3; fi
            if [ "$task" = conll ]; then epochs=2; fi
            # shellcheck disable=SC2086
            python run_finetuning.py --task_name "$task" --data_dir "$DATA_DIR" --model_path "$run/student" --precision bf16 \
                --max_train_samples $rows --num_train_epochs $epochs --per_device_train_batch_size 32 --learning_rate 5e-4 \
                --log_interval 50 --seed "$seed" --output_dir "$run/$task" ${FLAGS:-}
            keep "$run/$task" "${moe/,/-}_$seed/$task"
        done
    done
done
