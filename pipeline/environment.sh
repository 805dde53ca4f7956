# Sourced by run_all.sh and run_tests.sh. Afterwards `python` is one that has the packages of requirements.lock,
# and the working directory is the project's. An active virtual or conda environment is used, and brought up to
# the lock where it differs; with none active the project makes its own in .venv.

unset CDPATH PYTHONHOME
export INVOKED_FROM="$PWD"  # relative DATA=, WEIGHTS= and recipes are meant from here
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONNOUSERSITE=1 MPLBACKEND=Agg NO_ALBUMENTATIONS_UPDATE=1
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"

_active_environment() {
    if [[ -n "${VIRTUAL_ENV:-}" && -x "$VIRTUAL_ENV/bin/python" ]]; then
        printf '%s' "$VIRTUAL_ENV"
    elif [[ -n "${CONDA_PREFIX:-}" && "${CONDA_DEFAULT_ENV:-base}" != base && -x "$CONDA_PREFIX/bin/python" ]]; then
        printf '%s' "$CONDA_PREFIX"
    fi
}

_find_python() {
    local name
    for name in python3.11 python3.12 python3 python; do
        if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            printf '%s' "$name"
            return
        fi
    done
    echo "error: Python 3.11 or 3.12 is needed and was not found; install it, or activate an environment that has it" >&2
    return 1
}

_install() {
    echo "installing the packages of requirements.lock into $1: several GB to download, about 9 GB on the disk" >&2
    if ! python -m pip install --disable-pip-version-check -r requirements.lock >&2; then
        echo "error: the packages could not be installed (pip's reason stands above); the same command tries again" >&2
        return 1
    fi
}

_use_active() {
    export PATH="$1/bin:$PATH"
    if ! python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'; then
        echo "error: the active environment $1 has $(python --version 2>&1); 3.11 or 3.12 is needed" >&2
        return 1
    fi
    python -m pipeline.installed || _install "$1"
}

# The environment in .venv counts once .venv/complete is equal to the lock; it is written last, so that an
# install that broke off is made anew. PATH instead of bin/activate: that one breaks when the folder is moved.
_use_own() {
    local python
    if ! cmp -s requirements.lock .venv/complete || [[ ! -x .venv/bin/python ]]; then
        if [[ ! -w . ]]; then
            echo "error: $PWD may not be written: activate an environment that has the packages of requirements.lock" >&2
            return 1
        fi
        if [[ ! -f .venv/complete || ! -x .venv/bin/python ]]; then
            python="$(_find_python)" || return 1
            echo "making the project's own environment in $PWD/.venv (only on first use)" >&2
            if ! "$python" -m venv --clear .venv; then
                echo "error: $python cannot make a virtual environment (on Debian: apt install python3-venv)" >&2
                return 1
            fi
        fi
        PATH="$PWD/.venv/bin:$PATH" _install "$PWD/.venv" || return 1
        cp requirements.lock .venv/complete.new || return 1
        mv .venv/complete.new .venv/complete || return 1
    fi
    export VIRTUAL_ENV="$PWD/.venv" PATH="$PWD/.venv/bin:$PATH"
}

_environment="$(_active_environment)"
if [[ -n "$_environment" && "$_environment" != "$PWD/.venv" ]]; then
    _use_active "$_environment" || exit 1
else
    if [[ -w . ]]; then
        exec 9>.venv.lock  # two first runs at once: the second waits for the first one's install
        if command -v flock >/dev/null; then flock 9; fi
    fi
    _use_own || exit 1
    exec 9>&-
fi
hash -r
