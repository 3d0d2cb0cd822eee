"""The model, how it is stored and loaded, and the import from OpenFace."""

from ._mapped import DamagedFileError as DamagedFileError
from ._mapped import read_tree as read_tree
from ._mapped import write_tree as write_tree
from ._model import Config as Config
from ._model import Model as Model
from ._model import ModelInfo as ModelInfo
from ._model import complete_config as complete_config
from ._model import default_config as default_config
from ._model import prepare_model as prepare_model
from ._model import strip_model as strip_model
from ._store import InstalledModel as InstalledModel
from ._store import ModelFileError as ModelFileError
from ._store import installed_models as installed_models
from ._store import load_model as load_model
from ._store import model_digest as model_digest
from ._store import models_dir as models_dir
from ._store import read_module as read_module
from ._store import save_model as save_model
from ._store import shipped_dir as shipped_dir
from ._store import write_module as write_module
