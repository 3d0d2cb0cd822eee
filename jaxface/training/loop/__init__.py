"""What all trainings share: the loop, files, curves, and shares of the usual size."""

from ._checkpoint import digest as digest
from ._checkpoint import fingerprint as fingerprint
from ._checkpoint import load_state as load_state
from ._checkpoint import replacing as replacing
from ._checkpoint import save_state as save_state
from ._checkpoint import write_arrays as write_arrays
from ._curves import draw_curves as draw_curves
from ._curves import draw_losses as draw_losses
from ._loop import Fitted as Fitted
from ._loop import Recipe as Recipe
from ._loop import fit as fit
from ._share import share_of as share_of
