"""Reports: one page of HTML that shows a result, or figures of many."""

from ._asymmetry import MEASURES as MEASURES
from ._asymmetry import asymmetry as asymmetry
from ._asymmetry import upright_shapes as upright_shapes
from ._clip import Subject as Subject
from ._clip import clip_page as clip_page
from ._cohort import cohort_page as cohort_page
from ._cohort import named as named
from ._events import BLINK as BLINK
from ._events import SMILE as SMILE
from ._events import Event as Event
from ._events import Rule as Rule
from ._events import Span as Span
from ._events import eye_closure as eye_closure
from ._events import find_events as find_events
from ._events import find_spans as find_spans
from ._figures import Named as Named
from ._film import encode_film as encode_film
from ._film import encode_picture as encode_picture
from ._page import Film as Film
from ._plots import check_bokeh as check_bokeh
from ._texts import script_json as script_json
