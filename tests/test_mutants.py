"""Mistakes by syntax tree: all of the list can be made, whatever local names, formatting and comments are."""

import ast
from functools import lru_cache

import pytest

from tests.mutants import MUTANTS
from tests.mutants.__main__ import chosen
from tests.mutants.kinds import ROOT, Mutant, one
from tests.mutants.made import not_made, recorded, row, sources
from tests.support.mutation import DoesNotApply, mutated, names_of, replace, returns, starts_with

SOURCE = '''
"""A module."""
LIMIT = 3


class Rows:
    def cut(self, rows, count):
        """The first rows."""
        kept = rows[:count]  # a comment

        def last(rows):
            return rows[-1]

        return kept if count <= LIMIT else join(kept, last(rows), axis=0, copy=True)
'''
RENAMED = SOURCE.replace("kept", "first").replace("  # a comment", "").replace("axis=0, ", "axis=0,\n ")


def tree(source: str) -> str:
    """Code without formatting and comments."""
    return ast.dump(ast.parse(source))


@pytest.mark.parametrize(
    "place, change, old, new",
    [
        ("m:Rows.cut", replace("__a <= LIMIT", "__a < LIMIT"), "count <= LIMIT", "count < LIMIT"),
        ("m:Rows.cut", replace("join(__a, *__rest, **__named)", "join(*__rest, __a, **__named)"),
         "join(kept, last(rows), ", "join(last(rows), kept, "),
        ("m:Rows.cut", replace("join(*__rest, **__named)", "join(*__rest)"), ", axis=0, copy=True", ""),
        ("m:Rows.cut", replace("__a[:__b]", "__a[__b:]"), "rows[:count]", "rows[count:]"),
        ("m:Rows.cut.last", returns("(__value, __value)"), "return rows[-1]", "return (rows[-1], rows[-1])"),
        ("m:Rows.cut", returns("kept"), " if count <= LIMIT else join(kept, last(rows), axis=0, copy=True)", ""),
        ("m:Rows.cut", starts_with("rows = [*rows]"), "kept = rows[:count]", "rows = [*rows]; kept = rows[:count]"),
        ("m:LIMIT", replace("3", "4"), "LIMIT = 3", "LIMIT = 4"),
    ],
)  # fmt: skip
def test_a_change(place, change, old, new):
    assert SOURCE.count(old) == 1
    assert tree(mutated(SOURCE, place, change)) == tree(SOURCE.replace(old, new))


def test_places_are_counted_in_the_order_of_the_source():
    source = "def f(a, b):\n    return g(a) + g(b) * g(a)\n"
    found = [mutated(source, "m:f", replace("g(__x)", "0", nth=n)) for n in (0, 1, 2)]
    assert [text.splitlines()[1].strip() for text in found] == [
        "return 0 + g(b) * g(a)", "return g(a) + 0 * g(a)", "return g(a) + g(b) * 0",
    ]  # fmt: skip


def test_names_formatting_and_comments_do_not_matter():
    change = replace("join(__a, __b, **__named)", "join(__b, __a, **__named)")
    assert SOURCE != RENAMED
    plain, renamed = (mutated(source, "m:Rows.cut", change) for source in (SOURCE, RENAMED))
    assert tree(plain.replace("kept", "first")) == tree(renamed)


@pytest.mark.parametrize(
    "place, change, why",
    [
        ("m:Rows.cut", replace("__a >= LIMIT", "True"), "`__a >= LIMIT` occurs 0 times"),
        ("m:Rows.cut", replace("rows", "count"), "`rows` occurs 3 times"),
        ("m:Rows.cut", replace("join(__a, __a, **__named)", "__a"), "occurs 0 times"),
        ("m:Rows.cut", replace("join(__a, **__named)", "__a"), "occurs 0 times"),
        ("m:Rows.cut", replace("__a <= LIMIT", "__a <= LIMIT"), "nothing changes"),
        ("m:Rows.drop", returns("None"), "drop is defined 0 times"),
        ("m:Rows", returns("None"), "it returns at 0 places"),
    ],
)
def test_what_is_gone_is_named(place, change, why):
    with pytest.raises(DoesNotApply, match=f"^{place}: .*") as error:
        mutated(SOURCE, place, change)
    assert why in str(error.value)


def test_every_mistake_can_be_made():
    assert not_made() == []


def test_a_mistake_that_cannot_be_made_is_named():
    place = "navit_eqx.masks:same_image"
    gone = one("masks are soft", place, replace("soft(__mask)", "__mask"), "tests/test_x.py::test")
    with pytest.raises(DoesNotApply, match=f"'masks are soft' cannot be made any more: {place}: .*soft"):
        sources(gone)
    with pytest.raises(DoesNotApply, match="cannot be made any more: .*no_such"):
        sources(gone._replace(changes=(("navit_eqx.no_such:f", returns("1")),)))


def test_a_mistake_is_known_by_its_words():
    assert len({mutant.what for mutant in MUTANTS}) == len(MUTANTS)
    assert chosen([]) == list(MUTANTS)
    assert [mutant.what for mutant in chosen(["top 5 is", "top 5 is top 4"])] == ["top 5 is top 4"]
    with pytest.raises(SystemExit, match="no table and no mistake is called 'nothing of the kind'"):
        chosen(["nothing of the kind"])


@lru_cache
def functions_of(file: str) -> dict[str, list[str]]:
    """The functions of a test module, with the markers for which each is left out by default."""
    body = ast.parse((ROOT / file).read_text()).body
    whole = [node.value for node in body if isinstance(node, ast.Assign) and names_of(node) == ["pytestmark"]]
    markers = [f"pytest.mark.{name}" for name in ("slow", "gpu", "multihost", "parity")]
    return {
        node.name: [said for said in map(ast.unparse, [*whole, *node.decorator_list]) if said in markers]
        for node in body
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_the_tests_of_a_mistake_exist(mutant: Mutant):
    """And run without a marker: a test that is left out sees nothing."""
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert functions_of(file).get(name) == [], test


def test_the_page_is_that_of_the_list():
    """Each line of the page has the words and the place of its mistake."""
    mutants = {mutant.what: mutant for mutant in MUTANTS}
    for what, line in recorded().items():
        assert line.startswith(row(mutants[what], "")), line
