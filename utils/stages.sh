# Functions for the body of a recipe or step, to be sourced by it (utils/parse_options.sh does so): die, log, has_model,
# in_stage, wrote, once, files_or_nothing, again_here, hold, options_of, given, literal, launch.
# shellcheck shell=bash

# die MESSAGE: one line on stderr, and the end.
die() {
  echo "$*" >&2
  exit 1
}

# log MESSAGE: `2026-11-21 02:07:18 run.sh:42 message`, with the line that asked for it.
log() {
  local frame=1
  while [[ "${BASH_SOURCE[frame]:-}" == "${BASH_SOURCE[0]}" ]]; do frame=$((frame + 1)); done
  printf '%(%F %T)T %s:%s %s\n' -1 "$(basename -- "${BASH_SOURCE[frame]:-$0}")" "${BASH_LINENO[frame - 1]}" "$*" >&2
}

# has_model DIR: dies unless this is an experiment with a trained model, or an exported model.
has_model() { [[ -f "$1/model.pt" || -f "$1/model.safetensors" ]] || die "$0: no such file $1/model.pt or model.safetensors"; }

# in_stage N "text": is stage N to run?   if in_stage 3 "train"; then ... fi
in_stage() {
  [ "${stage:-0}" -le "$1" ] && [ "$1" -le "${stop_stage:-1000}" ] || return 1
  this_stage=$1
  log "stage $1: $2"
}

# files_or_nothing PATH...: refuses outputs that are links, FIFOs or devices, which mv would replace.
files_or_nothing() {
  local path
  for path in "$@"; do
    [[ ! -L "$path" && (! -e "$path" || -f "$path") ]] \
      || die "$0: $path cannot be written: it is not a file but a link, FIFO or device"
  done
}

# again_here: does the user want this stage done again from its start (--stage N --again true, and this is stage N)?
again_here() {
  "${again:-false}" && [ "${this_stage:-0}" -eq "${stage:-0}" ]
}

STARTED=$(date +%s) # of the program that sources this

