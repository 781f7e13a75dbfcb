"""A simulator: the router's own scheduler, and others to compare it with, on a virtual clock."""
