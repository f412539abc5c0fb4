# Command-line options of a script, as Kaldi's parse_options.sh; to be sourced by it:   . utils/parse_options.sh
#
# Every variable that is set above that line, in the script or in a file that it sources there, is an option:
# `--some-name value` sets $some_name. The words after the options stay in "$@". `--config FILE` is sourced first, `--help`
# prints the script's own comments. Also sources utils/stages.sh, the functions for the script's body.
# shellcheck shell=bash
# shellcheck source=utils/stages.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/stages.sh"

# Files that declare options: the script, and files that it sources above its `. utils/parse_options.sh`.
_po_files() {
  local _po_file
  echo "$_po_script"
  awk '/^(\.|source) .*parse_options\.sh/ { exit } /^(\.|source) [^ ]*\.sh/ { print $2 }' "$_po_script" \
    | while read -r _po_file; do if [[ -f "$_po_file" ]]; then echo "$_po_file"; fi; done
}

# Names of all options, those of the script first.
_po_names() {
  local _po_file
  _po_files | while read -r _po_file; do _declared_in "$_po_file"; done | awk '!seen[$0]++'
}

# The comment of an option, in the first file that has one.
_po_comment() {
  # shellcheck disable=SC2046
  awk -v name="$1" 'FNR == 1 { over = 0 } /^(\.|source) .*parse_options\.sh/ { over = 1 }
    !over && index($0, name "=") == 1 {
      sub(/^[^=]*=("[^"]*"|\047[^\047]*\047|[^[:space:]"\047])*/, "")
      if (match($0, /[[:space:]]#[[:space:]]*/)) { print substr($0, RSTART + RLENGTH); exit } }' $(_po_files)
}

# The head comment of the script, its options with their values and comments, and its stages.
_po_help() {
  local _po_name
  if [[ -n "${help_message:-}" ]]; then
    printf '%b\n' "$help_message"
    return
  fi
  awk 'NR == 1 && /^#!/ { next }
       !/^#/ { exit }
       !/^# *(shellcheck |SPDX-)/ { sub(/^# ?/, ""); print }' "$_po_script"
  printf '\nOptions:\n'
  for _po_name in $(_po_names); do
    printf '  --%-18s %-20s  %s\n' "${_po_name//_/-}" "${!_po_name:-\"\"}" "$(_po_comment "$_po_name")" | sed 's/ *$//'
  done
  _stages_of "$_po_script"
}

# Is this the name of an option? As in Kaldi, any variable that is set, except PATH and others in capitals.
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

# Set one option, or report why not.
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
  if [[ "$_po_name" == stage ]]; then _po_stage_given=true; fi
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
    . "$(realpath -- "${_po_args[1]}")" # bash looks for a name without a slash in PATH
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

[[ "${again:-false}" == false || -n "${_po_stage_given:-}" ]] || die "$0: --again true: name the stage by --stage N"
[[ -z "${cmd+set}" || -n "$cmd" ]] || die "$0: empty argument to --cmd option"
