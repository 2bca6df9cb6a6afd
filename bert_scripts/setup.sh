# Sourced by quickstart.sh and tests/run.sh: a Python environment with what a requirements file lists.
#   source bert_scripts/setup.sh requirements.txt
# Where none is active, or .venv is, .venv is made, with the versions of constraints.txt. Another one is not changed: what is
# missing there is listed with the command that installs it, and the script stops.
check_python() { # the interpreter, what to do about an old one
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && return
    echo "Python 3.11 or newer is needed, found $("$1" --version 2>&1) ($(command -v "$1")): $2" >&2
    exit 2
}
if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && ! [ "${VIRTUAL_ENV:-}" -ef .venv ]; then
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
        # PEP 517: seqeval has no wheel, and the way in which pip before 23.1 would build one has ceased to work
        python -m pip install --disable-pip-version-check --use-pep517 -r "$1" -c constraints.txt >&2
    fi
fi
