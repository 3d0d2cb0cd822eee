"""The sampler over a few people, which the tests of training share."""

import functools
import tempfile
from pathlib import Path

from jaxface.training import Sampler, load_sampler

# Train, train, validation, held out.
PEOPLE = (0, 106, 8, 4)


@functools.cache
def few_people(training_dir: Path) -> Sampler:
    """Registers `PEOPLE`, once for all tests of a process."""
    with tempfile.TemporaryDirectory() as cache:
        return load_sampler(training_dir, cache, people=PEOPLE)
