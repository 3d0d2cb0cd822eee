"""The command `jaxface train`."""

import argparse
from pathlib import Path


def run_train(arguments: argparse.Namespace) -> int:
    """Trains one part of the default model.

    Args:
        arguments: of the command "train".
    Returns:
        The exit status.
    Raises:
        FileNotFoundError: the training data are not there.
        ModuleNotFoundError: a package that only training needs is missing.
        OSError: a result cannot be stored.
    """
    from .._params import save_part
    from ..training import evaluate_detector, train_detector

    out = Path(arguments.out)
    cache = out / "cache" if arguments.cache is None else Path(arguments.cache)
    detector = train_detector(arguments.data, out, cache=cache, seed=arguments.seed)
    path = out / "base-detector.safetensors"
    save_part(detector, path)
    table = evaluate_detector(detector, arguments.data, cache=cache)
    (out / "base-detector.md").write_text(table)
    print(f"{table}\n{path}")
    return 0
