"""The one SQLite file; see jobs/store.py for what is in it."""
