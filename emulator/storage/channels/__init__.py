"""How data gets into a training job; one file an input mode."""
