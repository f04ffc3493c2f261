"""Where instances run; one file a runtime, all behind one protocol."""
