#!/usr/bin/env bash
# The times behind the README's table: students at 90% and 95% sparsity beside their dense teacher, batch 1 and 32, in torch, as ONNX
# graphs and in int8; of the encoder's MRPC models (results/minidisc/run.sh makes them) and of a BERT-base of random weights.
#   bash results/latency/run.sh                  # 10 minutes on a quiet core; MODELS, DATA_DIR, THREADS as below
#   python results/latency/table.py              # the table, from the results.json files kept here
set -euo pipefail
cd "$(dirname "$0")/../.."
DATA_DIR=${DATA_DIR:-../shared/datasets}
MODELS=${MODELS:-outputs/results/minidisc/mrpc}        # has teacher/, nested/, direct_90S/, direct_95S/
OUTPUT=${OUTPUT:-outputs/results/latency}
THREADS=${THREADS:-1}
REPEATS=${REPEATS:-10}
export OMP_NUM_THREADS=$THREADS TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
base=(--task_name mrpc --data_dir "$DATA_DIR" --use_cpu)
random="$OUTPUT/bert_base"
python results/latency/random_bert.py "$MODELS/teacher/ckpt" "$random/random"
# Which units are kept does not matter here, only how many: few rows are scored
python run_sparsification.py "${base[@]}" --model_path "$random/random" --output_dir "$random/nested" --num_scoring_samples 16 \
    --grid 0,90,95 --max_eval_samples 16
measure() { # name of the result, rows that are scored, then the model's flags
    local name=$1 rows=$2
    shift 2
    if [ ! -e "$OUTPUT/$name/results.json" ]; then
        rm -rf "$OUTPUT/$name" "$OUTPUT/export/$name"
        python run_evaluation.py "${base[@]}" --num_threads "$THREADS" --num_repeats "$REPEATS" --max_eval_samples "$rows" "$@" \
            --export onnx --export_dir "$OUTPUT/export/$name" --output_dir "$OUTPUT/$name"
    fi
    mkdir -p "results/latency/$name"
    cp "$OUTPUT/$name"/{args.json,log.txt,results.json} "results/latency/$name/"
}
for model in teacher direct_90S direct_95S; do measure "encoder_$model" 408 --model_path "$MODELS/$model"; done
measure bert_base_teacher 64 --model_path "$random/nested" --sparsities 0
measure bert_base_90S 64 --model_path "$random/nested" --sparsities 90
measure bert_base_95S 64 --model_path "$random/nested" --sparsities 95
