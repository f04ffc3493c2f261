"""Serves the model in SAGEMAKER_BASE_DIR: `python -m emulator.model_server`."""

import sys

from .program import main

sys.exit(main())
