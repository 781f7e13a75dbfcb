"""Measures the router side by side with llama-server's own router mode, in one run on one machine."""
