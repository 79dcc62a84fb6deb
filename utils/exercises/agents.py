"""Module 4: Agents."""

from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = ()
