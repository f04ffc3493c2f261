"""The engine: which workloads run, one workload's run, and the record that is kept of it."""
