"""Which jobs run, one job's life, and the record that is kept of it."""
