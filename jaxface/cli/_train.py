"""The command `jaxface train`."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm


def run_train(arguments: argparse.Namespace) -> int:
    """Trains one part of the default model, or shows the data.

    Args:
        arguments: of the command "train".
    Returns:
        The exit status.
    Raises:
        FileNotFoundError: the training data is incomplete.
        ModuleNotFoundError: a package that only training needs is missing.
        OSError: a file cannot be written.
    """
    {"data": _show_data, "detector": _train_detector}[arguments.part](arguments)
    return 0


def _show_data(arguments: argparse.Namespace) -> None:
    """Registers the portraits and writes sheets of samples."""
    from ..training import load_tools, write_data

    tools = load_tools(arguments.data)
    count = len(tools.portraits)
    count = count if arguments.people is None else min(arguments.people, count)

    def advance(done: int) -> None:
        bar.update(done)

    quiet = not sys.stderr.isatty()
    with tqdm(total=count, desc="portraits", disable=quiet, file=sys.stderr) as bar:
        written = write_data(
            tools,
            arguments.out,
            people=range(count),
            seed=arguments.seed,
            progress=advance,
        )
    for path in written:
        print(path)


def _train_detector(arguments: argparse.Namespace) -> None:
    from .._params import save_part
    from ..training import evaluate_detector, train_detector

    out = Path(arguments.out)
    path = out / "base-detector.safetensors"
    save_part(train_detector(arguments.data, out, seed=arguments.seed), path)
    table = evaluate_detector(path, arguments.data, out)
    path.with_suffix(".md").write_text(table)
    print(f"{table}\n{path}")
