"""Strategies whose members train on from round to round."""
