"""Module 8: optimisation."""
