"""Module 7: Production."""

from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = ()
