"""CMA-ES, alone and with restarts."""
