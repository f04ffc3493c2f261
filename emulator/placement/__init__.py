"""What this machine has, which workload holds it, and who waits for it."""
