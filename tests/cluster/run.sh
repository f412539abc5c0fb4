#!/usr/bin/env bash
# Start the schedulers, run the tests of this folder on them, and stop them: `make test-cluster`.
#   tests/cluster/run.sh [slurm] [sge]        default: both; source path.sh first
# Needs Debian 12 on amd64 and access to its package servers, but not root. Installs nothing; all files are in /tmp.
set -euo pipefail
set -m # gives each part its own process group
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || set -- slurm sge
parts=3 # run in parallel, because the tests mostly wait for the scheduler

folder=$(mktemp -d)
# shellcheck disable=SC2329  # called by the trap
stop() {
  local name pid
  for pid in "${pids[@]}"; do kill -- "-$pid" 2> /dev/null || true; done # launchers cancel their jobs
  for pid in "${pids[@]}"; do timeout 30 bash -c "while kill -0 -- -$pid; do sleep 0.1; done" 2> /dev/null || true; done
  for name in $started; do "tests/cluster/$name.sh" stop; done
  rm -rf "$folder"
}
started=
pids=()
trap stop EXIT
trap 'exit 130' INT TERM HUP
for name; do
  output=$("tests/cluster/$name.sh" start)
  [ -z "$output" ] || started="$started $name" # no output: it was already running, so do not stop it
done

words="$*" # select tests by the scheduler's name in their id or file
pytest --collect-only -q tests/cluster -k "${words// / or }" | grep '::' > "$folder/all"
# The recipe's tests take longest and share a fixture, so they are one part, which starts first.
grep test_recipe.py "$folder/all" > "$folder/part.0" || true
grep -v test_recipe.py "$folder/all" | split --numeric-suffixes=1 --suffix-length=1 -n "r/$parts" - "$folder/part."
for part in "$folder"/part.?; do
  mapfile -t tests < "$part"
  pytest -q -p no:cacheprovider --durations=3 "${tests[@]}" > "$part.log" 2>&1 &
  pids+=($!)
done
code=0
for pid in "${pids[@]}"; do wait "$pid" || code=1; done
cat "$folder"/part.?.log
exit $code
