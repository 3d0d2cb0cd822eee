"""The command `jaxface train data`."""

import argparse
import sys

from tqdm import tqdm


def run_train(arguments: argparse.Namespace) -> int:
    """Registers the portraits and writes sheets of samples.

    Args:
        arguments: of the command "train".
    Returns:
        The exit status.
    Raises:
        FileNotFoundError: the training data is incomplete.
        OSError: a file cannot be written.
    """
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
