"""The tests: what lies where, and how to run them.

- `tests/<package>/` holds the tests of `lady_onnx/<package>/`, `tests/converters/` those of
  `converters/`.
- `tests/test_*.py` hold what concerns the whole project: the public names (`api.txt` is their
  snapshot), the figures of the house, the table of packages, the documentation, the examples in
  docstrings, and rules of other packages (`plugin/` is one).
- `tests/helpers/` holds what several files share. A test file never imports from another one,
  and no test imports private names of the package. `helpers/export_cache.py` makes each slow
  export once in a run, for all workers.
- `tests/house.py` measures the house: `python -m tests.house --all`.

`python -m pytest -n 2` runs the quick suite, `python -m pytest -n 2 -m long` the long one: more
seeds and larger models of the same claims. A claim that is made in the long suite over many seeds
or models is made in the quick one over some of them, where its time allows. `-m ""` runs both.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: threads of one would only wait for those of another.
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
