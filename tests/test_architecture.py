"""The house rules that no other test sees: which module may import which, and what imports cost."""

import ast
import graphlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import danq_keras

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "danq_keras"
HEAVY = {"tensorflow", "keras", "torch"}
MOST_LINES = 520

# Top to bottom: a folder imports from those below it, and from none above.
FOLDERS = (
    "commands",
    "benchmarks",
    "runs",
    "tuning",
    "training",
    "variants",
    "evaluation",
    "interpret",
    "prediction",
    "models",
    "recipes",
    "draw",
    "data",
    "motifs",
    "genome",
    "system",
)
# These load no Keras; neither do `recipes` and the folders below it.
LIGHT = ("evaluation", "variants", "runs", "tuning")
HEAVY_MODULES = {
    "evaluation.evaluate",
    "variants.score",
    "variants.scorer",
    "runs.train_set",
    "runs.one_run",
    "runs.recipes",
    "tuning.worker",
    "system.slurm",
    "system.tensorflow",
}
TOP = {"__init__", "__main__"}


def folder_of(module: str) -> str:
    return module.split(".")[0]


def level_of(module: str) -> int:
    """The place of a module's folder in FOLDERS; the package itself is below all, and may be
    imported for its version by every module.
    """
    return len(FOLDERS) if module == "__init__" else FOLDERS.index(folder_of(module))


def package_modules() -> dict[str, Path]:
    """Dotted name below danq_keras → file; packages count as their __init__."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imported_names(source: str) -> set[str]:
    """Absolute dotted names of all imports, also those inside functions and conditions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            names |= {f"{prefix}.{alias.name}" for alias in node.names}
    return names


def own_imports(source: str, modules: set[str]) -> set[str]:
    """Modules of the package that `source` imports; the package itself is `__init__`."""
    own = set()
    for name in imported_names(source):
        parts = name.split(".")
        if parts[0] != "danq_keras":
            continue
        candidates = [".".join(parts[1:end]) for end in range(len(parts), 1, -1)]
        own.add(next((c for c in candidates if c in modules), "__init__"))
    return own


def import_graph() -> dict[str, set[str]]:
    modules = package_modules()
    names = set(modules)
    return {name: own_imports(path.read_text(), names) for name, path in modules.items()}


def test_reader_sees_lazy_aliased_and_relative_imports() -> None:
    source = (
        "import keras.ops as ops\n"
        "from danq_keras import store, __version__\n"
        "def f():\n    from danq_keras.models import unpack\n    import torch\n"
        "if True:\n    from danq_keras.commands import train\n"
        "from . import dna\n"
    )
    assert {"keras.ops", "torch", "..dna"} <= imported_names(source)
    modules = {"__init__", "store", "models", "commands.train"}
    assert own_imports(source, modules) == modules


def test_the_package_is_these_folders() -> None:
    assert {folder_of(module) for module in package_modules()} == {*FOLDERS, *TOP}
    tests = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    assert tests - {"__pycache__", "faults"} <= {*FOLDERS}


def test_imports_point_downwards() -> None:
    wrong = [
        f"{module} → {imported}"
        for module, imports in import_graph().items()
        for imported in sorted(imports)
        if module not in TOP and level_of(imported) < level_of(module)
    ]
    assert not wrong


def test_no_import_cycle() -> None:
    graph = import_graph()
    graph["__init__"] = set()  # whose imports wait until a function is asked for
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"modules import each other: {' → '.join(error.args[1])}")


def test_no_relative_imports() -> None:
    relative = [
        module
        for module, path in package_modules().items()
        if any(name.startswith(".") for name in imported_names(path.read_text()))
    ]
    assert not relative


def is_light(module: str) -> bool:
    if module in TOP or module in HEAVY_MODULES:
        return False
    return folder_of(module) in LIGHT or level_of(module) >= FOLDERS.index("recipes")


def test_light_modules_import_no_tensorflow() -> None:
    wrong = [
        f"{module}: {name}"
        for module, path in package_modules().items()
        if is_light(module)
        for name in sorted(imported_names(path.read_text()))
        if name.split(".")[0] in HEAVY
    ]
    assert not wrong


def test_modules_are_of_readable_size() -> None:
    long = {
        name: n_lines
        for name, path in package_modules().items()
        if (n_lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long


def run_python(code: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_light_modules_load_neither_tensorflow_nor_keras() -> None:
    """The package, all light modules and all parsers, in one fresh process."""
    light = [module for module in package_modules() if is_light(module)]
    parsers = [
        name
        for name, path in package_modules().items()
        if name.startswith("commands.") and "\ndef parser(" in path.read_text()
    ]
    assert len(parsers) >= 4
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1].split():\n"
        "    importlib.import_module('danq_keras.' + name)\n"
        "for name in sys.argv[2].split():\n"
        "    importlib.import_module('danq_keras.' + name).parser()\n"
        f"print(sorted({HEAVY} & set(sys.modules)))\n"
    )
    loaded = run_python(code, " ".join(light), " ".join(parsers))
    assert loaded.strip() == "[]"


_RUN_SCRIPT = f"""
import contextlib, io, json, runpy, sys
script, answers = sys.argv[1], {{}}
for flag in ("--help", "--version"):
    sys.argv = [script, flag]
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code or 0
    answers[flag] = [status, out.getvalue()]
answers["heavy"] = sorted({HEAVY} & set(sys.modules))
print(json.dumps(answers))
"""

SCRIPTS = sorted(path.name for path in (ROOT / "bin").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_say_help_and_version_without_tensorflow(script: str) -> None:
    answers = json.loads(run_python(_RUN_SCRIPT, str(ROOT / "bin" / script)))
    status, text = answers["--help"]
    assert status == 0
    assert script in text
    assert "example" in text.lower()
    status, text = answers["--version"]
    assert status == 0
    assert danq_keras.__version__ in text
    assert answers["heavy"] == []


def test_scripts_are_installed_too() -> None:
    """Each bin/ script calls the main of a console script of the wheel, and the reverse."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    mains = {target.removesuffix(":cli") for target in project["scripts"].values()}
    called = {
        name.removesuffix(".cli")
        for script in SCRIPTS
        for name in imported_names((ROOT / "bin" / script).read_text())
        if name.endswith(".cli")
    }
    assert called == mains
