"""One workload's run: from its queue to its last line, its recovery, and who supervises all."""
