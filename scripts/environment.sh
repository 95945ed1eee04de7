#!/usr/bin/env bash
# Builds .venv from requirements.lock, without the package. `make env` runs it if there is no .venv,
# or if the lock file or the path of the checkout changed. Set PYTHON to choose a Python.
set -euo pipefail

fail() {
  echo "make env: $*" >&2
  exit 2
}

case $PWD in
  *[\$\'\"\`:\\]*) fail "$PWD: expected a path without quotes, \$, colons and backslashes: scripts in .venv" \
    "contain it. Move the checkout." ;;
esac

# Exclude the uv and the Python of the environment that is replaced.
PATH=${PATH//"$PWD/.venv/bin:"/}
if ! uv=$(command -v uv); then
  # A temporary uv, to install the environment with the uv of the lock file.
  python=$(command -v "${PYTHON:-python3}") ||
    fail "found neither ${PYTHON:-python3} nor uv. Install Python 3.11, 3.12 or 3.13, or uv" \
      "(https://docs.astral.sh/uv)."
  bootstrap=$(mktemp -d)
  trap 'rm -rf "$bootstrap"' EXIT
  [[ $python = /* ]] || python=$PWD/$python
  # In another folder: here, pyenv would require the Python of .python-version.
  (cd "$bootstrap" && "$python" -m venv .) > "$bootstrap/log" 2>&1 ||
    fail "$python -m venv failed. On Debian and Ubuntu: apt-get install python3-venv. Otherwise" \
      "install uv (https://docs.astral.sh/uv)."
  "$bootstrap/bin/python" -m pip install --quiet --disable-pip-version-check \
    "$(grep '^uv==' requirements.lock)" || fail "pip could not install uv; see above."
  uv=$bootstrap/bin/uv
fi

# The system's Python if there is a suitable one; otherwise uv downloads 3.13.
python=$("$uv" python find --system --no-project --no-python-downloads "${PYTHON:->=3.11,<3.14}" \
  2> /dev/null) || python=${PYTHON:-3.13}
rm -rf .venv
output=$("$uv" venv --no-project --python "$python" .venv 2>&1) ||
  fail "expected Python 3.11, 3.12 or 3.13, or a network to download one. Received: Python" \
    "$python, $(head -n 1 <<< "$output"). Install one, or set one: make env PYTHON=python3.13"
.venv/bin/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' ||
  fail "expected Python 3.11, 3.12 or 3.13. Received: $(.venv/bin/python -V) from $python." \
    "Set another one: make env PYTHON=python3.13"

export VIRTUAL_ENV=.venv
"$uv" pip sync --quiet --compile-bytecode requirements.lock
pwd -P > .venv/installed
