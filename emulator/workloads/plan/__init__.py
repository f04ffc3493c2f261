"""What an instance is given: pure functions from a job to its instance plans."""
