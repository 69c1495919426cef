# Every target is a thin call of src/course_kit/bootstrap.py, which makes .venv when it is missing
# or out of date. ARGS goes through: make test ARGS="-k tokens". PYTHON names another Python.

ifeq ($(origin PYTHON),undefined)
START := $(shell command -v python3 || command -v python3.13 || command -v python3.12 || command -v python3.11 || command -v python || echo python3)
else
START := $(PYTHON)
endif

BOOTSTRAP := "$(START)" src/course_kit/bootstrap.py

.DEFAULT_GOAL := help
.PHONY: help install run lab translations test test-gpu bench train-pocket format lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

install: ## make .venv and install the course into it
	@$(BOOTSTRAP) install $(ARGS)

run: ## run every notebook on the embedded model, results in build/run/
	@$(BOOTSTRAP) run $(ARGS)

lab: ## open the notebooks in JupyterLab
	@$(BOOTSTRAP) lab $(ARGS)

translations: ## bring the translated pages up to date (needs GNU gettext)
	@$(BOOTSTRAP) translations $(ARGS)

test: ## check style and types, run all tests
	@$(BOOTSTRAP) test $(ARGS)

test-gpu: ## run the tests and the notebooks on the GPU
	@$(BOOTSTRAP) test-gpu $(ARGS)

bench: ## run the measurements in benchmarks/
	@$(BOOTSTRAP) bench $(ARGS)

train-pocket: ## train the embedded model anew
	@$(BOOTSTRAP) train-pocket $(ARGS)

format: ## let ruff tidy the code
	@$(BOOTSTRAP) format $(ARGS)

lint: ## check style and types only
	@$(BOOTSTRAP) lint $(ARGS)

clean: ## remove what the commands made, keep .venv
	@$(BOOTSTRAP) clean $(ARGS)
