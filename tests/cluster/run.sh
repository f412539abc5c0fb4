#!/usr/bin/env bash
# Start the schedulers, run the tests of this folder on them, and stop them: `make test-cluster`.
#   tests/cluster/run.sh slurm sge        or only one of them; needs path.sh sourced
# Needs Debian 12 on amd64, its package servers, and no rights: nothing is installed, all lies in a folder in /tmp.
set -euo pipefail
set -m # a process group for each part, with all that it starts
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || set -- slurm sge
parts=3 # tests mostly wait for the scheduler, so several run side by side

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
  said=$("tests/cluster/$name.sh" start)
  [ -z "$said" ] || started="$started $name" # one that ran before goes on
done

words="$*" # a test is chosen by the name of its scheduler, in its own name or its file
pytest --collect-only -q tests/cluster -k "${words// / or }" | grep '::' > "$folder/all"
# The recipe's tests take longest and share what they prepare: they are a part of their own, begun first.
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
