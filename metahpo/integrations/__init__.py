"""Bridges to libraries of others, one folder or file each; importing one needs its extra."""
