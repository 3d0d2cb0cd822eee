"""The commands `jaxface models import` and `jaxface models list`."""

import argparse


def run_models(arguments: argparse.Namespace) -> int:
    """Imports models, or lists the installed ones.

    Args:
        arguments: of the command "models".
    Returns:
        The exit status.
    Raises:
        ModelFileError: a model file is missing, damaged or not the known one.
        OSError: a model cannot be stored.
    """
    if arguments.models_command == "import":
        from ..models.openface import import_models

        models = import_models(
            arguments.directory, cen_dir=arguments.cen, allow_modified=arguments.allow_modified
        )
    else:
        from ..models import installed_models

        models = installed_models()
    for model in models:
        note = " (comes with jaxface)" if model.shipped else ""
        if model.modified:
            note = f" (modified files: {', '.join(model.modified)})"
        print(f"{model.name}{note}: {model.path}\n    licence: {model.licence}")
    if not models:
        print("no model is installed; run: jaxface models import DIR")
    return 0
