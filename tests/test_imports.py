"""What importing inward costs, and which way its imports point."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import inward

SOURCE = Path(inward.__file__).parent
HEAVY = (
    *("matplotlib", "jax", "ray", "sklearn", "skimage", "torchvision", "timm"),
    *("av", "fastapi", "starlette", "uvicorn", "rich", "cyclopts", "onnx"),
)
# Each may import the layers named here (and itself); errors, types and version anybody may.
LAYERS: dict[str, set[str]] = {
    "network": set(),
    "columns": {"network"},
    "gradient": {"columns", "network"},
    "row": {"columns", "network"},
    "ascent": {"columns", "network", "gradient", "row"},
    "quadrature": {"gradient"},
    "runs.record": {"network"},
    "results": {"columns", "network", "runs.record", "runs.folder", "notebook"},
    "methods": {"columns", "network", "gradient", "quadrature", "ascent", "pictures", "results", "runs.record"},
    "scoring": {"columns", "gradient", "methods", "network", "results"},
    "decoding": set(),
    "pictures": {"decoding", "network"},
    "studies": {
        *("columns", "data", "decoding", "draw", "gradient", "methods", "nets", "network", "pictures", "results"),
        "training",
    },
    "draw": set(),
    "nets": {"draw", "network"},
    "data": {"decoding"},
    "training": {"data", "draw", "network"},
    "figures": {"draw", "network", "results"},
    "architecture": {"network"},
    "wiring": {"network"},
    "choices": {"columns", "methods"},
    "notebook": {"draw", "figures", "results"},
    "runs.folder": {"draw", "figures", "methods", "network", "results", "runs.record"},
    "runs.film": {"ascent", "draw", "runs.folder"},
    "runs.steps": {"network", "row", "runs.film"},
    "atlas": {
        *("ascent", "columns", "draw", "methods", "network", "results", "studies"),
        *("runs.film", "runs.folder", "runs.record", "runs.steps"),
    },
    "runs": {"methods", "network", "results", "runs.folder", "runs.record"},
    "terminal": set(),
}
ANYBODY = {"errors", "types", "version"}
# What only a save or a notebook needs is imported by the method that needs it, not with the module.
LATE = {("results", "runs.folder"), ("results", "notebook")}
# What users enter by; no layer above may import them.
INTERFACES = {
    "cli",
    "commands",
    "options",
    "asked",
    "atlas_command",
    "attack_command",
    "explain_command",
    "evaluate_command",
    "redraw_command",
    "train_command",
    "serve_command",
    "explore",
    "site_command",
    "site",
    "server",
    "demo",
    "study",
    "__main__",
    "__init__",
}


def layer_of(module: str) -> str:
    """inward.network.graph -> network; inward.runs.record -> runs.record, where that has a line of its own."""
    parts = module.split(".")[1:]
    pair = ".".join(parts[:2])
    return pair if pair in LAYERS or any(pair in allowed for allowed in LAYERS.values()) else (parts or ["__init__"])[0]


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def module_of(file: Path) -> str:
    return ".".join(("inward", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def imports_of(file: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether it does so only in a function or for types."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    late: set[ast.AST] = set()
    for node in ast.walk(tree):
        checks_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or checks_types:
            late |= set(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            assert node.module is not None
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in inside if (SOURCE.parent / name.replace(".", "/")).with_suffix(".py").exists()]
            packages = [name for name in inside if (SOURCE.parent / name.replace(".", "/")).is_dir()]
            yield from ((name, node in late) for name in modules + packages or [node.module])


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_point_one_way(file: Path) -> None:
    module = module_of(file)
    layer = layer_of(module)
    if layer in INTERFACES | ANYBODY:
        return
    assert layer in LAYERS, f"{layer} is new: give it a line in the table above"
    for name, late in imports_of(file):
        if name.split(".")[0] != "inward":
            continue
        other = layer_of(name)
        assert other == layer or other in LAYERS[layer] | ANYBODY, f"{module} imports {name}"
        if (layer, other) in LATE:
            assert late, f"{module} imports {name} at once; it is needed only later"


def test_the_table_of_layers_has_no_circle() -> None:
    """But for what is imported late, a layer never needs itself."""
    at_once = {a: {b for b in others if (a, b) not in LATE} for a, others in LAYERS.items()}

    def below(layer: str, seen: tuple[str, ...] = ()) -> None:
        assert layer not in seen, f"{' -> '.join(seen)} -> {layer}"
        for other in at_once.get(layer, ()):
            below(other, (*seen, layer))

    for layer in at_once:
        below(layer)


def test_what_must_not_be_imported_is_seen() -> None:
    """The table's own check: these would be refused."""
    assert "methods" not in LAYERS["network"] | LAYERS["columns"] | LAYERS["gradient"] | LAYERS["ascent"]
    assert not {"columns", "gradient", "ascent"} & LAYERS["network"]
    assert not INTERFACES & set().union(*LAYERS.values())
    assert layer_of("inward.runs.record") == "runs.record"
    assert layer_of("inward.runs.rerun") == "runs"
    assert layer_of("inward.network.graph") == "network"
    found = dict(imports_of(SOURCE / "results" / "base.py"))
    assert found["inward.runs.folder"] is True
    assert found["inward.runs.record"] is False


def test_import_is_light() -> None:
    """In a process of its own: these take seconds, and are not there everywhere."""
    program = f"import sys, inward; print(*[m for m in {HEAVY} if m in sys.modules]); print(len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    heavy, count = done.stdout.splitlines()
    assert heavy == ""
    assert int(count) > 100  # torch was imported: the program ran
    assert done.stderr == ""


def test_public_names_are_there() -> None:
    assert sorted(inward.__all__) == list(dict.fromkeys(sorted(inward.__all__)))
    for name in inward.__all__:
        assert getattr(inward, name) is not None
        assert name == "__version__" or name == "TABLE" or getattr(inward, name).__doc__
