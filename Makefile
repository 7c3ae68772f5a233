# Plumb's commands (README.md); CMakePresets.json holds the build itself. JOBS=8 uses more than two cores.
JOBS ?= 2
RELEASE := build/release

.PHONY: plumb demo test packages python clean
plumb: $(RELEASE)/build.ninja
	cmake --build --preset release --target plumb -j $(JOBS)

demo: plumb
	$(RELEASE)/plumb run "The capital of France is"

# Both suites run even when the first fails, so that one run shows all there is to see.
test: $(RELEASE)/build.ninja python
	cmake --build --preset release -j $(JOBS)
	@status=0; \
	ctest --preset release -j $(JOBS) || status=1; \
	echo "Tokenizing two megabytes of one letter against one megabyte: \"ratio\" (a figure, not a test; below 2.5)"; \
	$(RELEASE)/bench/bench_tokenizer_linear --benchmark_filter=/letter 2> /dev/null || status=1; \
	PLUMB_BINARY="$(CURDIR)/$(RELEASE)/plumb" HF_HUB_OFFLINE=1 .venv/bin/python -m pytest || status=1; \
	exit $$status

$(RELEASE)/build.ninja: CMakePresets.json | packages
	cmake --preset release

packages:
	@tools/install-packages

python: packages
	@tools/python-env

clean:
	rm -rf build .venv
