#!/usr/bin/env bash
# Set-up, linter, tests.   bash tests/run.sh [pytest arguments]
# Processes share the test files: as many as cores, four at most, each with 2 GB (num_workers in conftest.py); -n 0: one.
# Real data: ../shared/datasets or $DATA_DIR; a real encoder: ../shared/models/all-MiniLM-L6-v2 or $MODEL_DIR; skipped where absent.
set -euo pipefail
cd "$(dirname "$0")/.."
source bert_scripts/setup.sh requirements-dev.txt
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 MPLBACKEND=agg
ruff check .
ruff format --check .
python -m pytest -n auto --dist loadfile "$@"
