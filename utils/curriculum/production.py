"""Module 7: Production."""

from utils.curriculum.entries import Lesson

LESSONS: tuple[Lesson, ...] = ()
