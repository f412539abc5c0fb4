# Unpacks Debian's packages of the schedulers into a folder, without installing them. Sourced by the scripts here.
# shellcheck shell=bash
CLUSTER=${RAWNEXT_CLUSTER:-${TMPDIR:-/tmp}/rawnext-cluster-$UID} # programs, configuration, state, sockets, keys, logs
ROOT=$CLUSTER/root

fail() {
  echo "$0: $*" >&2
  exit 1
}

# unpack PACKAGE...: downloads and unpacks missing packages with apt-get, which checks their signatures.
unpack() {
  local package missing=()
  for package; do [ -f "$ROOT/.$package" ] || missing+=("$package"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(dpkg --print-architecture 2> /dev/null)" = amd64 ] || fail "needs Debian on amd64"
  rm -rf "$CLUSTER/debs"
  mkdir -p "$CLUSTER/debs" "$ROOT"
  # Retry for a minute: another apt-get may hold the lock, or a server may be busy.
  download "${missing[@]}" || wait_for 60 update_and_download "${missing[@]}" \
    || fail "cannot download ${missing[*]}: $(tail -n 1 "$CLUSTER/debs/log")"
  for package in "$CLUSTER"/debs/*.deb; do dpkg-deb -x "$package" "$ROOT"; done
  for package in "${missing[@]}"; do touch "$ROOT/.$package"; done
}

download() { (cd "$CLUSTER/debs" && apt-get -qq download "$@" 2> log); }
update_and_download() { apt-get -qq update > "$CLUSTER/debs/log" 2>&1 && download "$@"; }

# wait_for SECONDS COMMAND...: repeats the command until it succeeds; fails after this time.
wait_for() {
  local end=$((SECONDS + $1))
  until "${@:2}" > /dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}

# living PATTERN: processes that run a program in a matching folder, directly or by the dynamic linker (4th argument).
living() {
  local process words
  for process in /proc/[0-9]*; do
    mapfile -d '' words 2> /dev/null < "$process/cmdline" || continue
    case "$(readlink "$process/exe" 2> /dev/null):${words[3]:-}" in $1/* | */ld-linux*:$1/*) echo "${process#/proc/}" ;; esac
  done
}

none_living() { [ -z "$(living "$1")" ]; }

# end_living PATTERN: ends these processes by SIGTERM, then SIGKILL.
end_living() {
  local signal
  for signal in TERM KILL; do
    living "$1" | xargs -r kill -s "$signal" 2> /dev/null || true
    wait_for 5 none_living "$1" && break
  done
}

# run_verb VERB FOLDER: starts or stops the scheduler, or prints the command that puts FOLDER, its programs, on PATH.
run_verb() {
  case $1 in
    start | stop) "$1" ;;
    env) echo "export PATH=$2:\$PATH" ;;
    *) fail "usage: $0 start|stop|env" ;;
  esac
}
