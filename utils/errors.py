"""Errors that a user can mend: each says what is wrong and what to type next."""


class UserError(Exception):
    """A problem outside the code. Commands print it as two lines, `error:` and `try:`, and exit with its status."""

    exit_status = 2  # wrong use, or something is missing

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(f"{problem} ({cure})")
        self.problem = problem
        self.cure = cure

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, str]]:
        """Raised in another process it arrives here as it was."""
        return type(self), (self.problem, self.cure)


class InputError(UserError):
    """A file, a folder or a value that the user gave cannot be used."""


class JobFailed(UserError):
    """Not a single row or question got an answer."""

    CURE = "uv run mlflow-learn doctor   (is the model server still there?)"


class CheckFailed(UserError):
    """The work was done, and a check of what it left says no."""

    exit_status = 1
