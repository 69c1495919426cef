# Every target is a thin call of src/course_kit/bootstrap.py, which knows what it does, and makes .venv
# when it is missing or out of date. ARGS goes through: make test ARGS="-k tokens". PYTHON names
# another Python.

ifeq ($(origin PYTHON),undefined)
START := $(shell command -v python3 || command -v python3.13 || command -v python3.12 || command -v python3.11 || command -v python || echo python3)
else
START := $(PYTHON)
endif

TARGETS := help install run lab translations test test-gpu test-scale bench train-pocket format lint clean

.DEFAULT_GOAL := help
.PHONY: $(TARGETS)

$(TARGETS):
	@"$(START)" src/course_kit/bootstrap.py $@ $(ARGS)
