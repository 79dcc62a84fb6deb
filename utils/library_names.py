"""Under which name a user imports what is defined somewhere inside a package: read from its imports, nothing is run."""

import ast


class Exports:
    """What modules offer from modules below their own package: `from .fluent import log_metric` in mlflow/__init__.py
    makes mlflow.tracking.fluent.log_metric known as mlflow.log_metric."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}  # defined name → names under which it is offered
        self.packages: set[str] = set()
        self.stars: dict[str, list[str]] = {}  # module → modules that offer all of it

    def collect(self, tree: ast.Module, module: str, package: str) -> None:
        """What this module, which lies in this package, imports from below the package."""
        if module == package:
            self.packages.add(module)
        for node in ast.walk(tree):
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


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def depth(name: str) -> int:
    return name.count(".")
