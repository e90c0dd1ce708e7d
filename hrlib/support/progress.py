"""Progress bars that a notebook shows like any output: on the error stream JupyterLab would show them red, as errors."""

import sys

import tqdm as bars


class tqdm(bars.tqdm):
    """tqdm's, on the standard output of a notebook and on the error stream of a command."""

    def __init__(self, *arguments, file=None, **options):
        if file is None and "ipykernel" in sys.modules:
            file = sys.stdout
        super().__init__(*arguments, file=file, **options)
