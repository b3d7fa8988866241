"""The example notebook, executed from its first cell to its last.

from tests import ROOT
python -m tests.notebook        # writes docs/example.ipynb again, with what comes out
"""

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests import ROOT

EXAMPLE = ROOT / "docs" / "example.ipynb"


# Before the first cell, where pictures need only be made and not be good: few steps an octave
BRIEFLY = """
from dataclasses import replace
import featlight
check = featlight.Octave.__post_init__
def few(octave):
    object.__setattr__(octave, "steps", min(octave.steps, 3))
    check(octave)
featlight.Octave.__post_init__ = few
object.__setattr__(featlight.NATURAL, "octaves", tuple(map(replace, featlight.NATURAL.octaves)))
del replace, few
"""


def execute(folder: Path, before: str = "") -> NotebookNode:
    """The notebook with what its cells give now.

    Args:
        folder: where it runs, and what it writes lands.
        before: code that runs ahead of its cells.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised something.
    """
    notebook = nbformat.read(EXAMPLE, as_version=4)
    startup = folder / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text(before)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(folder / ".ipython"),  # nobody's own history and start-up files
        "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm's, of widgets that nothing here uses
        "OMP_NUM_THREADS": "1",  # the same bits whatever the number of cores; no fight over them in a test
    }
    # no timing: the cells' metadata would hold dates
    client = NotebookClient(notebook, timeout=300, record_timing=False, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return notebook


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(Path(folder))
    del notebook.metadata["language_info"]  # which Python it was
    nbformat.write(notebook, EXAMPLE)


if __name__ == "__main__":
    main()
