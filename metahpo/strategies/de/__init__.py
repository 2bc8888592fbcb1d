"""Differential evolution, and the variants that learn its parameters."""
