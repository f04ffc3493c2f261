"""Where instances run; one package a runtime, all behind one protocol."""
