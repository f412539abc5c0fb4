# Debian's packages of the schedulers, unpacked into a folder of their own and never installed. Sourced by *.sh here.
# shellcheck shell=bash
CLUSTER=${RAWNEXT_CLUSTER:-${TMPDIR:-/tmp}/rawnext-cluster-$UID} # programs, configuration, state, sockets, keys, logs
ROOT=$CLUSTER/root

fail() {
  echo "$0: $*" >&2
  exit 1
}

# unpack PACKAGE...: fetches what was not fetched before, with apt-get (which checks the packages' signatures).
unpack() {
  local package missing=()
  for package; do [ -f "$ROOT/.$package" ] || missing+=("$package"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(dpkg --print-architecture 2> /dev/null)" = amd64 ] || fail "needs Debian on amd64, whose schedulers it fetches"
  rm -rf "$CLUSTER/debs"
  mkdir -p "$CLUSTER/debs" "$ROOT"
  # For a minute: another apt-get may hold the lock of the lists, and a server may be busy.
  download "${missing[@]}" || wait_for 60 update_and_download "${missing[@]}" \
    || fail "needs these packages, which apt-get did not find: ${missing[*]}: $(tail -n 1 "$CLUSTER/debs/log")"
  for package in "$CLUSTER"/debs/*.deb; do dpkg-deb -x "$package" "$ROOT"; done
  for package in "${missing[@]}"; do touch "$ROOT/.$package"; done
}

download() { (cd "$CLUSTER/debs" && apt-get -qq download "$@" 2> log); }
update_and_download() { apt-get -qq update > "$CLUSTER/debs/log" 2>&1 && download "$@"; }

# wait_for SECONDS COMMAND...: until the command succeeds; fails when it does not in time.
wait_for() {
  local end=$((SECONDS + $1))
  until "${@:2}" > /dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}

# living PATTERN: processes that run a program of such a folder, or the dynamic linker with one as its 4th word.
living() {
  local process words
  for process in /proc/[0-9]*; do
    mapfile -d '' words 2> /dev/null < "$process/cmdline" || continue
    case "$(readlink "$process/exe" 2> /dev/null):${words[3]:-}" in $1/* | */ld-linux*:$1/*) echo "${process#/proc/}" ;; esac
  done
}

none_living() { [ -z "$(living "$1")" ]; }

# end_living PATTERN: asks them to end, then ends them.
end_living() {
  local signal
  for signal in TERM KILL; do
    living "$1" | xargs -r kill -s "$signal" 2> /dev/null || true
    wait_for 5 none_living "$1" && break
  done
}

# obey VERB FOLDER: start or stop, or say how to find the scheduler's programs, which lie in this folder.
obey() {
  case $1 in
    start | stop) "$1" ;;
    env) echo "export PATH=$2:\$PATH" ;;
    *) fail "start, stop or env?" ;;
  esac
}
