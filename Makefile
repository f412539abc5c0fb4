# make demo    the environment, then egs/mini from its first stage to its results table and pictures
# make test    the environment, then every check: ruff, shellcheck, shfmt, types, pytest (what CI runs)
# make docs    the pages as a site, site/index.html, with its pictures drawn again from the code
# make newest  make test in a copy with the newest packages within pyproject.toml's bounds (BOUNDS=no: without them)
# make lock    what is installed now becomes requirements.lock, the versions that make env installs
# make test-cluster    the launchers on a real Slurm and Grid Engine, started for it on this machine (needs Debian)
# make bench   speed as ratios: training, input, extraction, scoring, start-up (docs/performance.md; some minutes)
# make scale   time and memory at VoxCeleb2's size, on a synthetic corpus without audio (docs/scale.md; 3.5 GB in /tmp)
# make fuzz    the tests of tests/fuzz with FUZZ_TIMES as many inputs, new ones in each run
SHELL := bash
SCHEDULERS ?= slurm sge
FUZZ_TIMES ?= 20
BOUNDS ?= yes
.PHONY: env demo test test-cluster lint types unit clean bench scale fuzz docs newest lock

env: .venv/.complete

.venv/.complete: pyproject.toml requirements.lock utils/setup_env.sh
	utils/setup_env.sh

demo: env
	cd egs/mini && ./run.sh

test: env
	$(MAKE) --no-print-directory -j 2 lint types   # one core each
	$(MAKE) --no-print-directory unit

lint: env
	. ./path.sh && ruff check .
	. ./path.sh && lint-imports --no-logo
	. ./path.sh && shellcheck -x $$(git ls-files '*.sh' .ci/run | sort -u)
	. ./path.sh && shfmt -d $$(git ls-files '*.sh' .ci/run | sort -u)

types: env
	. ./path.sh && mypy

unit: env
	. ./path.sh && pytest -q --durations=10 -n 2 --dist loadfile --no-loadscope-reorder   # the longest first

test-cluster: env
	. ./path.sh && tests/cluster/run.sh $(SCHEDULERS)

bench: env
	. ./path.sh && bench/performance.py

scale: env
	. ./path.sh && bench/scale.py

fuzz: env
	. ./path.sh && FUZZ_TIMES=$(FUZZ_TIMES) pytest -q --durations=10 tests/fuzz

.venv/.docs: .venv/.complete
	.venv/bin/python -m pip --disable-pip-version-check install -q --constraint requirements.lock -e '.[docs]'
	touch $@

docs: .venv/.docs
	. ./path.sh && docs/figures/draw.py
	. ./path.sh && sphinx-build -q -W --keep-going -n -c docs -d site/.doctrees . site

newest:
	utils/try_newest.sh $(BOUNDS)

lock: env
	. ./path.sh && utils/lock.py > .requirements.lock && mv .requirements.lock requirements.lock
	touch .venv/.complete

clean:
	rm -rf site egs/*/data egs/*/exp egs/*/corpus .pytest_cache .mypy_cache .ruff_cache
