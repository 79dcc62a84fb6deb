"""Arithmetic for agents: an expression is parsed and walked, never run as code.

What a model sends may be anything. Every refusal is a text that begins with `error:`, so that the model can read it and
try again, and none takes longer than a few milliseconds, however long or deep the expression is.
"""

import ast
import math
import operator
from collections.abc import Callable

Number = int | float
MAX_CHARACTERS = 300
MAX_DEPTH = 150  # operations inside each other
LARGEST = 1e15  # of any step: up to here a float still holds every whole number
DIGITS = 12  # of a result that is not whole
FUNCTIONS: dict[str, Callable[..., Number]] = {
    "sqrt": math.sqrt,
    "abs": abs,
    "round": round,
    "min": min,
    "max": max,
    "floor": math.floor,
    "ceil": math.ceil,
}
OPERATORS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class CalculatorError(ValueError):
    """The expression cannot be calculated; the message says why, in words for a model."""


def calculate(expression: str) -> str:
    """The value as text ("84", "0.25"), or "error: …" with the reason. Never raises for a text."""
    try:
        return format_number(evaluate(expression))
    except CalculatorError as error:
        return f"error: {error}"


def evaluate(expression: str) -> Number:
    """The value of an expression of numbers, + - * / // % ** (or ^), brackets and a few functions.

    Raises:
        CalculatorError: it is too long, no arithmetic, divides by zero, or a step is beyond LARGEST.
    """
    text = expression.strip()
    if not text:
        raise CalculatorError("the expression is empty")
    if len(text) > MAX_CHARACTERS:
        raise CalculatorError(f"the expression has {len(text)} characters; at most {MAX_CHARACTERS} are calculated")
    try:
        tree = ast.parse(text.replace("^", "**").replace("×", "*").replace("÷", "/").replace("−", "-"), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise CalculatorError(
            "this is no arithmetic expression; write it like 3 * (4 + 5), and 1200 for 1,200"
        ) from error
    try:
        return _value(tree.body, 0)
    except ZeroDivisionError as error:
        raise CalculatorError("division by zero") from error
    except (OverflowError, TypeError, ValueError) as error:
        if isinstance(error, CalculatorError):
            raise
        raise CalculatorError(f"the expression has no value: {error}") from error


def format_number(value: Number) -> str:
    """Whole numbers without a point, others with at most DIGITS digits."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.{DIGITS}g}"
    return str(int(value))


def _value(node: ast.expr, depth: int) -> Number:
    if depth > MAX_DEPTH:
        raise CalculatorError(f"more than {MAX_DEPTH} operations inside each other")
    match node:
        case ast.Constant(value=bool() | complex()):
            raise CalculatorError("only plain numbers can be calculated with")
        case ast.Constant(value=int() | float() as number):
            return _within(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, depth + 1)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left, depth + 1), _value(right, depth + 1))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return _within(OPERATORS[type(op)](_value(left, depth + 1), _value(right, depth + 1)))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return _within(FUNCTIONS[name](*(_value(argument, depth + 1) for argument in arguments)))
        case ast.Tuple():
            raise CalculatorError("a comma does not belong here: write 1200, not 1,200")
    raise CalculatorError(
        f"{_short(node)} is not allowed: use numbers, + - * / // % **, brackets and {', '.join(FUNCTIONS)}"
    )


def _power(base: Number, exponent: Number) -> Number:
    """Looks at the size of the result before it is made: 9 ** 9 ** 9 has 369 million digits."""
    if base and abs(exponent) * abs(math.log10(abs(base))) > math.log10(LARGEST) and abs(base) != 1:
        raise CalculatorError(f"the result of ** is beyond {LARGEST:.0e}, or too close to 0")
    result = base**exponent
    if isinstance(result, complex):
        raise CalculatorError("the result is no real number")
    return _within(result)


def _within(value: Number) -> Number:
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise CalculatorError(f"a number is beyond {LARGEST:.0e}")
    return value


def _short(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 40 else f"{text[:37]}…"
