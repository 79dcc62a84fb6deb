"""Arithmetic with dates for agents. A date that cannot be read is a text that begins with `error:`."""

from datetime import date, timedelta


class DateError(ValueError):
    """The text is no date; the message says how to write one."""


def parse_date(text: str) -> date:
    """YYYY-MM-DD or `today` as a date.

    Raises:
        DateError: it is neither, or there is no such day.
    """
    plain = text.strip()
    if plain.lower() == "today":
        return date.today()
    try:
        return date.fromisoformat(plain)
    except ValueError as error:
        raise DateError(f"{plain[:40]!r} is no date: write a day that exists as YYYY-MM-DD, or today") from error


def days_between(start: str, end: str) -> str:
    """How many days lie from start to end ("30 days"); negative when the end comes first."""
    try:
        return f"{(parse_date(end) - parse_date(start)).days} days"
    except DateError as error:
        return f"error: {error}"


def add_days(start: str, days: int) -> str:
    """The day that many days after start, before it when negative: "2026-04-01 (Wednesday)"."""
    try:
        day = parse_date(start) + timedelta(days=days)
    except DateError as error:
        return f"error: {error}"
    except OverflowError:
        return f"error: {days} days from {start.strip()[:40]} is outside the calendar"
    return f"{day.isoformat()} ({day:%A})"
