# What every run.sh does after its options: checks the configuration that stage 3 will train, and locks $data for stages 0
# to 2. Sets the array `options` for steps/verification.sh.
# shellcheck shell=bash disable=SC2154
export RAWNEXT_COMMAND
if ((stage <= 3 && stop_stage >= 3)); then steps/train.py --check --config "$conf" --set "$set" --init "$init" -; fi
if ((stage <= 2)); then
  mkdir -p "$data"
  hold alone "$data"
fi
options_of steps/options.sh

# draw_and_check SEED NAME...: draws the trials of these data directories in $data, and checks them and $data/train.
draw_and_check() {
  local name
  for name in "${@:2}"; do utils/make_trials.py --seed "$1" "$data/$name" "$data/$name/trials"; done
  for name in train "${@:2}"; do utils/validate_data_dir.py "$data/$name"; done
  for name in "${@:2}"; do utils/lint_trials.py --train "$data/train" "$data/$name/trials"; done
  for name in train "${@:2}"; do wrote "$data/$name/wav.scp"; done
}

# prepare_banks CHECKSUM OPTION...: the folders $banks, by local/noise/prepare_banks.py with these options. CHECKSUM: of
# the training set, if babble is made from it, for `once`.
prepare_banks() {
  local/noise/prepare_banks.py "${@:2}" "$data"
  wrote "${banks[@]/%//cuts.jsonl}"
}

# download URL FOLDER OPTION: unpacks an archive to a folder, unless that is there. OPTION: names a copy of the corpus.
# The archive must have the checksum of local/downloads.sha256, if that has one for this URL.
download() {
  local sum
  [ ! -d "$2" ] || return 0
  mkdir -p "$(dirname "$2")"
  wget --continue --tries 5 --no-verbose -O "$2.part" "$1" \
    || die "$1: cannot be downloaded; download it by other means, and name it by $3"
  sum=$(awk -v url="$1" '$2 == url { print $1 }' local/downloads.sha256)
  if [ -n "$sum" ] && ! sha256sum --check --status <<< "$sum  $2.part"; then
    rm "$2.part"
    die "$1: its SHA-256 differs from local/downloads.sha256; it was deleted. Try again, or name a copy by $3"
  fi
  local/unpack_tar.py "$2.part" "$2"
  rm "$2.part"
  wrote "$2"
}
