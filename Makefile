# Two commands: `make lab` opens the course, `make test` proves it. Each sets up everything it needs from nothing.
# Without make (Windows): see "Other ways to install" in README.md, which runs the same steps.

PYTHON ?= python3
WORKERS ?= logical
RUN := .venv/bin/python
# A notebook's cells must stay on one worker, and what runs side by side gets one thread each.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist loadfile --nbval

.DEFAULT_GOAL := help
.PHONY: help lab test test-all check notebooks exercises bench clean learn develop

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

lab: learn  ## set up what is missing and open the course in JupyterLab
	@.venv/bin/minilm lab

test: check  ## set up what is missing, then run every check, test and notebook
	$(PYTEST) -m "not slow"

test-all: check  ## also the slow tier: kill tests, full property runs, every lesson in the browser
	$(PYTEST)

check: develop  ## format, lint, types, exercises in sync, notebook hygiene; runs no notebook
	$(RUN) -m ruff format --check
	$(RUN) -m ruff check
	$(RUN) -m mypy
	$(RUN) tools/exercises.py check
	$(RUN) tools/notebooks.py check

notebooks: develop  ## run every lesson and solution again and store the outputs
	$(RUN) tools/notebooks.py run

exercises: develop  ## generate exercises/ from solutions/
	$(RUN) tools/exercises.py generate

bench: develop  ## benchmarks side by side with the field's own libraries
	$(RUN) -m benchmarks

clean:  ## remove what was built and cached; your work/ and .venv stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

learn develop:
	@command -v $(PYTHON) >/dev/null || { echo "No '$(PYTHON)' was found. Install Python 3.11 or newer, or name yours: make lab PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) tools/set_up.py $@
