# Command-line options of a script, to be sourced by it:   . utils/parse_options.sh
#
# Every variable that the script set before that line is an option: `--some-name value` sets $some_name. What follows
# the options stays in "$@". `--config FILE` is sourced first, `--help` shows the script's own comments.
# Also functions for the script's body: in_stage, log, die, wrote, once, hold.
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

# in_stage N "text": is stage N to run?   if in_stage 3 "train"; then ... fi
in_stage() {
  [ "${stage:-0}" -le "$1" ] && [ "$1" -le "${stop_stage:-1000}" ] || return 1
  _po_stage=$1
  log "stage $1: $2"
}

# wrote PATH...: what a stage leaves behind, with its size: lines of a text file, bytes of anything else.
wrote() {
  local path size
  for path in "$@"; do
    [[ -e "$path" ]] || die "$0: $path was not written"
    if [[ -f "$path" ]] && { [[ ! -s "$path" ]] || LC_ALL=C grep -qI '' -- "$path"; }; then
      size="$(wc -l < "$path") lines"
    else
      size=$(du -sh --apparent-size -- "$path" | cut -f1)
    fi
    log "wrote $path ($size)"
  done
}

# once MARKER... -- COMMAND...: run the command, unless each marker holds this very command line: so it is done once.
# The markers are written when it has succeeded; they should lie in the folders that it makes, to be deleted with them.
# The stage that the user gives by --stage is done in any case. All that the result depends on must be an argument.
once() {
  local marker markers=() line
  while [[ "$1" != -- ]]; do
    markers+=("$1")
    shift
  done
  shift
  line=$(printf ' %q' "$@")
  if [[ "${_po_forced:-}" != "${_po_stage:-0}" ]] && _po_all_say "$line" "${markers[@]}"; then
    log "done before:$line   (--stage ${_po_stage:-0} does it again)"
    return 0
  fi
  rm -f -- "${markers[@]}"
  "$@"
  for marker in "${markers[@]}"; do
    printf '%s\n' "$line" > "$marker.$$.tmp"
    mv -- "$marker.$$.tmp" "$marker"
  done
}

# _po_all_say LINE FILE...: is this the text of every file?
_po_all_say() {
  local line=$1 file
  shift
  for file in "$@"; do
    [[ -f "$file" && "$(< "$file")" == "$line" ]] || return 1
  done
}

# hold alone|shared FOLDER: use a folder alone, or with others that share it, until this script and all that it started
# have ended; or say who uses it, and end. The system frees the lock of what has ended, however it ended. One folder a
# script.
hold() {
  local file=$2/.lock code=0
  [[ -d "$2" && -w "$2" ]] || return 0 # what is not there or cannot be written needs none
  [[ "${_po_lock_file:-}" == "$file" ]] || exec {_po_lock}>> "$file"
  flock --nonblock --conflict-exit-code 9 "--${1/alone/exclusive}" "$_po_lock" || code=$?
  ((code != 9)) || die "$0: $2 is in use: $(_po_holders "$file")"
  ((code == 0)) || {
    log "$file cannot be locked here; see to it that nothing else uses $2"
    return 0
  }
  if [[ "$1" == alone ]]; then
    : > "$file"
    _po_sweep "$2"
  fi
  if [[ "$1" == alone || "${_po_lock_file:-}" != "$file" ]]; then
    printf '%s pid %s since %(%F %T)T: %s\n' "$HOSTNAME" $$ -1 "$0$_po_line" >> "$file"
  fi
  _po_lock_file=$file
}

# Who holds a lock: by the lines of its file, without the dead of this machine; else by what is open on this machine.
_po_holders() {
  local host word pid rest found=""
  while read -r host word pid rest; do
    if [[ "$host" != "$HOSTNAME" || -d /proc/$pid ]]; then found+="${found:+; }$host $word $pid $rest"; fi
  done < "$1"
  if [[ -z "$found" ]]; then
    exec {_po_lock}>&- # in this subshell: else the programs below are found themselves
    for pid in $(find /proc/[0-9]*/fd -lname "$(realpath -- "$1")" 2> /dev/null | cut -d/ -f3 | sort -un); do
      if [[ "$pid" != "$$" && -r /proc/$pid/cmdline ]]; then
        found="$HOSTNAME pid $pid, left by a script that was killed: $(tr '\0' ' ' < "/proc/$pid/cmdline")"
      fi
    done
  fi
  echo "${found:-by a process that cannot be seen from here}"
}

