"""Training of the default model: data synthesis from portraits and a morphable head."""

from ._camera import View as View
from ._contact_sheet import contact_sheet as contact_sheet
from ._crowd import Scene as Scene
from ._crowd import SceneConfig as SceneConfig
from ._crowd import sample_scene as sample_scene
from ._degrade import degrade as degrade
from ._degrade import occlude as occlude
from ._head_model import HeadModel as HeadModel
from ._head_model import load_head_model as load_head_model
from ._portraits import Portraits as Portraits
from ._portraits import load_portraits as load_portraits
from ._portraits import split_of as split_of
from ._registration import Registered as Registered
from ._registration import Tools as Tools
from ._registration import load_tools as load_tools
from ._registration import register_all as register_all
from ._sample import MIRRORED as MIRRORED
from ._sample import Sample as Sample
from ._sample import mirrored as mirrored
from ._samples import SampleConfig as SampleConfig
from ._samples import Sampler as Sampler
from ._samples import load_sampler as load_sampler
from ._samples import sample_head as sample_head
from ._samples import sample_negative as sample_negative
from ._samples import sample_portrait as sample_portrait
from ._scenes import random_background as random_background
