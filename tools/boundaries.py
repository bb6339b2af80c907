"""Which folder may import which: the floors of the house, checked. `python tools/boundaries.py [PACKAGE FOLDER]`."""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

PACKAGE = "headrace"

# A file imports lower floors and its own folder; what shares a floor does not import each other.
FLOORS = {
    "errors": 1,
    "model": 1,
    "sql": 2,
    "settings": 2,
    "ports": 3,
    "waiting": 3,
    "seam": 3,
    "declare": 3,
    "formats": 4,
    "flow": 5,
    "adapters": 5,
    "wiring": 6,
    "app": 7,
    "http": 8,
    "ops": 8,
    "testing": 8,
    "cli": 9,
    "__init__": 10,  # the public names
    "__main__": 10,
}
NEIGHBOURS = {("model", "errors")}  # (who, whom): allowed though they share a floor
ONLY = {"adapters": {"wiring"}}  # places with one door: nobody else imports them, whatever the floor
# Where each library outside the standard one may be imported.
LIBRARIES = {
    "apsw": ["adapters/sqlite*"],
    "argon2": ["http/*"],
    "asyncssh": ["adapters/sftp*"],
    "cassandra": ["adapters/cassandra*"],
    "click": ["cli/*"],
    "confluent_kafka": ["adapters/kafka*"],
    "deltalake": ["adapters/delta*"],
    "duckdb": ["adapters/duckdb*"],
    "faker": ["projects/telecom/original*"],
    "greenlet": ["waiting*"],
    "jinja2": ["http/*"],
    "msgspec": ["http/*", "seam/*", "adapters/*", "cli/*"],
    "prometheus_client": ["ops/*"],
    "psycopg": ["adapters/postgres*"],
    "pyarrow": ["formats/*", "adapters/*", "flow/*"],
    "rich": ["cli/*"],
    "sqlglot": ["sql/*"],
    "starlette": ["http/*"],
    "uvicorn": ["http/*"],
}
OPT_OUT = re.compile(r"#\s*boundary:\s*\S")


@dataclass(frozen=True, order=True)
class Import:
    line: int
    target: str  # full name of the module; for a name of the package itself, "headrace:name"
    at_import: bool  # runs while the module is being imported, so it can close a circle
    allowed: bool  # carries an opt-out with a reason


@dataclass(frozen=True, order=True)
class Fault:
    path: Path
    line: int
    rule: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.what}\n    {self.fix}"


def modules(root: Path) -> dict[str, Path]:
    """Name → file of every module in the package; a package goes by its folder's name."""
    files = {path: path.relative_to(root).with_suffix("").parts for path in sorted(root.rglob("*.py"))}
    return {".".join((PACKAGE, *parts)).removesuffix(".__init__"): path for path, parts in files.items()}