# Delete the temporary files (.NAME.PID.tmp) that killed processes left in a folder.
_po_sweep() {
  local path pid
  { find "$1/" -name '.*.[0-9]*.tmp' -prune -print0 || true; } | while IFS= read -r -d '' path; do
    pid=${path%.tmp}
    [[ -d /proc/${pid##*.} ]] || rm -rf -- "$path"
  done
}

# Names of the variables in the script's option block: those set above its `. utils/parse_options.sh`.
_po_names() {
  awk '/^[[:space:]]*(\.|source)[[:space:]].*parse_options\.sh/ { exit }
       match($0, /^[a-z][A-Za-z0-9_]*=/) { print substr($0, 1, RLENGTH - 1) }' "$_po_script"
}

# The head comment of the script, its options with their values and comments, and its stages.
_po_help() {
  local _po_name _po_comment
  if [[ -n "${help_message:-}" ]]; then
    printf '%b\n' "$help_message"
    return
  fi
  awk 'NR == 1 && /^#!/ { next }
       !/^#/ { exit }
       !/^# *(shellcheck |SPDX-)/ { sub(/^# ?/, ""); print }' "$_po_script"
  printf '\nOptions:\n'
  for _po_name in $(_po_names); do
    _po_comment=$(awk -v name="$_po_name" 'index($0, name "=") == 1 {
      sub(/^[^=]*=("[^"]*"|\047[^\047]*\047|[^[:space:]"\047])*/, "")
      if (match($0, /[[:space:]]#[[:space:]]*/)) print substr($0, RSTART + RLENGTH)
      exit }' "$_po_script")
    printf '  --%-18s %-20s  %s\n' "${_po_name//_/-}" "${!_po_name:-\"\"}" "$_po_comment" | sed 's/ *$//'
  done
  _po_stages
}

# Stages of the script and of the scripts that it hands its --stage to.
_po_stages() {
  local script scripts=("$_po_script")
  while read -r script _; do
    if [[ -f "$script" ]]; then scripts+=("$script"); fi
  done < <(grep -E '^ *steps/[a-z0-9_]+\.sh .*--stage' "$_po_script")
  awk 'match($0, /(^|[^A-Za-z_])in_stage [0-9]+ "[^"]*"/) {
         $0 = substr($0, RSTART, RLENGTH); sub(/.*in_stage /, ""); number = $1; split($0, text, "\"")
         printf "  %2d  %s\n", number, text[2] }' "${scripts[@]}" | sort -n -u | awk 'NR == 1 { print "\nStages:" } 1'
}

# Is this the name of an option? Kaldi: any variable that is set; not PATH and its like, which every shell has set.
_po_known() {
  [[ "$1" =~ ^[A-Za-z][A-Za-z0-9_]*$ && "$1" =~ [a-z] && -n "${!1+set}" ]]
}

_po_nearest() {
  # shellcheck disable=SC2046
  python3 -c 'import difflib, sys
near = difflib.get_close_matches(sys.argv[1], [name.replace("_", "-") for name in sys.argv[2:]], 1, 0.5)
print(f"; did you mean --{near[0]}?" if near else "; --help lists them all")' "$1" $(_po_names) config help || true
}

# --some-name -> some_name
_po_variable() {
  local _po_name=${1#--}
  echo "${_po_name//-/_}"
}

# Set one option, or say why not.
_po_set() {
  local _po_name
  [[ "$1" != *=* ]] || die "$0: invalid option $1: write ${1%%=*} ${1#*=}"
  _po_name=$(_po_variable "$1")
  _po_known "$_po_name" || die "$0: invalid option $1$(_po_nearest "${1#--}")"
  if (($# < 2)) || { [[ "$2" == --* ]] && _po_known "$(_po_variable "$2")"; }; then
    die "$0: option $1 lacks its value${2:+, got $2}" # an empty unquoted variable, as a rule
  fi
  [[ "${!_po_name:-}" != @(true|false) || "$2" == @(true|false) ]] || die "$0: expected true or false: $1 $2"
  [[ "$_po_name" != @(stage|stop_stage) || "$2" =~ ^[0-9]+$ ]] || die "$0: expected a number: $1 $2"
  if [[ "$_po_name" == stage ]]; then _po_forced=$((10#$2)); fi
  printf -v "$_po_name" %s "$2"
}

_po_script=${BASH_SOURCE[1]:-$0}
config=${config:-}

_po_line=$(printf ' %q' "$@")
(($#)) || _po_line=
_po_args=("$@") # first the files named by --config, so that options win over them
while [[ "${_po_args[0]:-}" == --?* ]]; do
  if [[ "${_po_args[0]}" == --config && -n "${_po_args[1]:-}" ]]; then
    [[ -r "${_po_args[1]}" ]] || die "$0: no such file ${_po_args[1]} (--config)"
    # shellcheck disable=SC1090
    . "$(realpath -- "${_po_args[1]}")" # a name without a slash would be looked for in PATH
  fi
  _po_args=("${_po_args[@]:2}")
done

while [[ "${1:-}" == -?* ]]; do
  case "$1" in
    -h | --help)
      _po_help
      exit 0
      ;;
    --)
      shift
      break
      ;;
    --*)
      _po_set "${@:1:2}"
      shift 2
      ;;
    *) break ;; # -1: an argument
  esac
done

[[ -z "${cmd+set}" || -n "$cmd" ]] || die "$0: empty argument to --cmd option"
