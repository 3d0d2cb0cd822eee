"""The package's structure, from its syntax trees: imports, sizes, precision, side effects."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "jaxface"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each may import those to its left; a group imports from itself only where `_INNER` says so.
LAYERS = (
    ("_types", "errors", "_files", "_stored"),
    ("ops",),
    ("detect",),
    ("fit",),
    ("analyze",),
    ("_model",),
    ("_pipeline", "_several"),
    ("_results", "_programs", "_follow", "_stages", "_batch", "_devices", "_images"),
)
_INNER = {
    ("_stored", "_files"),
    ("_several", "_pipeline"),
    ("_follow", "_programs"),
    ("_stages", "_programs"),
    *(("_batch", name) for name in ("_results", "_programs", "_follow")),
    *(("_devices", name) for name in ("_results", "_programs", "_batch")),
    *(("_images", name) for name in ("_results", "_programs", "_batch")),
}
# Results turn into tables, and clips are read, where a batch leaves the device.
_EDGE = {
    ("_results", "output"),
    ("_batch", "output"),
    ("_batch", "io"),
    ("_devices", "io"),
    ("_images", "io"),
}
HOST = ("cli", "io", "openface", "output", "training", "_params")
_PURE = ("_types", "ops", "detect", "fit", "analyze", "_pipeline", "_several")
_MAX_MODULE = 500  # lines
_MAX_FUNCTION = 50
_HARD_FUNCTION = 80


@functools.cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def _group(path: Path) -> str:
    """First part of a module's name below `jaxface`."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def _imports(path: Path) -> list[str]:
    """Absolute names of all imports, those inside functions too."""
    package = ["jaxface", *path.relative_to(PACKAGE).parts[:-1]]
    names = []
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")]
            stem = ".".join(part for part in base if part)
            # `from .. import x` may name a module.
            names += [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
    return names


def _imported_at_once(path: Path) -> list[str]:
    """Names that importing a module imports."""
    names = []
    for node in _parse(path).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module or "")
    return names


def _groups_imported(path: Path) -> set[str]:
    """Groups of jaxface that a module imports, its own left out."""
    parts = [name.split(".") for name in _imports(path)]
    found = {name[1] for name in parts if name[0] == "jaxface" and len(name) > 1}
    return {group for group in found if _exists(group)} - {_group(path)}


def _exists(group: str) -> bool:
    return (PACKAGE / group).is_dir() or (PACKAGE / f"{group}.py").is_file()


def _id(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


each_module = pytest.mark.parametrize("path", MODULES, ids=_id)


def test_the_package_is_found():
    assert len(MODULES) > 50
    known = {name for layer in LAYERS for name in layer} | {*HOST, "reference", "__init__"}
    assert {_group(path) for path in MODULES} <= known
    assert "fit" in _groups_imported(PACKAGE / "_pipeline.py")


@each_module
def test_imports_point_left(path):
    group = _group(path)
    order = {name: level for level, layer in enumerate(LAYERS) for name in layer}
    if group not in order:
        return
    for other in _groups_imported(path):
        if (group, other) not in _INNER | _EDGE:
            assert other in order, f"{group} imports {other}, which is outside the core"
            assert order[other] < order[group], f"{group} imports {other}"


@each_module
def test_subpackages_are_imported_by_their_public_names(path):
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "jaxface" and len(parts) > 2 and parts[1] != _group(path):
            assert not parts[2].startswith("_"), f"imports {name}"


@each_module
def test_only_the_host_edge_imports_opencv(path):
    roots = {name.split(".")[0] for name in _imports(path)}
    assert "cv2" not in roots or _group(path) in ("io", "output", "training")


@each_module
def test_only_the_command_line_imports_training(path):
    assert "training" not in _groups_imported(path) or _group(path) == "cli"


_TRAINING_ONLY = {"matplotlib", "optax", "scipy"}


@each_module
def test_what_only_training_needs_is_imported_on_demand(path):
    roots = {name.split(".")[0] for name in _imports(path)}
    assert not roots & _TRAINING_ONLY or _group(path) == "training"
    top = {name.split(".")[0] for name in _imported_at_once(path)}
    assert not top & _TRAINING_ONLY


@each_module
def test_the_reference_stands_alone(path):
    if _group(path) == "reference":
        roots = {name.split(".")[0] for name in _imports(path)}
        assert not _groups_imported(path) and not roots & {"jax", "equinox", "cv2"}


@functools.cache
def _attributes(path: Path) -> frozenset[str]:
    """Dotted names such as `jax.config.update`."""
    return frozenset(ast.unparse(n) for n in ast.walk(_parse(path)) if isinstance(n, ast.Attribute))


@each_module
def test_jax_is_configured_by_the_command_line_alone(path):
    changes = {"jax.config.update", "config.update"} & _attributes(path)
    assert not changes or _group(path) == "cli"


@each_module
def test_the_core_is_float32_without_callbacks(path):
    if _group(path) not in _PURE:
        return
    names = _attributes(path)
    banned = {"jnp.float64", "jax.pure_callback", "jax.debug.callback", "io_callback"}
    assert not names & banned
    assert not any(name.startswith("jnp.linalg") for name in names)


@each_module
def test_only_the_batch_layer_compiles(path):
    if _group(path) in _PURE:
        assert not _attributes(path) & {"jax.jit", "eqx.filter_jit", "jax.pmap"}


@each_module
def test_products_of_matrices_name_their_precision(path):
    """Recent GPUs multiply in TF32 by default."""
    if _group(path) not in _PURE:
        return
    products = {"jnp.dot", "jnp.matmul", "jnp.einsum", "jnp.tensordot", "jnp.vdot", "jnp.inner"}
    products |= {"lax.dot_general", "lax.conv_general_dilated", "lax.dot"}
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in products:
            assert "precision" in {word.arg for word in node.keywords}, f"line {node.lineno}"


@each_module
def test_modules_and_functions_are_short(path):
    assert len(path.read_text().splitlines()) <= _MAX_MODULE
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            body = node.end_lineno - node.lineno + 1 - _docstring_lines(node)
            whole = node.end_lineno - node.lineno + 1
            assert body <= _MAX_FUNCTION, f"{node.name}: {body} lines"
            assert whole <= _HARD_FUNCTION, f"{node.name}: {whole} lines"


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node) is None:
        return 0
    end = node.body[0].end_lineno
    assert end is not None
    return end - node.body[0].lineno + 1


@each_module
def test_annotations_are_evaluated_and_arguments_named(path):
    assert not any(name.startswith("__future__") for name in _imports(path))
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.FunctionDef):
            assert node.args.kwarg is None, f"{node.name} takes **{node.args.kwarg}"


@each_module
def test_names_of_modules_say_something(path):
    assert path.stem.strip("_") not in ("utils", "util", "helpers", "misc", "common")
