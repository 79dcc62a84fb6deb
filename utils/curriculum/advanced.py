"""Module 8: Advanced."""

from utils.curriculum.entries import Lesson

LESSONS: tuple[Lesson, ...] = ()
