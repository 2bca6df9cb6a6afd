# Sourced by quickstart.sh and tests/run.sh: a virtual environment with what a requirements file lists.
#   source bert_scripts/setup.sh requirements.txt
# An active environment is used as it is; else .venv is made. What is installed already is left alone.
if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
    [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
    source .venv/bin/activate
fi
python - <<'CHECK' || { echo "Python 3.11 or newer is needed; set PYTHON=<path of one>" >&2; exit 2; }
import sys
sys.exit(sys.version_info < (3, 11))
CHECK
stamp="$(python -c 'import sys; print(sys.prefix)')/.installed-$(cat requirements.txt "$1" | cksum | cut -d' ' -f1)"
if [ ! -e "$stamp" ]; then
    python -m pip install --disable-pip-version-check -q -r "$1"
    touch "$stamp"
fi
