# Source me from the project's root: makes .venv with everything pinned, or reuses what is there.
#
# Needs git, Python 3.10+ and pip. The interpreter can be chosen with PYTHON=python3.12.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
stamp=.venv/.ag2-installed
want=$(cat .ci/requirements.txt pyproject.toml | cksum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
  python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: Python 3.10 or newer is needed; set PYTHON=/path/to/python3" >&2; exit 1; }
  echo "Installing into $root/.venv (about 7 GB; a minute with a warm cache) …"
  if ! command -v uv > /dev/null; then
    # uv resolves and installs several times faster than pip; it lives in a venv of its own.
    [ -x .venv-uv/bin/uv ] || { "$python" -m venv .venv-uv && .venv-uv/bin/pip install -q uv; }
    export PATH="$root/.venv-uv/bin:$PATH"
  fi
  [ -x .venv/bin/python ] || uv venv -q --python "$("$python" -c 'import sys; print(sys.executable)')" .venv
  uv pip install -q --python .venv/bin/python -r .ci/requirements.txt -e '.[dev]'
  echo "$want" > "$stamp"
fi
export PATH="$root/.venv/bin:$PATH"
# Spinning OpenMP threads slow everything down as soon as two programs share the cores.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
