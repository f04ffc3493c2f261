"""`serve`: the program inside an endpoint's instance that loads a PyTorch model and answers HTTP.

It runs in the interpreter of the user (Python 3.9 or later) and imports nothing else of this
project, so that its directory can be bound into a sandbox or copied into an image. That
interpreter needs `sagemaker-inference` and `sagemaker-pytorch-inference`, whose Transformer and
default handler do the work: `inference.py` behaves as in AWS's images.
"""

from pathlib import Path

PROGRAM = Path(__file__).with_name("serve.py")
"""What the user's interpreter runs: `<python> <PROGRAM>`. It needs the other files beside it."""
