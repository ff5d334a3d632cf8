# Two commands do everything on a machine with Python 3.11+, make and pip:  make demo  ·  make test
PYTHON ?= python3
WORKER_PYTHON ?= $(PYTHON)
VENV ?= .venv
OUT ?= demo-output
SHELL := /bin/bash

HOST := $(VENV)/host/bin/python
WORKER := $(VENV)/worker/bin/python
PIP := -m pip install --quiet --disable-pip-version-check --require-hashes
RUN := PYTHONPATH=CT3DAssistant $(HOST) -X utf8 -m CT3DAssistantLib.cli --worker-python $(WORKER)

.PHONY: demo test lint bench parity train calibrate-landmarks landmark-page sample contact-sheet pictures icons lock clean

demo: $(VENV)/host.ready $(VENV)/worker.ready  ## a real chest CT in, a grounded case out
	$(RUN) doctor --install
	$(RUN) sample lidc_idri_0001
	$(RUN) analyze lidc_idri_0001 --out $(OUT)
	$(RUN) ask $(OUT) "Is there a lung nodule, and how large is it?"
	$(RUN) ask $(OUT) "What is the volume of the right lung?"
	$(RUN) ask $(OUT) "Is there a liver metastasis?"
	@echo "Report: $(abspath $(OUT)/report.html)"

test: $(VENV)/host.ready $(VENV)/worker-torch.ready $(VENV)/train.ready $(VENV)/dev.ready $(VENV)/ui.ready  ## everything, after fetching the sample packages
	$(RUN) doctor --install
	$(RUN) sample --all
	$(HOST) -m pytest -q Testing/unit Testing/worker Testing/scene Testing/end_to_end --worker-python $(abspath $(WORKER))
	rm -rf $(VENV)/bundles && mkdir $(VENV)/bundles
	set -e; for file in Testing/ui/test_*.py; do \
	  $(HOST) -m pytest -q $$file --worker-python $(abspath $(WORKER)) --bundles $(abspath $(VENV)/bundles); done
	$(WORKER) -m pytest -q Testing/parity Testing/pipeline Testing/training

lint: $(VENV)/dev.ready
	$(HOST) -m ruff check .
	$(HOST) -m ruff format --check .
	$(HOST) -m mypy

parity: $(VENV)/worker-torch.ready $(VENV)/dev.ready  ## the reference's vectors, one line a case; CT3D_GOLDEN=folder for others
	$(WORKER) -m pytest -v Testing/parity

bench: $(VENV)/host.ready $(VENV)/worker-torch.ready $(VENV)/train.ready $(VENV)/dev.ready $(VENV)/ui.ready
	$(RUN) doctor --install
	$(RUN) sample --all
	PYTHONPATH=CT3DAssistant:Testing $(HOST) -m bench.run --worker-python $(abspath $(WORKER)) --out bench-output

train: $(VENV)/worker-torch.ready $(VENV)/train.ready  ## RECIPE=..., DATA=the folder that holds openkbp/, RUN_FOLDER=where to
	$(RUN) sample --all
	cd CT3DAssistant && $(abspath $(WORKER)) -m ct3d.training.train_h3denet $(abspath $(RECIPE)) --data $(abspath $(DATA)) --out $(abspath $(RUN_FOLDER))

MEASURE = cd CT3DAssistant && mkdir -p ../docs/results && $(abspath $(WORKER)) -X utf8 -m ct3d.training
VALIDATION = $(abspath $(DATA))/openkbp/validation
# a program that breaks leaves an earlier result, and its error is shown
KEEP = > ../docs/results/part || { cat ../docs/results/part >&2; false; } && mv ../docs/results/part ../docs/results
BASELINE = $(MEASURE).evaluate_landmarks --data $(VALIDATION) --recipe ct3d/training/recipes

calibrate-landmarks: $(VENV)/train.ready  ## DATA=the folder that holds openkbp/; writes into the card, in some 30 minutes
	$(MEASURE).calibrate_landmarks --data $(abspath $(DATA)) --train $(abspath $(DATA))/openkbp/train --validation $(VALIDATION) $(KEEP)/calibrate.json

landmark-page: $(VENV)/train.ready  ## DATA=as above, RUNS=folder of the runs unet and no_attention; numbers and figures of docs/landmarks.md
	$(MEASURE).evaluate_landmarks --data $(VALIDATION) $(KEEP)/evaluate_h3denet.json
	$(BASELINE)/unet_headneck.toml --weights $(abspath $(RUNS))/unet/weights.safetensors $(KEEP)/evaluate_unet.json
	$(BASELINE)/h3denet_headneck_no_attention.toml --weights $(abspath $(RUNS))/no_attention/weights.safetensors $(KEEP)/evaluate_no_attention.json
	$(MEASURE).experiments_landmarks missing --repeats 1 --data $(VALIDATION) $(KEEP)/missing.json
	$(MEASURE).experiments_landmarks outline --data $(VALIDATION) $(KEEP)/outline.json
	$(MEASURE).landmark_pages --results ../docs/results --page ../docs/landmarks.md

contact-sheet: $(VENV)/host.ready $(VENV)/worker.ready  ## every sample CT analysed, on one picture
	$(RUN) sample --all
	PYTHONPATH=CT3DAssistant:Testing $(HOST) -m bench.contact_sheet --worker-python $(abspath $(WORKER)) --out bench-output

pictures: $(VENV)/worker.ready $(VENV)/ui.ready  ## the pictures of docs/, from the panels and views as they are
	$(RUN) doctor --install
	$(RUN) sample lidc_idri_0001
	PYTHONPATH=CT3DAssistant:Testing:Testing/ui $(HOST) Testing/ui/pictures_of_panels.py --worker-python $(abspath $(WORKER)) --out docs/images

icons:  ## draw the panels' icons anew
	$(PYTHON) tools/icons.py

lock:  ## make Resources/requirements-*.txt anew (needs uv)
	$(PYTHON) tools/lock.py

clean:
	rm -rf $(VENV) demo-output bench-output build .pytest_cache .ruff_cache .mypy_cache

$(VENV)/host.ready: Resources/requirements-host.txt
	$(PYTHON) -m venv $(VENV)/host
	$(HOST) $(PIP) -r $<
	touch $@

$(VENV)/worker.ready: Resources/requirements-worker.txt
	$(WORKER_PYTHON) -m venv $(VENV)/worker
	$(WORKER) $(PIP) -r $<
	touch $@

$(VENV)/worker-torch.ready: $(VENV)/worker.ready Resources/requirements-torch.txt  # a CPU build where there is one
	$(WORKER) $(PIP) -r Resources/requirements-torch-cpu.txt || $(WORKER) $(PIP) -r Resources/requirements-torch.txt
	touch $@

$(VENV)/train.ready: $(VENV)/worker-torch.ready Resources/requirements-train.txt
	$(WORKER) $(PIP) -r Resources/requirements-train.txt
	touch $@

$(VENV)/dev.ready: $(VENV)/host.ready $(VENV)/worker.ready Resources/requirements-dev.txt
	$(HOST) $(PIP) -r Resources/requirements-dev.txt
	$(WORKER) $(PIP) -r Resources/requirements-dev.txt
	touch $@

$(VENV)/ui.ready: $(VENV)/host.ready Resources/requirements-ui.txt
	$(HOST) $(PIP) -r Resources/requirements-ui.txt
	touch $@
