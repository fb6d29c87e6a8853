PYTHON ?= python3
DEMO := .venv-demo
TEST := .venv
INTEROP := .venv-interop

.PHONY: demo test bench interop web arm64 clean

demo: $(DEMO)/installed
	$(DEMO)/bin/samrefine demo --out samrefine-demo

test: $(TEST)/installed
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/mypy
	OMP_NUM_THREADS=1 $(TEST)/bin/python -m pytest -n 2 --dist loadgroup

bench: $(TEST)/installed
	$(TEST)/bin/python -m benchmarks.everything --quick
	$(TEST)/bin/python -m benchmarks.scaling --quick

# Every format opened by the programs it is for, some of which take gigabytes.
interop: $(INTEROP)/installed
	$(INTEROP)/bin/python -m pytest tests/interop -o log_cli=true --log-cli-level=INFO

# The whole pipeline in WebAssembly, by node and onnxruntime-web.
web: $(TEST)/installed
	npm install --no-audit --no-fund --no-package-lock --prefix tests/web
	$(TEST)/bin/python -m pytest tests/web

# Minutes of one core; installs nothing on the machine.
arm64: $(TEST)/installed
	$(TEST)/bin/python -m tests.arm64.emulation

$(DEMO)/installed: pyproject.toml
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/pip install --quiet ".[cpu]"
	touch $@

# labelme and label-studio-sdk are wanted for their files' codecs alone; their own dependencies
# include a whole GUI toolkit and a web client.
$(TEST)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TEST)
	$(TEST)/bin/pip install --quiet -c constraints.txt -e ".[dev]"
	$(TEST)/bin/pip install --quiet --no-deps labelme==6.3.1 label-studio-sdk==2.1.2
	touch $@

# X-AnyLabeling is wanted for its loader alone: what that imports, and no inference.
$(INTEROP)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/pip install --quiet -c constraints.txt -e ".[cpu,export]" pytest hypothesis \
		pycocotools torchvision ultralytics datumaro datasets loguru tifffile imgviz \
		PyQt6 PyYAML cryptography darkdetect importlib_metadata json_repair jsonlines markdown \
		natsort openai pillow-heif psutil qimage2ndarray requests shapely termcolor tqdm
	$(INTEROP)/bin/pip install --quiet --no-deps labelme==6.3.1 label-studio-sdk==2.1.2 \
		x-anylabeling-cvhub==4.2.1
	touch $@

clean:
	rm -rf $(DEMO) $(TEST) $(INTEROP) dist build samrefine-demo