# wrote PATH...: log the outputs of a stage with their sizes: lines of a text file, bytes of any other. What is older
# than this program was kept from an earlier run.
wrote() {
  local path size verb
  for path in "$@"; do
    [[ -e "$path" ]] || die "$0: $path was not written"
    if [[ -f "$path" ]] && { [[ ! -s "$path" ]] || LC_ALL=C grep -qI '' -- "$path"; }; then
      size="$(wc -l < "$path") lines"
      size=${size/#1 lines/1 line}
    else
      size=$(du -sh --apparent-size -- "$path" | cut -f1)
    fi
    verb=wrote
    if [[ -f "$path" ]] && (($(stat -c %Y -- "$path") < STARTED)); then verb=kept; fi
    log "$verb $path ($size)"
  done
}

# once MARKER... -- COMMAND...: run the command, unless each marker holds this very command line.
# The markers are written when it has succeeded; they belong in the folders that it makes, to be deleted with them.
# --again true runs it in any case. All that the result depends on must be an argument.
once() {
  local marker markers=() line
  while [[ "$1" != -- ]]; do
    markers+=("$1")
    shift
  done
  shift
  line=$(printf ' %q' "$@")
  if ! again_here && _all_hold "$line" "${markers[@]}"; then
    log "nothing to do, done before:$line   (--stage ${this_stage:-0} --again true does it again)"
    return 0
  fi
  rm -f -- "${markers[@]}"
  "$@"
  for marker in "${markers[@]}"; do
    printf '%s\n' "$line" > "$marker.$$.tmp"
    mv -- "$marker.$$.tmp" "$marker"
  done
}

# _all_hold LINE FILE...: is this the text of every file?
_all_hold() {
  local line=$1 file
  shift
  for file in "$@"; do
    [[ -f "$file" && "$(< "$file")" == "$line" ]] || return 1
  done
}

# hold alone|shared FOLDER: lock a folder until this script and all that it started have ended, alone or with others that
# share it; if it is in use, report by whom, and exit. The system frees the lock of a process that has ended, however it
# ended. A script holds one folder.
hold() {
  local file=$2/.lock code=0
  [[ -d "$2" && -w "$2" ]] || return 0 # a folder that is missing or read-only needs no lock
  [[ "${_lock_file:-}" == "$file" ]] || exec {_lock}>> "$file"
  flock --nonblock --conflict-exit-code 9 "--${1/alone/exclusive}" "$_lock" || code=$?
  ((code != 9)) || die "$0: $2 is in use: $(_holders "$file")"
  ((code == 0)) || {
    log "$file cannot be locked here; make sure that nothing else uses $2"
    return 0
  }
  if [[ "$1" == alone ]]; then
    : > "$file"
    _sweep "$2"
  fi
  if [[ "$1" == alone || "${_lock_file:-}" != "$file" ]]; then
    printf '%s pid %s since %(%F %T)T: %s\n' "$HOSTNAME" $$ -1 "$0${_po_line:-}" >> "$file"
  fi
  _lock_file=$file
}

# Who holds a lock: the lines of its file, without dead processes of this machine; if none, who has the file open here.
_holders() {
  local host word pid rest found=""
  while read -r host word pid rest; do
    if [[ "$host" != "$HOSTNAME" || -d /proc/$pid ]]; then found+="${found:+; }$host $word $pid $rest"; fi
  done < "$1"
  if [[ -z "$found" ]]; then
    exec {_lock}>&- # in this subshell, or the programs below would be found
    for pid in $(find /proc/[0-9]*/fd -lname "$(realpath -- "$1")" 2> /dev/null | cut -d/ -f3 | sort -un); do
      if [[ "$pid" != "$$" && -r /proc/$pid/cmdline ]]; then
        found="$HOSTNAME pid $pid, left by a script that was killed: $(tr '\0' ' ' < "/proc/$pid/cmdline")"
      fi
    done
  fi
  echo "${found:-by a process that cannot be seen from here}"
}

# Delete the temporary files (.NAME.PID.tmp) that killed processes left in a folder.
_sweep() {
  local path pid
  { find "$1/" -name '.*.[0-9]*.tmp' -prune -print0 || true; } | while IFS= read -r -d '' path; do
    pid=${path%.tmp}
    [[ -d /proc/${pid##*.} ]] || rm -rf -- "$path"
  done
}

# When this script ends. On TERM or HUP bash runs this and ends, though a program runs in the foreground: it and what it
# started get SIGTERM and time to end; slurm.py may take 120 s to cancel jobs. Other scripts and launchers end what they
# started.
_end_foreground() {
  local running pids=() i
  running=$(jobs -r)
  [[ -n "$running" && "$running" != *'&' ]] || return 0 # no program, or one in the background
  _add_descendants $$
  kill -TERM "${pids[@]}" 2> /dev/null || true
  for ((i = 0; i < 1300; i++)); do
    kill -0 "${pids[@]}" 2> /dev/null || return 0
    sleep 0.1
  done
  kill -KILL "${pids[@]}" 2> /dev/null || true
}
[[ $- == *i* ]] || trap _end_foreground EXIT # not in the shell of a user who sources this

# _add_descendants PID: to the array `pids`, its descendants in this session, but not those of other scripts.
_add_descendants() {
  local pid children
  children=$(cat "/proc/$1/task/"*/children 2> /dev/null) || true
  for pid in $children; do
    [[ "$(_session "$pid")" == "$(_session $$)" ]] || continue # it has ended, or is a launcher's job
    pids+=("$pid")
    [[ "/proc/$pid/exe" -ef /proc/$$/exe ]] || _add_descendants "$pid"
  done
}

# _session PID: the session of a process; empty if it has ended.
_session() { sed 's/.*) [^ ]* [^ ]* [^ ]* \([0-9]*\) .*/\1/' "/proc/$1/stat" 2> /dev/null || true; }

# literal WORD...: array `words` of these words, quoted so that any launcher with Kaldi's command line passes them on as
# they are. Launchers put a word with spaces into double quotes, and others unquoted into a command for bash; $'\x28' is
# a word without spaces.
literal() {
  local LC_ALL=C word i char quoted
  words=()
  for word in "$@"; do
    if [[ "$word" == *' '* && "$word" != *[\$\`\\\"[:cntrl:]]* ]]; then
      words+=("$word")
      continue
    fi
    quoted=
    for ((i = 0; i < ${#word}; i++)); do
      char=${word:i:1}
      [[ "$char" == [-A-Za-z0-9_./:,=+@%] || "$char" != [[:ascii:]] ]] || printf -v char '\\x%02x' "'$char"
      quoted+=$char
    done
    [[ "$quoted" == "$word" ]] || quoted="\$'$quoted'"
    words+=("$quoted")
  done
}

# launch "COMMAND OPTION..." N LOG PROGRAM WORD...: run a program N times by a launcher, each time with its own number:
# COMMAND OPTION... JOB=1:N LOG.JOB.log PROGRAM WORD... --job JOB --num-jobs N
# The words are passed on as they are. If one of them or LOG contains JOB, a longer name takes its place.
launch() {
  local name=JOB words
  while [[ "${*:3}" == *"$name"* ]]; do name+=_; done
  literal "${@:4}"
  # shellcheck disable=SC2086
  $1 "$name=1:$2" "$3.$name.log" "${words[@]}" --job "$name" --num-jobs "$2"
}

# _stages_of SCRIPT: for its --help, its stages and those of the scripts that it passes its --stage to.
_stages_of() {
  local script scripts=("$1")
  while read -r script _; do
    if [[ -f "$script" ]]; then scripts+=("$script"); fi
  done < <(grep -E '^ *steps/[a-z0-9_]+\.sh .*(--stage|options\[@\])' "$1")
  awk 'match($0, /(^|[^A-Za-z_])in_stage [0-9]+ "[^"]*"/) {
         $0 = substr($0, RSTART, RLENGTH); sub(/.*in_stage /, ""); number = $1; split($0, text, "\"")
         printf "  %2d  %s\n", number, text[2] }' "${scripts[@]}" | sort -n -u | awk 'NR == 1 { print "\nStages:" } 1'
}

# options_of FILE: array `options` of each option that the file declares, with its present value, for a script that has
# these options too.
options_of() {
  local _option
  options=()
  for _option in $(_declared_in "$1"); do options+=("--${_option//_/-}" "${!_option}"); done
}

# given NAME...: those of these options that are not empty, as a user could type them.
given() {
  local _option
  for _option in "$@"; do
    if [[ -n "${!_option}" ]]; then printf ' --%s "%s"' "${_option//_/-}" "${!_option}"; fi
  done
}

# Names of the variables that a file sets, up to its `. utils/parse_options.sh`.
_declared_in() {
  awk '/^[[:space:]]*(\.|source)[[:space:]].*parse_options\.sh/ { exit }
       match($0, /^[a-z][A-Za-z0-9_]*=/) { print substr($0, 1, RLENGTH - 1) }' "$1"
}
