"""Module 6: Evaluation."""

from utils.curriculum.entries import Lesson

LESSONS: tuple[Lesson, ...] = ()
