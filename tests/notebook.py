"""Execute the example notebook.

python -m tests.notebook        # writes docs/example.ipynb again, with new outputs
"""

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests import ROOT

EXAMPLE = ROOT / "docs" / "example.ipynb"


# Code before the first cell that makes tests fast: few steps in each octave
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
    """Execute the notebook and return it with its outputs.

    Args:
        folder: working directory.
        before: code that runs before the first cell.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an error.
    """
    notebook = nbformat.read(EXAMPLE, as_version=4)
    startup = folder / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text(before)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(folder / ".ipython"),  # ignore the user's history and start-up files
        "PYTHONWARNINGS": "ignore:IProgress not found",  # from tqdm, about widgets that are not used here
        "OMP_NUM_THREADS": "1",  # the same bits on any number of cores
    }
    # timing would write dates into the cells' metadata
    client = NotebookClient(notebook, timeout=300, record_timing=False, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return notebook


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(Path(folder))
    del notebook.metadata["language_info"]  # the version of Python
    nbformat.write(notebook, EXAMPLE)


if __name__ == "__main__":
    main()
