"""The package's structure, from its syntax trees: imports, sizes, precision, side effects.

One test per rule; each names every place that breaks it.
"""

import ast
import collections
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "jaxface"

# From the ground up: each imports only from what stands before it, not from what stands beside it.
ORDER = (
    ("types", "errors"),
    ("_files",),
    ("io", "output"),
    ("ops",),
    ("detect",),
    ("fit",),
    ("track", "analyze"),
    ("models",),
    ("pipeline",),
    ("run", "training"),
    ("cli",),
    ("comparison",),  # of `reference`: compares us with OpenFace, by public names
)
LEVEL = {name: level for level, layer in enumerate(ORDER) for name in layer}
CORE = ("types", "ops", "detect", "fit", "track", "analyze", "pipeline")  # nothing but arithmetic
HOST_EDGE = ("io", "output")
_MAX_ENTRIES, _MAX_MODULES = 18, 5  # of `jaxface/`
_MAX_MODULE = 500  # lines
_MAX_FUNCTION = 50  # lines without the docstring
_MAX_WHOLE_FUNCTION = 80  # lines
_FEW_PRIVATE = 9  # private names that the tests import

Names = tuple[str, ...]


@functools.cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def _module_names() -> dict[Names, Path]:
    """Every module and package by the parts of its name: ("jaxface", "fit", "_pdm")."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("jaxface", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[parts[:-1] if parts[-1] == "__init__" else parts] = path
    return found


MODULES = _module_names()


def _group(name: Names) -> str:
    """Where a module stands in `ORDER`; "" for the package's own `__init__`."""
    if name[1:3] == ("reference", "comparison"):
        return "comparison"  # the references themselves import nothing of ours
    return name[1] if len(name) > 1 else ""


def _package(name: Names) -> Names:
    """The package that a module lies in; a package lies in itself."""
    return name if MODULES[name].name == "__init__.py" else name[:-1]


