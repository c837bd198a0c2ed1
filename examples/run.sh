#!/usr/bin/env bash
# The main job: sets up .venv, then makes a table-top scene (or takes --data PATH), trains, evaluates and renders.
#
#   examples/run.sh [--data PATH] [any other option of `ag2 demo`]
source "$(dirname "$0")/../.ci/setup.sh"
exec ag2 demo "$@"
