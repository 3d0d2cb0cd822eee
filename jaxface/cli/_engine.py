"""The analysis behind the command line: one model, loaded once, for all inputs."""

from ._run import Options, Process


def load_process(options: Options) -> Process:
    """Loads the model and prepares the analysis of frames.

    Args:
        options: model, faces and settings; the file options are not looked at.
    Returns:
        What `run_job` calls for every input.
    Raises:
        ModelFileError: the model is not installed or damaged.
    """
    from .._params import load_model

    model = load_model(options.model)
    raise NotImplementedError(f"model {model.info.name}: the video pipeline is not built yet")
