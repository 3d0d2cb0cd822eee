"""The commands `jaxface train ...`."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from tqdm import tqdm


def run_train(arguments: argparse.Namespace) -> int:
    """Makes training data, or trains a part of the model.

    Args:
        arguments: of the command "train".
    Returns:
        The exit status.
    Raises:
        FileNotFoundError: the training data is incomplete.
        ModelFileError: a part that this one needs has not been trained.
        OSError: a file cannot be written.
    """
    special = {"data": _data, "detector": _detector}
    return special.get(arguments.train_command, _part)(arguments)


def _data(arguments: argparse.Namespace) -> int:
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
    return 0


def _detector(arguments: argparse.Namespace) -> int:
    """Trains the face detector and prints its figures."""
    from ..training import DetectorRecipe, evaluate_detector, train_detector

    out = Path(arguments.out)
    recipe = DetectorRecipe()
    if arguments.people is not None:
        recipe = dataclasses.replace(recipe, people=arguments.people)
    path = train_detector(arguments.data, out, recipe=recipe, seed=arguments.seed)
    table = evaluate_detector(path, arguments.data, out)
    (out / "detector.md").write_text(table)
    print(f"{table}\n{path}")
    return 0


def _part(arguments: argparse.Namespace) -> int:
    """Trains one part of the landmark model and prints its figures."""
    from ..training import MAKERS, landmark_config, open_workplace, planned_steps

    place = open_workplace(arguments.data, arguments.out, people=arguments.people)
    config = landmark_config(seed=arguments.seed, share=arguments.share)
    steps = planned_steps(arguments.train_command, config)
    quiet = not sys.stderr.isatty()
    with tqdm(total=sum(steps.values()), disable=quiet, file=sys.stderr) as bar:

        def advance(step: str, done: int) -> None:
            bar.set_description(step, refresh=False)
            bar.update(done)

        figures = MAKERS[arguments.train_command](place, config, advance)
    print(json.dumps(figures, indent=1))
    return 0
