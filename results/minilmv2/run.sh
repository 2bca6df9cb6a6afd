#!/usr/bin/env bash
# MiniLMv2 on a Wikipedia sample: students of 3 and 6 layers, 192 wide, distilled; fine-tuned beside the same before distillation
# (rows and columns of the teacher) and beside random weights.
#   bash results/minilmv2/run.sh                      # about two hours on one CPU core
#   python results/minilmv2/table.py                  # the table, from the files kept here
set -euo pipefail
cd "$(dirname "$0")/../.."
MODEL=${MODEL:-../shared/models/all-MiniLM-L6-v2}     # 6 layers, 384 wide, 22M parameters
DATA_DIR=${DATA_DIR:-../shared/datasets}              # the parent of wiki/, sst2/, cola/, mrpc/, conll/
CORPUS=${CORPUS:-outputs/corpus/wiki}                 # built where it is absent
OUTPUT=${OUTPUT:-outputs/results/minilmv2}
KEPT=${KEPT:-results/minilmv2}
LAYERS=${LAYERS:-3 6}
STARTS=${STARTS:-distilled slice random}
TASKS=${TASKS:-sst2 cola mrpc conll}
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
[ -e "$CORPUS/results.json" ] || python run_corpus.py --input "$DATA_DIR/wiki" --tokenizer_name_or_path "$MODEL" --output_dir "$CORPUS"
for layers in $LAYERS; do
    run="$OUTPUT/${layers}L_192" steps=3500               # of 16 blocks: about one epoch, 35 minutes
    if [ "$layers" = 6 ]; then steps=2400; fi
    distil=(python run_minilmv2.py --teacher_model_path "$MODEL" --corpus "$CORPUS" --layer "$layers" --hidden 192 --precision bf16
        --per_device_train_batch_size 16)
    for start in $STARTS; do
        if [ "$start" = distilled ]; then
            "${distil[@]}" --student_init slice --learning_rate 1e-3 --max_steps ${STEPS:-$steps} --eval_interval 250 --log_interval 250 \
                --output_dir "$run/distilled"
        else # one update that moves nothing: the student as it starts, as a checkpoint
            "${distil[@]}" --student_init "$start" --learning_rate 1e-30 --weight_decay 0 --max_steps 1 --output_dir "$run/$start"
        fi
        mkdir -p "$KEPT/${layers}L_192/$start"
        cp "$run/$start"/{args.json,log.txt,results.json,metrics.jsonl,heldout.png} "$KEPT/${layers}L_192/$start/"
        for task in $TASKS; do
            rows=20000 epochs=5                           # cola and mrpc are smaller
            if [ "$task" = sst2 ]; then rows=8000 epochs=3; fi
            if [ "$task" = conll ]; then epochs=2; fi
            env STUDENT="$run/$start" TASKS="$task" DATA_DIR="$DATA_DIR" OUTPUT="$run/grid_$start" EPOCHS=$epochs RATES=5e-4 \
                SEEDS="${SEEDS:-776 777}" bash bert_scripts/run_minilmv2_grid.sh --precision bf16 --max_train_samples $rows
            for folder in "$run/grid_$start/$task"/*/; do
                kept="$KEPT/${layers}L_192/grid_$start/$task/$(basename "$folder")"
                mkdir -p "$kept"
                cp "$folder"/{args.json,results.json,log.txt} "$kept/"
            done
        done
    done
done
