"""`python -m lady_onnx` is `lady-onnx`."""

import sys

from .cli.main import main

sys.exit(main())
