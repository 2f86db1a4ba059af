"""The error trees in the docstrings are the trees in the code."""

import re

import pytest
from pyrsyncbackup_agent import errors as agent
from pyrsyncbackup_collector import errors as collector

from tests.support import source

LINE = re.compile(r"^(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)")


def drawn(docstring):
    """(class, its parent) of each line of the tree; four columns are one step."""
    above, pairs = {}, set()
    for line in docstring.splitlines():
        match = LINE.match(line)
        if match and len(match["indent"]) % 4 == 0 and (match["indent"] or not above):
            depth = len(match["indent"]) // 4
            above[depth] = match["name"]
            pairs.add((match["name"], above.get(depth - 1)))
    return pairs


def descendants(cls):
    for child in cls.__subclasses__():
        yield child.__name__, cls.__name__
        yield from descendants(child)


@pytest.mark.parametrize(("module", "root"), [(collector, collector.BackupError), (agent, agent.AgentError)])
def test_the_tree_that_is_drawn_is_the_tree_that_there_is(module, root):
    tree = module.__doc__.partition("\n\n")[2]
    assert drawn(tree) == {(root.__name__, None), *descendants(root)}


def test_the_exit_codes_and_retries_in_the_drawing_are_those_of_the_classes():
    for line in collector.__doc__.partition("\n\n")[2].splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        cls = getattr(collector, match["name"])
        code = re.match(r"\s+(?:exit )?(\d+)\b", line[match.end() :])
        if code:
            assert cls.exit_code == int(code[1]), line
        if "not retryable" in line:
            assert not cls.retryable, line
        elif "retryable" in line:
            assert cls.retryable, line


def test_every_exception_of_ours_has_its_place_in_a_tree_or_stays_inside_its_module():
    """Errors are made in `errors`; another class that is raised begins with an underscore, or is one of theirs."""
    known = {name for name, _ in (*descendants(collector.BackupError), *descendants(agent.AgentError))}
    stray = {
        f"{name}.{node.name}"
        for name, module in source.modules().items()
        if not name.endswith(".errors")
        for node in source.classes(module)
        if any(base in {"Exception", "BaseException"} or base in known for base in source.bases(node))
        and not node.name.startswith("_")
    }
    assert stray == set()
