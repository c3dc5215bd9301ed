"""DynamoDB's expressions and PartiQL statements, as far as the service uses them, evaluated on an item.

Only the forms that the shipped code renders are supported; anything else is a `ValueError`, never a guess. A
differential test compares the results with an emulator's.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Final

Value = Mapping[str, Any]
Item = Mapping[str, Any]
Names = Mapping[str, str]
Values = Mapping[str, Value]

_TOKEN: Final = re.compile(r"\s*(?:(?P<word>[#:]?[A-Za-z_][A-Za-z0-9_]*)|(?P<sign><>|<=|>=|[=<>(),+\-]))")
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": lambda left, right: bool(left == right),
    "<>": lambda left, right: bool(left != right),
    "<": lambda left, right: bool(left < right),
    "<=": lambda left, right: bool(left <= right),
    ">": lambda left, right: bool(left > right),
    ">=": lambda left, right: bool(left >= right),
}
_CLAUSES: Final = frozenset({"SET", "REMOVE", "ADD", "DELETE"})


@dataclass(frozen=True)
class Bindings:
    """Names and values of an expression's placeholders."""

    names: Names
    values: Values

    def attribute(self, word: str) -> str:
        return self.names[word] if word.startswith("#") else word

    def operand(self, word: str, item: Item) -> Value | None:
        return self.values[word] if word.startswith(":") else item.get(self.attribute(word))


Condition = Callable[[Item, Bindings], bool]
Assignment = Callable[[Item, Bindings], Value]


def _comparable(value: Value) -> tuple[str, Any]:
    (kind, content), *more = value.items()
    if more:
        raise ValueError(f"a value of more than one type: {value}")
    if kind == "N":
        return kind, Decimal(content)
    return kind, content.encode() if kind == "S" else content


def compare(left: Value | None, sign: str, right: Value | None) -> bool:
    """Compare two values as DynamoDB does: a missing value or one of another type fits nothing and differs from all."""
    if left is None or right is None:
        return False
    (left_kind, left_value), (right_kind, right_value) = _comparable(left), _comparable(right)
    if left_kind != right_kind:
        return sign == "<>"
    return _COMPARE[sign](left_value, right_value)


def _number(value: Value | None) -> Decimal:
    if value is None or "N" not in value:
        raise ValueError("an update adds to what is no number")
    return Decimal(value["N"])


def _members(value: Value | None) -> frozenset[str]:
    if value is None or "SS" not in value:
        raise ValueError("what is no set of texts has no members")
    return frozenset(value["SS"])


