"""Workloads in the database, and the questions about many of them."""
