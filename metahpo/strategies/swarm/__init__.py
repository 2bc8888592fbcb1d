"""Particle swarm optimisation."""
