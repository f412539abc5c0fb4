# make demo    make the environment, then run all stages of egs/mini
# make test    make the environment, then run every check: ruff, import rules, shellcheck, shfmt, types, pytest (as CI)
# make check   what to run while developing: make lint and the fast tests, in under 2 minutes
# make docs    build the website, site/index.html
# make newest  make test and make docs in a copy of the last commit, with the newest packages within pyproject.toml's
#              bounds (BOUNDS=no: without upper bounds); prints what differs from requirements.lock
# make lock    write the installed versions to requirements.lock, and the sha256 of their files on PyPI to
#              requirements.hashes; make env installs these
# make test-cluster    test the launchers on a real Slurm and Grid Engine, started on this machine (needs Debian)
# make bench   measure speed as ratios: training, input, extraction, scoring, start-up; some minutes
#              (docs/explanation/performance.md)
# make scale   measure time and memory at VoxCeleb2's size, on a synthetic corpus without audio; 3.5 GB in /tmp
#              (docs/explanation/scale.md)
# make clean   delete caches and the website; make distclean also deletes the recipes' data and experiments, and asks
# make fuzz    run the tests of tests/fuzz with FUZZ_TIMES as many inputs, different ones in each run
SHELL := bash
SCHEDULERS ?= slurm sge
FUZZ_TIMES ?= 20
BOUNDS ?= yes
.PHONY: env demo test check test-cluster lint types unit clean distclean bench scale fuzz docs newest lock

env: .venv/.complete

.venv/.complete: pyproject.toml requirements.lock utils/setup_env.sh
	utils/setup_env.sh

demo: env
	cd egs/mini && ./run.sh

test: env
	$(MAKE) --no-print-directory -j 2 lint types   # one core each
	$(MAKE) --no-print-directory unit

check: lint
	. ./path.sh && pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

lint: env
	. ./path.sh && ruff check .
	. ./path.sh && lint-imports --no-logo
	. ./path.sh && shellcheck -x $$(git ls-files '*.sh' .ci/run | sort -u)
	. ./path.sh && shfmt -d $$(git ls-files '*.sh' .ci/run | sort -u)

types: env
	. ./path.sh && mypy

unit: env
	. ./path.sh && pytest -q --durations=10 -n 2 --dist loadfile --no-loadscope-reorder

test-cluster: env
	. ./path.sh && tests/cluster/run.sh $(SCHEDULERS)

bench: env
	. ./path.sh && bench/performance.py

scale: env
	. ./path.sh && bench/scale.py

fuzz: env
	. ./path.sh && FUZZ_TIMES=$(FUZZ_TIMES) pytest -q --durations=10 -o faulthandler_timeout=0 tests/fuzz

.venv/.docs: .venv/.complete
	.venv/bin/python -m pip --disable-pip-version-check install -q $(if $(NEWEST),,--constraint requirements.lock) -e '.[docs]' \
	  --config-settings editable_mode=compat
	touch $@

docs: .venv/.docs
	. ./path.sh && sphinx-build -q -W --keep-going -n -c docs -d site/.doctrees . site

newest:
	copy=$$(mktemp -d) && echo "make newest: in $$copy, which stays if a test fails" && \
	git clone -q . "$$copy" && cd "$$copy" && \
	if [ $(BOUNDS) = no ]; then sed -i -E 's/^( *"[A-Za-z][^"]*[<>=][^",]*),<[^"]*"/\1"/' pyproject.toml; fi && \
	$(MAKE) env lock NEWEST=1 && git --no-pager diff -U0 requirements.lock && \
	git checkout -q pyproject.toml requirements.lock requirements.hashes && touch .venv/.complete .venv/.docs && \
	$(MAKE) test docs && rm -rf "$$copy"

# Local labels are cut off: 2.13.0+cpu is 2.13.0.
lock: env .venv/.docs
	.venv/bin/python -c 'import sys; print("# python %d.%d" % sys.version_info[:2])' > .requirements.lock
	echo "# tested versions: constraints of utils/setup_env.sh, written by make lock" >> .requirements.lock
	set -o pipefail && .venv/bin/python -m pip --disable-pip-version-check freeze --all --exclude pip --exclude rawnext \
	  --exclude-editable | sed 's/+.*//' | tr A-Z_ a-z- | LC_ALL=C sort -t= -k1,1 >> .requirements.lock
	grep -v '^torch' .requirements.lock | .venv/bin/uv pip compile -q --no-deps --no-header --no-annotate \
	  --generate-hashes --python .venv/bin/python -o .requirements.hashes -
	sed -i "1i # sha256 of the files of requirements.lock's packages, which utils/setup_env.sh checks; written by make lock" .requirements.hashes
	mv .requirements.hashes requirements.hashes
	mv .requirements.lock requirements.lock
	touch .venv/.complete .venv/.docs

clean:
	rm -rf site .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean
	@du -sh egs/*/data egs/*/exp 2> /dev/null || true
	@read -r -p "delete these prepared data and trained experiments? (yes/no) " answer && [ "$$answer" = yes ]
	rm -rf egs/*/data egs/*/exp
