"""The control plane: the supervisor that owns all state, and the HTTP application around it."""
