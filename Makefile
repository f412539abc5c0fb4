# make demo    the environment, then egs/mini from its first stage to its results table and pictures
# make test    the environment, then every check: ruff, shellcheck, types, pytest (what CI runs)
# make test-cluster    the launchers on a real Slurm and Grid Engine, started for it on this machine (needs Debian)
# make scale   time and memory at VoxCeleb2's size, on a synthetic corpus without audio (docs/scale.md; 3.5 GB in /tmp)
# make fuzz    the tests of tests/fuzz with FUZZ_TIMES as many inputs, new ones in each run
SHELL := bash
SCHEDULERS ?= slurm sge
FUZZ_TIMES ?= 20
.PHONY: env demo test test-cluster lint types unit clean scale fuzz

env: .venv/.complete

.venv/.complete: pyproject.toml utils/setup_env.sh
	utils/setup_env.sh

demo: env
	cd egs/mini && ./run.sh

test: env
	$(MAKE) --no-print-directory -j 2 lint types   # one core each
	$(MAKE) --no-print-directory unit

lint: env
	. ./path.sh && ruff check .
	. ./path.sh && shellcheck -x $$(git ls-files '*.sh' .ci/run | sort -u)

types: env
	. ./path.sh && mypy

unit: env
	. ./path.sh && pytest -q --durations=10 -n 2 --dist loadfile --no-loadscope-reorder   # the longest first

test-cluster: env
	. ./path.sh && tests/cluster/run.sh $(SCHEDULERS)

scale: env
	. ./path.sh && bench/scale.py

fuzz: env
	. ./path.sh && FUZZ_TIMES=$(FUZZ_TIMES) pytest -q --durations=10 tests/fuzz

clean:
	rm -rf egs/*/data egs/*/exp egs/*/corpus .pytest_cache .mypy_cache .ruff_cache
