"""`python -m lady_onnx` is `lady-onnx`."""

import sys

from .cli import main

sys.exit(main())
