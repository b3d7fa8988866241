"""How many values a text stands for, against a walk over what it composes to."""

import random

import pytest
import yaml

from featlight.config import yaml as our_yaml
from featlight.config.yaml import check_text


def written_out(node):
    """The nodes of a graph, those with several names counted as often as they are named."""
    match node:
        case yaml.SequenceNode():
            return 1 + sum(map(written_out, node.value))
        case yaml.MappingNode():
            return 1 + sum(written_out(key) + written_out(value) for key, value in node.value)
    return 1


def made_up(chance, names, depth=0):
    """A part of a text, in flow style, with anchors that later parts name."""
    if names and chance.random() < 0.3:
        return f"*{chance.choice(names)} "
    anchor = ""
    if chance.random() < 0.4:
        anchor = f"&a{chance.randrange(10**9)} "
    if depth > 4 or chance.random() < 0.3:
        text = f"{anchor}word"
    elif chance.random() < 0.5:
        text = f"{anchor}[{', '.join(made_up(chance, names, depth + 1) for _ in range(chance.randrange(4)))}]"
    else:
        pairs = (f"key{i}: {made_up(chance, names, depth + 1)}" for i in range(chance.randrange(4)))
        text = f"{anchor}{{{', '.join(pairs)}}}"
    if anchor:
        names.append(anchor.strip()[1:])
    return text


@pytest.mark.parametrize("parser", ["C", "Python"])
def test_aliases_are_written_out(monkeypatch, parser):
    if parser == "Python":
        monkeypatch.setattr(our_yaml, "Parser", yaml.SafeLoader)
    chance, named = random.Random(0), 0
    for _ in range(200):
        text = f"- {made_up(chance, names := [])}\n- {made_up(chance, names)}\n"
        named += "*" in text
        count = written_out(yaml.compose(text, Loader=yaml.SafeLoader))
        check_text(text, count)
        with pytest.raises(ValueError, match="more than"):
            check_text(text, count - 1)
    assert named > 20


def test_an_anchor_that_is_given_again_does_not_hide_that_it_is_inside_of_itself():
    with pytest.raises(ValueError, match="inside of what it stands for"):
        check_text("- &a x\n- &a [*a]\n")
