"""Module 4: Agents."""

from utils.curriculum.entries import Lesson

LESSONS: tuple[Lesson, ...] = ()
