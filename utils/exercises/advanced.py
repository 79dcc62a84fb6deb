"""Module 8: Advanced."""

from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = ()
