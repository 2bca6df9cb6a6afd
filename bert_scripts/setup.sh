# Sourced by quickstart.sh and tests/run.sh: a Python environment with what a requirements file lists.
#   source bert_scripts/setup.sh requirements.txt
# Where none is active, .venv is made, with the versions of constraints.txt. An active one is not changed: what is missing
# there is listed with the command that installs it, and the script stops.
check_python() { # the interpreter, what to do about an old one
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && return
    echo "Python 3.11 or newer is needed, found $("$1" --version 2>&1) ($(command -v "$1")): $2" >&2
    exit 2
}
if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
    check_python python "activate another environment, or none"
    python bert_scripts/missing.py "$1" || exit
else
    if [ ! -x .venv/bin/pip ]; then # absent, or left unfinished
        check_python "${PYTHON:-python3}" "set PYTHON=<path of one>"
        "${PYTHON:-python3}" -m venv .venv
    fi
    source .venv/bin/activate
    check_python python "remove .venv and set PYTHON=<path of one>"
    if ! python bert_scripts/missing.py "$1" 2>/dev/null; then
        echo "Installing what $1 lists into .venv" >&2
        python -m pip install --disable-pip-version-check -r "$1" -c constraints.txt >&2
    fi
fi
