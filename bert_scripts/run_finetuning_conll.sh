#!/usr/bin/env bash
# Fine-tune the teacher on CoNLL-2003 (named entities; a cased model).
#   SEED=1 bash bert_scripts/run_finetuning_conll.sh --learning_rate 5e-5    # any flag given by hand wins
# batch, rate, epochs and evaluation interval: MiniDisc's scripts
set -euo pipefail
cd "$(dirname "$0")/.."
MODEL=${MODEL:-bert-base-cased}            # a hub name or a folder
DATA_DIR=${DATA_DIR:-datasets}             # the parent of conll/
OUTPUT=${OUTPUT:-outputs/finetuning/conll}
${LAUNCH:-python} run_finetuning.py --task_name conll --data_dir "$DATA_DIR" --model_path "$MODEL" --output_dir "$OUTPUT" \
    --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 3 --eval_interval 100 --seed "${SEED:-776}" "$@"
