"""Checks jaxface's annotations in every process that a typed run starts.

Python imports a module of this name from PYTHONPATH before anything else, and so before jaxface.
The numeric tower of PEP 484 lets an int stand for a float, as type checkers have it.
"""

import jaxtyping

jaxtyping.install_import_hook(
    "jaxface", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)