def _plain(number: Decimal) -> str:
    return format(number.normalize(), "f")


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(self._split(text))
        self._at = 0

    @staticmethod
    def _split(text: str) -> Iterator[str]:
        position = 0
        while position < len(text.rstrip()):
            result = _TOKEN.match(text, position)
            if result is None:
                raise ValueError(f"not understood: {text[position:]!r}")
            yield result["word"] or result["sign"]
            position = result.end()

    @property
    def ahead(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self, *expected: str) -> str:
        token = self.ahead
        if token is None or (expected and token.upper() not in expected):
            raise ValueError(f"expected {expected}, not {token!r}")
        self._at += 1
        return token

    def take_if(self, expected: str) -> bool:
        result = self.ahead is not None and self.ahead.upper() == expected
        self._at += result
        return result

    def ended(self) -> None:
        if self.ahead is not None:
            raise ValueError(f"unexpected {self.ahead!r}")

    def any_of(self) -> Condition:
        terms = [self._all_of()]
        while self.take_if("OR"):
            terms.append(self._all_of())
        return terms[0] if len(terms) == 1 else lambda item, bound: any(term(item, bound) for term in terms)

    def _all_of(self) -> Condition:
        terms = [self._term()]
        while self.take_if("AND"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else lambda item, bound: all(term(item, bound) for term in terms)

    def _term(self) -> Condition:
        if self.take_if("("):
            inner = self.any_of()
            self.take(")")
            return inner
        word = self.take()
        return self._called(word) if self.ahead == "(" else self._compared(word)

    def _called(self, function: str) -> Condition:
        if function == "begins_with":
            name, prefix = self._arguments(2)
            return lambda item, bound: _begins(bound.operand(name, item), bound.operand(prefix, item))
        if function == "size":
            (name,) = self._arguments(1)
            sign, other = self.take(*_COMPARE), self.take()
            return lambda item, bound: compare(
                {"N": str(len(_members(bound.operand(name, item))))}, sign, bound.operand(other, item)
            )
        if function not in ("attribute_exists", "attribute_not_exists"):
            raise ValueError(f"not understood: {function!r}")
        (name,) = self._arguments(1)
        expected = function == "attribute_exists"
        return lambda item, bound: (bound.attribute(name) in item) is expected

    def _compared(self, word: str) -> Condition:
        if self.take_if("BETWEEN"):
            low = self.take()
            self.take("AND")
            high = self.take()
            return lambda item, bound: (
                compare(bound.operand(word, item), ">=", bound.operand(low, item))
                and compare(bound.operand(word, item), "<=", bound.operand(high, item))
            )
        if self.take_if("IN"):
            choices = self._arguments()
            return lambda item, bound: any(
                compare(bound.operand(word, item), "=", bound.operand(choice, item)) for choice in choices
            )
        sign, other = self.take(*_COMPARE), self.take()
        return lambda item, bound: compare(bound.operand(word, item), sign, bound.operand(other, item))

    def _arguments(self, count: int | None = None) -> list[str]:
        self.take("(")
        words = [self.take()]
        while self.take_if(","):
            words.append(self.take())
        self.take(")")
        if count not in (None, len(words)):
            raise ValueError(f"{len(words)} arguments, not {count}")
        return words

    def assignments(self) -> Iterator[tuple[str, Assignment]]:
        while True:
            target = self.take()
            self.take("=")
            yield target, self._assigned()
            if not self.take_if(","):
                return

    def _assigned(self) -> Assignment:
        word = self.take()
        if word == "if_not_exists":
            name, other = self._arguments(2)
            return lambda item, bound: _present(bound.operand(name, item) or bound.operand(other, item))
        if self.ahead in ("+", "-"):
            sign, other = self.take(), self.take()
            factor = 1 if sign == "+" else -1
            return lambda item, bound: {
                "N": _plain(_number(bound.operand(word, item)) + factor * _number(bound.operand(other, item)))
            }
        return lambda item, bound: _present(bound.operand(word, item))

    def listed(self) -> Iterator[str]:
        while True:
            yield self.take()
            if not self.take_if(","):
                return

    def added(self) -> Iterator[tuple[str, str]]:
        while True:
            yield self.take(), self.take()
            if not self.take_if(","):
                return


def _present(value: Value | None) -> Value:
    if value is None:
        raise ValueError("an update takes what is not there")
    return value


def _begins(value: Value | None, prefix: Value | None) -> bool:
    return value is not None and prefix is not None and "S" in value and str(value["S"]).startswith(prefix["S"])


@cache
def condition(text: str) -> Condition:
    """Parse a condition, filter or key condition."""
    parser = _Parser(text)
    parsed = parser.any_of()
    parser.ended()
    return parsed


@dataclass(frozen=True)
class Update:
    """Update expression: the attributes that it sets and removes, those that it adds to, and those it deletes from."""

    sets: tuple[tuple[str, Assignment], ...]
    removes: tuple[str, ...]
    adds: tuple[tuple[str, str], ...]
    deletes: tuple[tuple[str, str], ...]

    def apply(self, item: Item, bound: Bindings) -> dict[str, Value]:
        """Return the item after the update; every right side is read from the item before."""
        after = dict(item)
        for name, assigned in self.sets:
            after[bound.attribute(name)] = assigned(item, bound)
        for name in self.removes:
            after.pop(bound.attribute(name), None)
        for name, value in self.adds:
            attribute = bound.attribute(name)
            after[attribute] = _added(item.get(attribute), bound.values[value])
        for name, value in self.deletes:
            attribute = bound.attribute(name)
            members = _members(item.get(attribute, {"SS": []})) - _members(bound.values[value])
            # A set without members is no value
            after.pop(attribute, None)
            after |= {attribute: {"SS": sorted(members)}} if members else {}
        return after


def _added(before: Value | None, value: Value) -> Value:
    if "SS" in value:
        return {"SS": sorted(_members(value) | (_members(before) if before is not None else frozenset()))}
    return {"N": _plain((_number(before) if before is not None else Decimal(0)) + _number(value))}


@cache
def update(text: str) -> Update:
    """Parse an update expression."""
    parser = _Parser(text)
    sets: list[tuple[str, Assignment]] = []
    removes: list[str] = []
    adds: list[tuple[str, str]] = []
    deletes: list[tuple[str, str]] = []
    while parser.ahead is not None:
        clause = parser.take(*_CLAUSES).upper()
        if clause == "SET":
            sets += parser.assignments()
        elif clause == "REMOVE":
            removes += parser.listed()
        elif clause == "ADD":
            adds += parser.added()
        else:
            deletes += parser.added()
    return Update(tuple(sets), tuple(removes), tuple(adds), tuple(deletes))


_UPDATE_STATEMENT: Final = re.compile(
    r'UPDATE "(?P<table>[^"]+)" (?P<clauses>.+) WHERE (?P<where>.+?)(?P<returning> RETURNING ALL NEW \*)?'
)
_INSERT_STATEMENT: Final = re.compile(r'INSERT INTO "(?P<table>[^"]+)" VALUE \{(?P<fields>.*)\}')
_CLAUSE: Final = re.compile(r'(?P<kind>SET|REMOVE) "(?P<name>[^"]+)"(?: = \?)?')
_TERM: Final = re.compile(r'"(?P<name>[^"]+)" (?P<sign><=|>=|[=<>]) \?')


@dataclass(frozen=True)
class Statement:
    """PartiQL statement, converted to the item operations: an update with its condition, or a put."""

    key: Mapping[str, Value]
    put: Item | None
    update_text: str
    condition_text: str
    names: Names
    values: Values
    returns_new: bool


class _Placeholders:
    """Names and values of a statement, with placeholders in the order of its parameters."""

    def __init__(self, parameters: Iterator[Value]) -> None:
        self._parameters = parameters
        self.names: dict[str, str] = {}
        self.values: dict[str, Value] = {}

    def name(self, attribute: str) -> str:
        self.names[f"#{attribute}"] = attribute
        return f"#{attribute}"

    def _value(self) -> str:
        placeholder = f":p{len(self.values)}"
        self.values[placeholder] = next(self._parameters)
        return placeholder

    def clauses(self, text: str) -> tuple[list[str], list[str]]:
        """Return the set and the remove clauses."""
        sets: list[str] = []
        removes: list[str] = []
        for clause in _CLAUSE.finditer(text):
            target = self.name(clause["name"])
            if clause["kind"] == "REMOVE":
                removes.append(target)
            else:
                sets.append(f"{target} = {self._value()}")
        return sets, removes

    def terms(self, text: str) -> tuple[dict[str, Value], list[str]]:
        """Return the key and the conditions."""
        key: dict[str, Value] = {}
        terms: list[str] = []
        for part in text.split(" AND "):
            term = _TERM.fullmatch(part)
            if term is None:
                raise ValueError(f"not understood: {part!r}")
            if term["name"] in ("pk", "sk"):
                key[term["name"]] = next(self._parameters)
            else:
                terms.append(f"{self.name(term['name'])} {term['sign']} {self._value()}")
        return key, terms


def statement(text: str, parameters: list[Value]) -> Statement:
    """Parse a statement of the forms that the service renders."""
    inserted = _INSERT_STATEMENT.fullmatch(text)
    if inserted is not None:
        fields = [field.partition(":")[0].strip().strip("'") for field in inserted["fields"].split(", ")]
        return Statement({}, dict(zip(fields, parameters, strict=True)), "", "", {}, {}, returns_new=False)
    result = _UPDATE_STATEMENT.fullmatch(text)
    if result is None or _CLAUSE.sub("", result["clauses"]).strip():
        raise ValueError(f"not understood: {text!r}")
    placeholders = _Placeholders(iter(parameters))
    sets, removes = placeholders.clauses(result["clauses"])
    key, terms = placeholders.terms(result["where"])
    updated = ("SET " + ", ".join(sets) if sets else "") + (" REMOVE " + ", ".join(removes) if removes else "")
    condition_text = " AND ".join([f"attribute_exists({placeholders.name('pk')})", *terms])
    names, values = placeholders.names, placeholders.values
    return Statement(key, None, updated, condition_text, names, values, returns_new=result["returning"] is not None)
