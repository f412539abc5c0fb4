#!/usr/bin/env bash
# Try the newest packages: in a copy of this checkout's last commit, make env without requirements.lock, then make test
# and make docs.
#   utils/try_newest.sh            within the bounds of pyproject.toml     (or: make newest)
#   utils/try_newest.sh no         without the upper bounds                (or: make newest BOUNDS=no)
# Ends with what differs from requirements.lock. The copy stays, to be looked at, if a test fails.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
bounds=${1:-yes}
copy=$(mktemp -d)/rawnext
git clone -q . "$copy"
lock=$PWD/requirements.lock
cd "$copy"
echo "try_newest.sh: $(git log -1 --format='%h %s') in $copy"
if [ "$bounds" = no ]; then
  sed -i -E 's/^( *"[A-Za-z][^"]*[<>=][^",]*),<[^"]*"/\1"/' pyproject.toml
fi
NEWEST=1 make env
code=0
make test docs || code=$?
(. ./path.sh && utils/lock.py) | diff "$lock" - || true
if [ "$code" -ne 0 ]; then
  echo "try_newest.sh: the tests fail with these; the copy is $copy" >&2
  exit "$code"
fi
rm -rf "$(dirname "$copy")"
echo "try_newest.sh: the tests pass with these; to take them: NEWEST=1 utils/setup_env.sh && make lock"
