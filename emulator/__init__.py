"""A local SageMaker: training jobs that really run, on your own machine."""

__version__ = "0.1.0"