def place(module: str) -> str:
    """The row of FLOORS that a module stands in; of `projects`, the single project."""
    parts = module.split(".")[1:] or ["__init__"]
    return "/".join(parts[:2]) if parts[0] == "projects" else parts[0]


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[Import]:
    source = path.read_text("utf-8")
    lines = source.splitlines()

    def visit(node: ast.AST, at_import: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
            allowed = any(OPT_OUT.search(line) for line in lines[node.lineno - 1 : node.end_lineno])
            for target in named(node, name, path, known):
                yield Import(node.lineno, target, at_import, allowed)
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            type_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and child in node.body
            yield from visit(child, at_import and not later and not type_only)

    yield from visit(ast.parse(source, str(path)), at_import=True)


def named(node: ast.Import | ast.ImportFrom | ast.Call, name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """What one statement imports, also when it does so by `import_module("...")`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = name.split(".")
            above = above[: len(above) - node.level + (path.name == "__init__.py")]
            base = ".".join([*above, *base.split(".")] if base else above)
        for alias in node.names:
            whole = f"{base}.{alias.name}"
            yield whole if whole in known else f"{PACKAGE}:{alias.name}" if base == PACKAGE else base
    elif ast.unparse(node.func).endswith("import_module") and node.args:
        target = node.args[0]
        if isinstance(target, ast.Constant) and isinstance(target.value, str) and not target.value.startswith("."):
            yield target.value


def fault(name: str, relative: str, target: str) -> tuple[str, str, str] | None:
    """The rule that one import breaks, what it did, and the fix."""
    here, top = place(name), re.split("[.:]", target, maxsplit=1)[0]
    if top != PACKAGE:
        if top in LIBRARIES:
            if any(fnmatch(relative, pattern) for pattern in LIBRARIES[top]):
                return None
            fix = f"only {' or '.join(LIBRARIES[top])} may: put what needs it there, or behind a port"
            return "library", f"{relative} imports {top}", fix
        if top in sys.stdlib_module_names:
            return None
        return "library", f"{top} has no place yet", "add it to LIBRARIES in tools/boundaries.py and to pyproject.toml"
    if here.startswith("projects/"):
        if ":" in target or target == PACKAGE or place(target) == here:
            return None
        return "public names", f"a project imports {target}", f"use `from {PACKAGE} import ...`, as users' projects do"
    if ":" in target or target == PACKAGE:
        if ":__" in target:
            return None  # __version__ and the like are made in headrace/__init__.py itself
        return "public names", f"{here} imports {target}", "those are for users: import the module that makes it"
    there = place(target)
    if there == here:
        return None
    if there.startswith("projects"):
        return "projects", f"{here} imports {there}", "the engine knows no project by name: find it by its folder"
    if there not in FLOORS:
        return None  # reported once, at the file itself
    if there in ONLY and here not in ONLY[there]:
        return "door", f"{here} imports {there}", f"only {' and '.join(ONLY[there])} may: take the port as a parameter"
    if FLOORS[there] >= FLOORS[here] and (here, there) not in NEIGHBOURS:
        same = "the same floor" if FLOORS[there] == FLOORS[here] else "a higher floor"
        fix = "move what both need to a lower floor, or take it as a parameter"
        return "floor", f"{here} ({FLOORS[here]}) imports {there} ({FLOORS[there]}), {same}", fix
    return None


def circles(edges: dict[str, dict[str, int]]) -> Iterator[list[str]]:
    """Each circle by the first way found round it, from its first module in the alphabet."""
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> Iterator[list[str]]:
        if module in way:
            ring = way[way.index(module) :]
            first = ring.index(min(ring))
            yield ring[first:] + ring[:first]
        elif module not in done:
            for target in sorted(edges.get(module, ())):
                yield from walk(target, [*way, module])
            done.add(module)

    for module in sorted(edges):
        yield from walk(module, [])


def faults(root: Path) -> list[Fault]:
    known = modules(root)
    found: list[Fault] = []
    edges: dict[str, dict[str, int]] = {}
    for name, path in known.items():
        relative = path.relative_to(root).as_posix()
        here = place(name)
        if here not in FLOORS and not here.startswith("projects"):
            fix = f"add {here} to FLOORS in tools/boundaries.py, and say in the documentation what belongs there"
            found.append(Fault(path, 1, "floor", f"{here} stands on no floor", fix))
            continue
        for each in imports(name, path, known):
            broken = fault(name, relative, each.target)
            if broken and not each.allowed:
                found.append(Fault(path, each.line, *broken))
                continue  # one cause, one fault: not a circle besides
            if each.allowed and not broken:
                fix = "take the `# boundary:` comment away"
                found.append(Fault(path, each.line, "opt-out", "nothing here needs one", fix))
            if each.at_import and each.target in known and each.target not in {name, PACKAGE}:
                edges.setdefault(name, {}).setdefault(each.target, each.line)
    for way in circles(edges):
        what = " → ".join([*way, way[0]]).replace(f"{PACKAGE}.", "")
        line = edges[way[0]][way[1 % len(way)]]
        found.append(Fault(known[way[0]], line, "circle", what, "move what closes it to a module below all of them"))
    return sorted(set(found))


def main(root: Path) -> int:
    found = faults(root)
    for each in found:
        print(each)
    print(f"boundaries: {len(modules(root))} modules, {len(found) or 'none'} broken")
    return 1 if found else 0


if __name__ == "__main__":
    default = Path(__file__).resolve().parent.parent / "src" / PACKAGE
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else default))
