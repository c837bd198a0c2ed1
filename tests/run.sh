#!/usr/bin/env bash
# Sets up .venv and runs the tests; arguments go to pytest.
source "$(dirname "$0")/../.ci/setup.sh"
exec python -m pytest -n 2 --dist loadfile "$@"
