"""What this machine has and which job holds it."""
