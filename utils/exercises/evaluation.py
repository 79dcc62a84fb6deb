"""Module 6: Evaluation."""

from utils.exercises.entries import Exercise

EXERCISES: tuple[Exercise, ...] = ()
