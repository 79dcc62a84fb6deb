"""Under which name a user imports what is defined somewhere inside a package: read from its imports, nothing is run."""

import ast
from collections.abc import Iterator

DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Exports:
    """What modules offer from modules below their own package: `from .fluent import log_metric` in mlflow/__init__.py
    makes mlflow.tracking.fluent.log_metric known as mlflow.log_metric."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}  # defined name → names under which it is offered
        self.packages: set[str] = set()
        self.own: set[str] = set()  # defined in a package's `__init__.py`, or in its module's `__all__`
        self.stars: dict[str, list[str]] = {}  # module → modules that offer all of it

    def collect(self, tree: ast.Module, module: str, package: str) -> None:
        """What this module, which lies in this package, imports from below the package."""
        if module == package:
            self.packages.add(module)
            self.own |= {f"{module}.{node.name}" for node in tree.body if isinstance(node, DEFINITIONS)}
        for node in _top_level(tree):
            if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
                self.own |= {f"{module}.{name}" for name in _listed_in_all(node)}
            if not isinstance(node, ast.ImportFrom):
                continue
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            if not f"{origin}.".startswith(f"{package}."):
                continue  # what a module needs from elsewhere, it does not offer
            for alias in node.names:
                if alias.name == "*":
                    self.stars.setdefault(origin, []).append(module)
                else:
                    offered = f"{module}.{alias.asname or alias.name}"
                    self.names.setdefault(f"{origin}.{alias.name}", []).append(offered)

    def is_offered(self, defined: str) -> bool:
        """Whether some module offers it to users; what none does is internal."""
        return defined in self.own or self.best_name(defined) != defined

    def best_name(self, defined: str) -> str:
        """The shortest public name that leads to it, over as many imports as there are."""
        known = [defined]
        for name in known:  # grows while it is gone through
            module, _, last = name.rpartition(".")
            offered = [*self.names.get(name, ()), *(f"{star}.{last}" for star in self.stars.get(module, ()))]
            known += [new for new in dict.fromkeys(offered) if new not in known]
        return min(known, key=self._awkwardness)

    def _awkwardness(self, name: str) -> tuple[bool, int, bool, str]:
        return not is_public(name), depth(name), name.rpartition(".")[0] not in self.packages, name


def _top_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements of a module, also those inside its `if TYPE_CHECKING:` and `try:` blocks."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        block = waiting.pop()
        for node in ast.iter_child_nodes(block):
            if isinstance(node, ast.If | ast.Try | ast.ExceptHandler | ast.With):
                waiting.append(node)
            elif isinstance(node, ast.stmt):
                yield node


def _listed_in_all(node: ast.Assign | ast.AugAssign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if node.value is None or not any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
        return []
    constants = [item.value for item in ast.walk(node.value) if isinstance(item, ast.Constant)]
    return [value for value in constants if isinstance(value, str)]


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def depth(name: str) -> int:
    return name.count(".")
