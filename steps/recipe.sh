# What every run.sh does after its options: checks the configuration that stage 3 will train, and locks $data for stages 0
# to 2. Sets the array `options` for steps/verification.sh.
# shellcheck shell=bash disable=SC2154
if ((stage <= 3 && stop_stage >= 3)); then steps/train.py --check --config "$conf" --set "$set" --init "$init" -; fi
if ((stage <= 2)); then
  mkdir -p "$data"
  hold alone "$data"
fi
options_of steps/options.sh

# prepare_banks CHECKSUM OPTION...: the folders $banks, by local/noise/prepare_banks.py with these options. CHECKSUM: of
# the training set, if babble is made from it, for `once`.
prepare_banks() {
  local/noise/prepare_banks.py "${@:2}" "$data"
  wrote "${banks[@]/%//cuts.jsonl}"
}
