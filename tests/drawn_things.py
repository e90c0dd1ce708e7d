"""Things that are no hand, as data/recognise draws them: what a folder may hold by mistake."""

import sys

from hrlib.support.paths import DATA

sys.path.append(str(DATA / "recognise"))
from things import CAMERA, SIZE, THINGS, film, limb, wall  # noqa: F401
