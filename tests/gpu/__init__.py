"""`scripts/check-gpu`: what only a machine with an NVIDIA GPU can show."""
