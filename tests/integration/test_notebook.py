"""The example notebook runs, and what it was committed with is what it gives."""

import re
from pathlib import Path

import nbformat
import pytest

from tests import notebook

COMMITTED = nbformat.read(notebook.EXAMPLE, as_version=4)
PICTURE = re.compile(r'<figure[^>]*><img alt="efficientnet_lite0 blocks\.4\.0" [^>]*src="data:image/jpeg;base64,')


def code(of):
    return [cell for cell in of.cells if cell.cell_type == "code"]


def shape(of):
    """What each cell shows, as a reader would name it; not its values, nor whether a slow machine shows progress."""
    return [[sorted(output.data) for output in cell.outputs if "data" in output] for cell in code(of)]


@pytest.mark.full
def test_it_runs_and_gives_what_it_was_committed_with(tmp_path):
    """Where only the shape differs, `python -m tests.notebook` writes it again."""
    executed = notebook.execute(tmp_path, notebook.BRIEFLY)
    cells = code(executed)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [cell.execution_count for cell in code(COMMITTED)] == [cell.execution_count for cell in cells]
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    shown = [output.data for output in outputs if "data" in output]
    assert any(PICTURE.match(data.get("text/html", "")) for data in shown)
    assert "(True, True)" in [data.get("text/plain") for data in shown]  # a run goes on
    assert shape(COMMITTED) == shape(executed)


def test_what_is_committed_is_small_and_says_nothing_of_where_it_was_made():
    text = notebook.EXAMPLE.read_text()
    assert len(text) < 1_500_000
    assert COMMITTED.metadata.keys() == {"kernelspec"}
    for cell in code(COMMITTED):
        assert cell.metadata == {}
        assert not [output for output in cell.outputs if output.get("name") == "stderr"]
        said = str([output.get("text", output.get("data", {}).get("text/plain")) for output in cell.outputs])
        assert not re.search(r"tiles/s|0x[0-9a-f]{6}|\d{4}-\d\d-\d\d", said)
        assert str(Path.home()) not in said
        assert "/tmp/" not in said
