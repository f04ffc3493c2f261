"""A workload's data on its way in and out, and what the log says of it."""
