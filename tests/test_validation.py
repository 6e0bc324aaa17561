"""Request bodies: decoded exactly, or refused with every fault named."""

from collections import Counter
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from erp_service import errors, validation
from erp_service.decimals import Number, Quantity
from erp_service.errors import Fault


class Part(Struct, forbid_unknown_fields=True):
    sku: Annotated[str, Meta(min_length=1, max_length=5, pattern="^[A-Z]+$", extra={"fault": "must be capitals"})]
    quantity: Quantity
    unit: Annotated[str, Meta(pattern="^[a-z]+$")] = "pcs"


class In(Struct, forbid_unknown_fields=True, tag_field="kind", tag="IN"):
    part: Part
    cost: int | None = None


class Out(Struct, forbid_unknown_fields=True, tag_field="kind", tag="OUT"):
    part: Part
    reason: Literal["sold", "lost"]


class Document(Struct, forbid_unknown_fields=True):
    lines: Annotated[list[In | Out], Meta(max_length=1000)]
    metadata: dict[str, str] = {}
    late: bool = False


def refused(body: bytes | dict[str, Any], kind: Any = Document) -> dict[str | None, str]:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    with pytest.raises(errors.Invalid) as caught:
        validation.decode(kind, raw)
    assert all(fault.parameter is None for fault in caught.value.faults)
    found = {fault.pointer: fault.detail for fault in caught.value.faults}
    assert len(found) == len(caught.value.faults)
    return found


GOOD = {"kind": "IN", "part": {"sku": "A", "quantity": "1"}}


def test_a_good_body_is_taken_as_it_is_meant() -> None:
    document = validation.decode(Document, b'{"lines": [{"kind": "IN", "part": {"sku": "A", "quantity": 0.1}}]}')
    (line,) = document.lines
    assert isinstance(line, In)
    assert line.part.quantity == Quantity("0.1")
    assert (document.metadata, document.late) == ({}, False)


def test_every_fault_is_named_with_its_pointer() -> None:
    body = {
        "lines": [
            {"kind": "IN", "part": {"sku": "", "quantity": "0", "colour": 1}, "cost": "5", "a/b~c": None},
            {"kind": "OUT", "part": {"quantity": True}},
            {"kind": "LOST"},
            {"part": {}},
            7,
            GOOD,
        ],
        "metadata": {"a/b": 1, "c": "d"},
        "late": "yes",
        "extra": {},
    }
    assert set(refused(body)) == {
        "/lines/0/part/sku",
        "/lines/0/part/quantity",
        "/lines/0/part/colour",
        "/lines/0/cost",
        "/lines/0/a~1b~0c",
        "/lines/1/part/sku",
        "/lines/1/part/quantity",
        "/lines/1/reason",
        "/lines/2",
        "/lines/3",
        "/lines/4",
        "/metadata/a~1b",
        "/late",
        "/extra",
    }


def test_faults_are_said_in_words_a_person_can_use() -> None:
    part = {"sku": "a", "quantity": "1e5", "unit": "PCS"}
    found = refused({"lines": [{"kind": "OUT", "part": part, "reason": "stolen", "x": 1}], "late": 1.5})
    assert found["/lines/0/part/sku"] == "must be capitals"
    assert found["/lines/0/part/quantity"] == "is not a plain decimal number such as 12.5"
    assert "regex" in found["/lines/0/part/unit"]
    assert found["/lines/0/reason"] == "is not one of sold, lost"
    assert found["/lines/0/x"] == "is not a field here"
    assert found["/late"] == "Expected `bool`, got `float`"
    assert refused({}) == {"/lines": "is missing"}
    assert not any(" at `" in detail for detail in found.values())


def test_a_body_of_the_wrong_kind_altogether_is_one_fault_at_its_root() -> None:
    for body in (b"[]", b"7", b"null", b'"x"', b"1.5", b"true"):
        assert set(refused(body)) == {""}


def test_too_many_lines_is_one_fault() -> None:
    assert set(refused({"lines": [GOOD] * 1001})) == {"/lines"}


