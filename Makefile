PYTHON ?= python3
VENV := .venv

.PHONY: demo test bench clean
