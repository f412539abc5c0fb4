#!/usr/bin/env bash
# Make the Python environment .venv of this checkout.   utils/setup_env.sh     (or: make env)
#   PYTHON=python3.12     the Python to use (3.11 or 3.12)
#   TORCH="torch==2.13.0" the torch to install; TORCH_INDEX_URL=...  the package index it comes from
#   NEWEST=1              the newest packages within pyproject.toml's bounds, in place of those of requirements.lock
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

LOCK=requirements.lock
HASHES=requirements.hashes # sha256 of all files of these versions on PyPI
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
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

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
  pip install -q --no-compile --no-deps --require-hashes -r <(sed -n '/^uv==/,/[^\\]$/p' $HASHES)
  log "the versions of $LOCK, from files with the sha256 of $HASHES"
else
  locked=false
  TORCH=${TORCH:-$(sed -n 's/^ *"\(torch[<>=][^"]*\)".*/\1/p' pyproject.toml)}
  TORCHAUDIO=torchaudio
  pip install -q --no-compile --upgrade uv
  log "the newest versions within pyproject.toml's bounds${NEWEST:+, as asked}"
fi

if nvidia-smi -L > /dev/null 2>&1; then
  log "an NVIDIA GPU is here: $TORCH comes with CUDA"
elif [ -z "${TORCH_INDEX_URL:-}" ]; then
  log "no NVIDIA GPU here. If this downloads gigabytes, that is CUDA: stop it and run again with" \
    "TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu"
fi

# uv installs with a tenth of pip's processor time. It does not read pip's settings, which are passed on: those of files,
# then those of PIP_*. Where two indexes have a version, uv takes the files of the first. pip takes the file that fits
# best, which an extra index may lack, so the main index comes first.
main_index=https://pypi.org/simple extra_indexes=
while read -r name value; do
  case $name in
    index-url) main_index=$value ;;
    extra-index-url) extra_indexes=$value ;;
    find-links) export UV_FIND_LINKS=${value// /,} ;;
    trusted-host) export UV_INSECURE_HOST=$value ;;
    cert) export SSL_CERT_FILE=$value ;;
    proxy) export ALL_PROXY=$value ;;
    default-timeout | timeout) export UV_HTTP_TIMEOUT=$value ;;
  esac
done < <(pip config list | sed 's/^:env:/z/' | LC_ALL=C sort | sed -nE "s/\\\\n/ /g; s/^[^.]*\.([^=]+)='(.*)'$/\1 \2/p")
export UV_DEFAULT_INDEX=$main_index UV_INDEX="$main_index $extra_indexes"
# As pip, take the newest of all indexes.
install() { .venv/bin/uv pip install -q --python .venv/bin/python --index-strategy unsafe-best-match "$@"; }

if $locked; then
  install --no-deps --require-hashes -r $HASHES
fi
# torch comes from one of several indexes, with other files: it is checked by the sha256 of this index only. In the
# locked case, what else is missing here: the CUDA libraries of this torch.
if [ -n "${TORCH_INDEX_URL:-}" ]; then
  UV_INDEX=$extra_indexes install --default-index "$TORCH_INDEX_URL" "$TORCH"
else
  install "$TORCH"
fi
# compat: this folder goes into a .pth file; the default is a finder, whose import delays each start of Python by 10 ms.
install --constraint "$constraints" -e '.[dev]' --config-settings editable_mode=compat

# torchaudio's wheel pins another torch and is linked against CUDA. The recipe uses only its Python code, so it is
# installed without its dependencies, and its compiled extension is removed if it cannot be loaded.
install --no-deps "$TORCHAUDIO"
if .venv/bin/python -c 'import torchaudio' 2> /dev/null; then
  log "$TORCHAUDIO works"
else
  rm -f .venv/lib/python3*/site-packages/torchaudio/lib/*.so
  .venv/bin/python -c 'import torchaudio' || die "$TORCHAUDIO does not work with $TORCH"
  log "$TORCHAUDIO: its compiled extension does not fit this torch and was left out; the recipe does not use it"
fi

# Importing what the recipe imports compiles it, so that its first programs start as fast as later ones.
unset PYTHONDONTWRITEBYTECODE
.venv/bin/python -c 'import soundfile' 2> /dev/null || die "the installed soundfile has no libsndfile for this machine;" \
  "install the system's, e.g. apt-get install libsndfile1, and run this again"
.venv/bin/python - << 'PY'
import kaldiio, lhotse, matplotlib.pyplot, omegaconf, scipy.signal, scipy.stats, torch
import torch.distributed.run, torch.utils.flop_counter, torch.utils.tensorboard
gpus = f"{torch.cuda.device_count()} GPU(s)" if torch.cuda.is_available() else "no GPU: everything runs on the CPU"
print(f"setup_env.sh: torch {torch.__version__}, lhotse {lhotse.__version__}, {gpus}")
PY
touch .venv/.complete
log "done; . ./path.sh activates it"
