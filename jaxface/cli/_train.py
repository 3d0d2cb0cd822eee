"""The commands `jaxface train ...`."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm


def run_train(arguments: argparse.Namespace) -> int:
    """Makes training data, or trains the model or a part of it.

    Args:
        arguments: of the command "train".
    Returns:
        The exit status.
    Raises:
        FileNotFoundError: the training data is incomplete.
        ModelFileError: a part that this one needs has not been trained.
        OSError: a file cannot be written.
    """
    special = {
        "base": _base,
        "data": _data,
        "detector": _detector,
        "action-units": _action_units,
    }
    return special.get(arguments.train_command, _part)(arguments)


def _base(arguments: argparse.Namespace) -> int:
    """Trains what is not up to date, and writes model and report."""
    from ..training import (
        assemble_base,
        base_config,
        open_workplace,
        planned_work,
        store_base,
        train_parts,
        trainers,
        training_report,
    )

    out = Path(arguments.out)
    work = Path(arguments.work) if arguments.work else out.parent / "build" / "train"
    place = open_workplace(arguments.data, work, people=arguments.people)
    config = base_config(seed=arguments.seed, share=arguments.share, people=arguments.people)
    quiet = not sys.stderr.isatty()

    def start(part: str) -> Callable[[str, int], None]:
        total = planned_work(part, config)
        bar = tqdm(total=total, desc=part, disable=quiet, file=sys.stderr)

        def advance(step: str, done: int) -> None:
            bar.set_description(f"{part}: {step}", refresh=False)
            bar.update(done)

        return advance

    trained = train_parts(
        place, config, trainers(config), start=start, kept=lambda part: print(f"{part}: kept")
    )
    print(f"trained: {', '.join(trained) or 'nothing'}")
    report = training_report(place, config, assemble_base(place.out).clnf)
    print(store_base(place, out, report).path)
    return 0


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


def _action_units(arguments: argparse.Namespace) -> int:
    """Trains the heads of the action units and prints their figures."""
    from ..training import (
        action_unit_config,
        assemble_clnf,
        open_workplace,
        planned_series,
        train_action_units,
    )

    place = open_workplace(arguments.data, arguments.out, people=arguments.people)
    config = action_unit_config(seed=arguments.seed, share=arguments.share)
    quiet = not sys.stderr.isatty()
    with tqdm(total=planned_series(config), disable=quiet, file=sys.stderr) as bar:

        def advance(step: str, done: int) -> None:
            bar.set_description(step, refresh=False)
            bar.update(done)

        clnf = assemble_clnf(place.out)
        figures = train_action_units(place.sampler, clnf, place.out, config, advance)
    print(json.dumps(figures, indent=1))
    return 0