def _spelled(node: ast.AST, package: Names) -> Iterator[Names]:
    """Parts of the absolute names that an import statement names, none for other statements."""
    if isinstance(node, ast.Import):
        yield from (tuple(alias.name.split(".")) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else ()
        stem = (*base, *(node.module.split(".") if node.module else ()))
        yield from ((*stem, alias.name) for alias in node.names)


def _imports(name: Names) -> list[Names]:
    """What a module imports anywhere, down to the name: ("jaxface", "fit", "CLNF")."""
    tree = ast.walk(_parse(MODULES[name]))
    return [found for node in tree for found in _spelled(node, _package(name))]


def _loaded(name: Names) -> list[Names]:
    """What importing a module imports: not what functions and type checkers import."""

    def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            yield node
            yield from statements(c for c in ast.iter_child_nodes(node) if isinstance(c, ast.stmt))

    body = statements(_parse(MODULES[name]).body)
    return [found for node in body for found in _spelled(node, _package(name))]


def _target(name: Names) -> Names:
    """The module of ours that an imported name lies in, () for others."""
    while name and name not in MODULES:
        name = name[:-1]
    return name


def _shared(name: Names, other: Names) -> int:
    """How many parts two names have in common before they separate."""
    pairs = zip(name, other, strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _where(name: Names) -> str:
    return ".".join(name)


def _roots(names: Iterable[Names]) -> set[str]:
    return {name[0] for name in names}


def _groups_imported(name: Names) -> set[str]:
    """Groups of `ORDER` and others that a module imports, its own left out."""
    targets = [_target(found) for found in _imports(name)]
    return {_group(target) for target in targets if target} - {_group(name)}


def _offenders(finds: Callable[[Names], Iterable[str]], groups: Iterable[str] = ()) -> list[str]:
    """What a check finds in every module of some groups, of all by default."""
    chosen = set(groups) or {_group(name) for name in MODULES}
    return [
        f"{_where(name)}: {found}"
        for name in MODULES
        if _group(name) in chosen
        for found in finds(name)
    ]


@functools.cache
def _attributes(name: Names) -> frozenset[str]:
    """Dotted names such as `jax.config.update`, also those that `from jax import jit` gives."""
    tree = _parse(MODULES[name])
    spelled = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return frozenset(spelled | {_where(found) for found in _imports(name)})


def _functions(name: Names) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.walk(_parse(MODULES[name]))
    return [node for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


# The tree


def test_the_package_is_found():
    """Else the checks below would pass because they look at nothing."""
    assert len(MODULES) > 100
    groups = {_group(name) for name in MODULES}
    assert {*LEVEL} - {"comparison"} <= groups <= {*LEVEL, "reference", ""}
    homes = {path.parent for path in MODULES.values()}
    assert [str(home) for home in homes if not (home / "__init__.py").is_file()] == []
    assert {"fit", "models"} <= _groups_imported(("jaxface", "pipeline", "_frame"))
    assert ("numpy",) in _loaded(("jaxface", "ops", "double"))


def test_the_top_level_holds_few_things():
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= _MAX_ENTRIES, sorted(path.name for path in entries)
    modules = [path.name for path in entries if path.suffix == ".py"]
    assert len(modules) <= _MAX_MODULES, sorted(modules)


def test_names_of_modules_say_something():
    empty = {"utils", "util", "helpers", "misc", "common"}
    assert [_where(name) for name in MODULES if name[-1].strip("_") in empty] == []


def test_modules_and_functions_are_short():
    def long(name: Names) -> Iterator[str]:
        lines = len(MODULES[name].read_text().splitlines())
        if lines > _MAX_MODULE:
            yield f"{lines} lines"
        for node in _functions(name):
            assert node.end_lineno is not None
            whole = node.end_lineno - node.lineno + 1
            if whole - _docstring_lines(node) > _MAX_FUNCTION or whole > _MAX_WHOLE_FUNCTION:
                yield f"{node.name}, {whole} lines"

    assert _offenders(long) == []


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node) is None:
        return 0
    end = node.body[0].end_lineno
    assert end is not None
    return end - node.body[0].lineno + 1


# Imports


def test_imports_point_down():
    # The command line states the version, which the package's own module holds.
    allowed = {"cli": [""], "comparison": ["", "reference"]}

    def upwards(name: Names) -> Iterator[str]:
        for other in _groups_imported(name):
            if other not in LEVEL or LEVEL[other] >= LEVEL[_group(name)]:
                if other not in allowed.get(_group(name), ()):
                    yield f"imports {other or 'jaxface'}"

    assert _offenders(upwards, LEVEL) == []


def test_no_module_imports_itself_in_a_circle():
    edges = {name: {_target(found) for found in _loaded(name)} - {(), name} for name in MODULES}
    assert _circle(edges) == []


def test_no_package_imports_itself_in_a_circle():
    """What lies in a package, modules and sub-packages taken whole, imports in one direction."""
    edges: dict[Names, set[Names]] = collections.defaultdict(set)
    for name in MODULES:
        for target in filter(None, map(_target, _loaded(name))):
            depth = _shared(name, target)
            if depth < min(len(name), len(target)):  # else one is an `__init__` above the other
                edges[name[: depth + 1]].add(target[: depth + 1])
    assert _circle(edges) == []


def _circle(edges: dict[Names, set[Names]]) -> list[str]:
    """Nodes of one circle in a graph, none where there is no circle."""
    left = dict(edges)
    # What imports nothing that is left is in no circle.
    while free := [node for node, others in left.items() if not others & left.keys()]:
        for node in free:
            del left[node]
    if not left:
        return []
    node, path = next(iter(left)), []
    while node not in path:
        path.append(node)
        node = min(left[node] & left.keys())
    return [_where(node) for node in path[path.index(node) :]]


def test_a_circle_is_found():
    a, b, c, d = (("a",), ("b",), ("c",), ("d",))
    assert sorted(_circle({a: {b}, b: {c}, c: {d, b}, d: set()})) == ["b", "c"]
    assert _circle({a: {b, c}, b: {c}, c: {d}, d: set()}) == []


def test_packages_are_imported_by_their_public_names():
    """From outside, by what their `__init__` gives; this holds for nested packages too."""

    def private(name: Names) -> Iterator[str]:
        home = _package(name)
        for found in _imports(name):
            if found[0] != "jaxface":
                continue
            # The part at which the two ways separate lies beside us, or beside a package around us.
            if any(part.startswith("_") for part in found[_shared(home, found) + 1 :]):
                yield f"imports {_where(found)}"

    assert [f for f in _offenders(private) if not f.endswith("jaxface.__version__")] == []


def test_only_the_host_edge_imports_opencv_and_av():
    def decodes(name: Names) -> set[str]:
        return {f"imports {root}" for root in _roots(_imports(name)) & {"cv2", "av"}}

    assert _offenders(decodes, {*LEVEL, "reference", ""} - {*HOST_EDGE, "training"}) == []


def test_only_the_host_side_imports_the_host_edge():
    def edge(name: Names) -> set[str]:
        return {f"imports {other}" for other in _groups_imported(name) & {*HOST_EDGE}}

    # `jaxface.__init__` gives public names of both, on demand.
    assert _offenders(edge, {*LEVEL, "reference"} - {"run", "cli", "training", "comparison"}) == []


def test_only_the_command_line_imports_training():
    def trains(name: Names) -> set[str]:
        return {f"imports {other}" for other in _groups_imported(name) & {"training"}}

    assert _offenders(trains, {*LEVEL, "reference", ""} - {"cli"}) == []


def test_what_only_training_needs_is_imported_on_demand():
    heavy = {"matplotlib", "optax", "scipy"}
    # One draws with matplotlib, too, the other's annotations name its figures.
    figures = (("jaxface", "output", "_plot"), ("jaxface", "run", "_results"))

    def needs(name: Names) -> Iterator[str]:
        if _group(name) != "training":
            allowed = {"matplotlib"} if name in figures else set()
            yield from _roots(_imports(name)) & heavy - allowed
        yield from _roots(_loaded(name)) & heavy

    assert _offenders(needs) == []


def test_the_package_loads_nothing_by_itself():
    """So that `jaxface --help` needs no JAX."""
    loaded = [name for name in _loaded(("jaxface",)) if name[:2] != ("jaxface", "errors")]
    assert _roots(loaded) <= {"importlib", "lazy_loader", "warnings", "typing"}
    assert _roots(_loaded(("jaxface", "errors"))) <= {"os", "pathlib", "sys"}


def test_the_reference_stands_alone():
    def leans(name: Names) -> set[str]:
        used = _roots(_imports(name)) & {"jax", "equinox", "cv2"}
        return used | {other or "jaxface" for other in _groups_imported(name)}

    assert _offenders(leans, ["reference"]) == []


def test_annotations_are_evaluated_and_arguments_named():
    def lazy(name: Names) -> Iterator[str]:
        if "__future__" in _roots(_imports(name)):
            yield "imports __future__"
        for node in _functions(name):
            if node.args.kwarg is not None:
                yield f"{node.name} takes **{node.args.kwarg.arg}"

    assert _offenders(lazy) == []


# Arithmetic


def test_jax_is_configured_by_the_command_line_alone():
    def configures(name: Names) -> Iterable[str]:
        return {"jax.config.update", "config.update"} & _attributes(name)

    assert _offenders(configures, {*LEVEL, "reference", ""} - {"cli"}) == []


def test_the_core_is_float32_without_callbacks():
    banned = {
        *("jnp.float64", "jax.numpy.float64", "jax.enable_x64", "jax.experimental.enable_x64"),
        *("jax.pure_callback", "jax.debug.callback", "jax.debug.print", "io_callback"),
        *("jax.experimental.io_callback", "jax.experimental.io_callback.io_callback"),
    }
    home = ("jaxface", "ops", "_float64")  # keeps float64 while one function is traced

    def breaks(name: Names) -> Iterable[str]:
        return banned & _attributes(name) if name != home else ()

    assert _offenders(breaks, CORE) == []


def test_only_the_programs_compile():
    compilers = {"jax.jit", "eqx.filter_jit", "jax.pmap", "eqx.filter_pmap", "equinox.filter_jit"}
    homes = {("jaxface", "run", name) for name in ("_programs", "_stages", "_stored")}

    def compiles(name: Names) -> Iterable[str]:
        return compilers & _attributes(name) if name not in homes else ()

    assert _offenders(compiles, {*LEVEL, "reference", ""} - {"training", "comparison"}) == []
    assert any(compilers & _attributes(name) for name in homes)


def test_products_of_matrices_name_their_precision():
    """Recent GPUs multiply in TF32 by default."""
    products = {
        *("jnp.dot", "jnp.matmul", "jnp.einsum", "jnp.tensordot", "jnp.vdot", "jnp.inner"),
        *("lax.dot_general", "lax.conv_general_dilated", "lax.dot", "lax.conv", "jnp.convolve"),
    }

    def vague(name: Names) -> Iterator[str]:
        for node in ast.walk(_parse(MODULES[name])):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in products:
                if "precision" not in {word.arg for word in node.keywords}:
                    yield f"line {node.lineno}, {ast.unparse(node.func)}"

    assert _offenders(vague, CORE) == []


_FACTORISES = ("jaxface", "ops", "_linalg")


def test_factorisations_of_a_library_are_chosen_by_platform():
    """They are fast on GPUs, and on CPUs kept out: their rounding is not OpenFace's."""

    def library(tree: ast.AST) -> set[int]:
        """Lines that use one; `np.linalg` serves on the host."""
        names = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        spelled = ((node.lineno, ast.unparse(node)) for node in names)
        homes = ("jnp.linalg", "lax.linalg", "jax.scipy", "jax.lax.linalg", "jax.numpy.linalg")
        return {line for line, name in spelled if name.startswith(homes)}

    def elsewhere(name: Names) -> Iterator[str]:
        imported = [found for found in _imports(name) if found[0] == "jax" and "linalg" in found]
        yield from (f"imports {_where(found)}" for found in imported)
        lines = library(_parse(MODULES[name]))
        if name == _FACTORISES:
            lines -= set().union(*map(library, _chosen_by_platform(_parse(MODULES[name]))))
        yield from (f"line {line}" for line in sorted(lines))

    assert _offenders(elsewhere, CORE) == []


def _chosen_by_platform(tree: ast.Module) -> Iterator[ast.AST]:
    """Calls that choose by platform, and the functions that they name."""
    chooses = ("platform_dependent", "choose_by_platform")
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(chooses)
    ]
    yield from calls
    named = {n.id for call in calls for n in ast.walk(call) if isinstance(n, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in named:
            yield node


# Words of the design


def test_no_code_asks_whether_a_model_reports_points():
    """A model's settings are its own data.

    Only what computes the reported points looks, and what reads files from before settings were.
    """
    homes = {("jaxface", "fit", "_reported"), ("jaxface", "models", "_upgrade")}

    def asks(name: Names) -> Iterator[str]:
        for node in ast.walk(_parse(MODULES[name])) if name not in homes else ():
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is | ast.IsNot):
                sides = {ast.unparse(side) for side in (node.left, *node.comparators)}
                if "None" in sides and any(s.split(".")[-1] == "reported" for s in sides):
                    yield f"line {node.lineno}, {ast.unparse(node)}"

    assert _offenders(asks) == []


# The suite itself


def _outside_imports(folder: str) -> Iterator[tuple[str, Names]]:
    """File and imported name of every import in `tests/` or `bench/`."""
    for path in sorted((ROOT / folder).glob("*.py")):
        for node in ast.walk(_parse(path)):
            yield from ((path.name, found) for found in _spelled(node, (folder,)))


def test_tests_and_bench_do_not_import_one_another():
    crossing = [
        f"{folder}/{file}: {_where(found)}"
        for folder, other in (("tests", "bench"), ("bench", "tests"))
        for file, found in _outside_imports(folder)
        if found[0] == other
    ]
    assert crossing == []


def test_tests_import_few_private_names():
    private = [
        f"{file}: {_where(found)}"
        for file, found in _outside_imports("tests")
        if found[0] == "jaxface" and any(part.startswith("_") for part in found[1:])
    ]
    assert len(private) <= _FEW_PRIVATE, private
