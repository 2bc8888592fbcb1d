"""The comparisons behind ``python -m metahpo compare``."""