def test_strings_are_not_numbers_and_numbers_are_not_strings() -> None:
    class Plain(Struct):
        count: int
        name: str
        on: bool

    assert set(refused(b'{"count": "5", "name": 5, "on": "true"}', Plain)) == {"/count", "/name", "/on"}
    assert set(refused(b'{"count": 5.0, "name": null, "on": 1}', Plain)) == {"/count", "/name", "/on"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{]",
        b"{'lines': []}",
        b'{"lines": []}}',
        b'{"lines": [],}',
        b'{"lines": NaN}',
        b'{"lines": \xff}',
        b'{"metadata": {"a": "\xff\xfe"}, "lines": []}',
        b'{"metadata": {"a": "\xed\xa0\x80"}, "lines": []}',
        b'{"metadata": {"a": "\\ud800"}, "lines": []}',
        b'{"metadata": {"a": "\\udc00\\ud800"}, "lines": []}',
        b'{"metadata": {"a": "\x01"}, "lines": []}',
        '{"lines": []}'.encode("utf-16"),
        b"\xef\xbb\xbf{",
        b"\x00",
    ],
)
def test_what_is_not_json_in_utf_8_is_malformed(body: bytes) -> None:
    with pytest.raises(errors.Malformed):
        validation.decode(Document, body)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"lines":', b"}"), (b'{"a":', b"}")])
@pytest.mark.parametrize("depth", [100, 1_000, 10_000, 100_000])
@pytest.mark.parametrize("whole", [True, False])
def test_a_body_nested_ten_thousand_deep_is_refused(opening: bytes, closing: bytes, depth: int, whole: bool) -> None:
    with pytest.raises((errors.Malformed, errors.Invalid)):
        validation.decode(Document, opening * depth + (b"1" + closing * depth if whole else b""))


def test_a_nul_is_named_wherever_it_stands() -> None:
    body = b'{"lines": [], "metadata": {"a": "x\\u0000", "b\\u0000": "y"}}'
    assert set(refused(body)) == {"/metadata/a", "/metadata/b\\u0000"}


def test_a_backslash_before_u0000_is_no_nul() -> None:
    document = validation.decode(Document, b'{"lines": [], "metadata": {"a": "\\\\u0000"}}')
    assert document.metadata == {"a": "\\u0000"}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[object]:
    """How often each value of a Quantity was read: what a hostile body costs, whatever else the machine does."""
    counts: Counter[object] = Counter()
    real = Quantity.read

    def counted(value: object) -> Number:
        counts[value] += 1
        return real(value)

    monkeypatch.setattr(Quantity, "read", counted)
    return counts


def test_the_faults_of_a_hostile_body_are_capped_and_nothing_is_read_after_the_last(read: Counter[object]) -> None:
    """Naming every fault of a large body would block the event loop for all."""
    lines = [{"kind": "IN", "part": {"sku": "", "quantity": f"-{n}"}} for n in range(1, 1001)]
    with pytest.raises(errors.Invalid) as caught:
        validation.decode(Document, msgspec.json.encode({"lines": lines}))
    assert len(caught.value.faults) == validation.MOST_FAULTS == 100
    assert caught.value.faults[-1].pointer == "/lines/49/part/quantity"
    assert set(read) == {f"-{n}" for n in range(1, 51)}


@pytest.mark.parametrize("shape", [list, dict])
def test_no_more_than_the_first_parts_of_a_list_or_object_are_looked_at_one_by_one(
    read: Counter[object], shape: type
) -> None:
    """Later parts are decoded with the whole, which is fast, and not again one by one."""
    numbers = [str(n + 1) for n in range(6000)]
    values = [*numbers, "no"]
    body: object = values if shape is list else {f"k{n}": value for n, value in enumerate(values)}
    with pytest.raises(errors.Invalid):
        validation.decode(list[Quantity] if shape is list else dict[str, Quantity], msgspec.json.encode(body))
    again = [n for n in numbers if read[n] > read[numbers[-1]]]
    assert again == numbers[:5000]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["lines", "metadata", "late", "kind", "part", "sku", "quantity", "reason", "a/b"])
            # of a longer name a fault shows only the beginning
            | st.text(max_size=200),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_json_is_taken_or_refused_with_pointers_that_lead_to_the_fault(value: Any) -> None:
    for fault in faults_of(value):
        assert leads_somewhere(value, fault.pointer or "", missing=fault.detail == "is missing")


def faults_of(value: Any) -> tuple[Fault, ...]:
    try:
        validation.decode(Document, msgspec.json.encode(value))
    except errors.Invalid as exc:
        return exc.faults or (Fault("none was named", pointer="/nowhere"),)
    return ()


def leads_somewhere(value: Any, pointer: str, *, missing: bool) -> bool:
    *way, last = [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")]
    for token in way[1:]:
        value = value[int(token)] if isinstance(value, list) else value[token.replace("\\u0000", "\0")]
    if not way:
        return True
    if isinstance(value, list):
        return int(last) < len(value)
    return missing == (last.replace("\\u0000", "\0") not in value)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    with pytest.raises((errors.Malformed, errors.Invalid)):
        validation.decode(Document, body)
