"""The pytest plugin: an emulator as a fixture, and training jobs as a function call."""
