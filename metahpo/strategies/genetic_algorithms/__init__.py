"""Genetic algorithms: a generational one, and the operators that it is made of."""
