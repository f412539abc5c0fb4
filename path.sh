# Environment of every recipe: sourced by run.sh, and by each job on a cluster, which inherits nothing but PATH.
# shellcheck shell=bash
RAWNEXT_ROOT=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
export RAWNEXT_ROOT
if [ -f "$RAWNEXT_ROOT/.venv/.complete" ]; then
  # shellcheck disable=SC1091
  . "$RAWNEXT_ROOT/.venv/bin/activate"
elif ! python3 -c 'import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ("torch", "lhotse", "kaldiio"))))' \
  2> /dev/null; then
  echo "path.sh: no environment: run 'make env' in $RAWNEXT_ROOT (or activate one that has torch, lhotse and kaldiio)" >&2
  exit 1
fi
export PATH="$RAWNEXT_ROOT/utils:$PATH"
export PYTHONPATH="$RAWNEXT_ROOT${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1
unset PYTHONDONTWRITEBYTECODE                 # set in some containers: each program would compile all that it imports
export LC_ALL=C                               # Kaldi's sort order
export LHOTSE_AUDIO_BACKEND=LibsndfileBackend # the others fail with a torchaudio without its extension
# Training on a CPU spends a fifth of its time on giving memory back to the system and asking for it again.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=34359738368
