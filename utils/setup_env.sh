#!/usr/bin/env bash
# Make the Python environment .venv of this checkout.   utils/setup_env.sh     (or: make env)
#   PYTHON=python3.12     the Python to use (3.11 or 3.12)
#   TORCH="torch==2.13.0" the torch to install; TORCH_INDEX_URL=...  the package index it comes from
#   NEWEST=1              the newest packages within pyproject.toml's bounds, in place of those of requirements.lock
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

LOCK=requirements.lock
HASHES=requirements.hashes # sha256 of all files of these versions on PyPI, for pip install --require-hashes
log() { echo "setup_env.sh: $*"; }
die() {
  log "$*" >&2
  exit 1
}

version_ok() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2> /dev/null; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.12 python3.11}; do
    if version_ok "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  die "no Python 3.11 or 3.12 found (tried: ${PYTHON:-python3 python3.12 python3.11}); set PYTHON=/path/to/python3"
}

python=$(find_python)
log "$("$python" --version) -> .venv"
rm -f .venv/.complete
"$python" -m venv .venv || die "$python cannot make an environment; on Debian and Ubuntu: apt-get install python3-venv"
# Files are compiled below, by all cores.
pip_install() { .venv/bin/python -m pip --disable-pip-version-check install -q --no-compile "$@"; }
install_torch() { pip_install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$@" "$TORCH"; }

# The tested versions hold for the Python that they were tested on, and for later ones: tests/test_lock.py compares what
# the packages require.
constraints=$(mktemp)
trap 'rm -f "$constraints"' EXIT
minor=$(.venv/bin/python -c 'import sys; print(sys.version_info[1])')
if [ -z "${NEWEST:-}" ] && [ "$minor" -ge "$(sed -n '1s/^# python 3\.//p' $LOCK)" ]; then
  locked=true
  TORCH=${TORCH:-$(grep '^torch==' $LOCK)}
  TORCHAUDIO=$(grep '^torchaudio==' $LOCK)
  grep -v '^torch' $LOCK > "$constraints" # torch is TORCH, whatever that is
  log "the versions of $LOCK, from files with the sha256 of $HASHES"
else
  locked=false
  TORCH=${TORCH:-$(sed -n 's/^ *"\(torch[<>=][^"]*\)".*/\1/p' pyproject.toml)}
  TORCHAUDIO=torchaudio
  log "the newest versions within pyproject.toml's bounds${NEWEST:+, as asked}"
fi

if nvidia-smi -L > /dev/null 2>&1; then
  log "an NVIDIA GPU is here: $TORCH comes with CUDA"
elif [ -z "${TORCH_INDEX_URL:-}" ]; then
  log "no NVIDIA GPU here. If pip starts to fetch gigabytes of CUDA, stop it and run again with" \
    "TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu"
fi
if $locked; then
  # torch comes from one of several indexes, with other files: it is checked by the sha256 of this index only. It is
  # unpacked during the other downloads.
  install_torch --no-deps &
  torch=$!
  pip_install --no-deps --require-hashes -r $HASHES || { kill "$torch" && exit 1; }
  wait "$torch"
fi
install_torch # in the first case, what is missing: the CUDA libraries of this torch
# compat: this folder goes into a .pth file; the default is a finder, whose import delays each start of Python by 10 ms.
pip_install --constraint "$constraints" -e '.[dev]' --config-settings editable_mode=compat

# torchaudio's wheel pins another torch and is linked against CUDA. The recipe uses only its Python code, so it is
# installed without its dependencies, and its compiled extension is removed if it cannot be loaded.
pip_install --no-deps "$TORCHAUDIO"
# Some packages contain files that do not compile, templates for example: as pip, ignore them.
.venv/bin/python -m compileall -qq -j 0 .venv/lib || true
if .venv/bin/python -c 'import torchaudio' 2> /dev/null; then
  log "$TORCHAUDIO is complete"
else
  rm -f .venv/lib/python3*/site-packages/torchaudio/lib/*.so
  .venv/bin/python -c 'import torchaudio' || die "$TORCHAUDIO does not work with $TORCH"
  log "$TORCHAUDIO: its compiled extension does not fit this torch and was left out; the recipe does not use it"
fi

.venv/bin/python - << 'PY'
import lhotse, torch
gpus = f"{torch.cuda.device_count()} GPU(s)" if torch.cuda.is_available() else "no GPU: everything runs on the CPU"
print(f"setup_env.sh: torch {torch.__version__}, lhotse {lhotse.__version__}, {gpus}")
PY
touch .venv/.complete
log "done; . ./path.sh activates it"
