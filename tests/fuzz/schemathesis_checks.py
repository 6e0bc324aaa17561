"""A check of our own for schemathesis: what the document allows is accepted, or refused by a rule it cannot say.

It stands for the stock check `positive_data_acceptance`, which knows no rules beyond JSON Schema, and which complains
that `1428.0` is refused for an integer: for JSON Schema it is one, for us numbers are read as they are written."""

import re
from typing import Any

import schemathesis

RULES = re.compile(
    r"is read-only|is the unit of nothing|is not an encoding|is empty: send"
    r"|is not a cursor of this list|must be a time with its zone"
    r"|give [\w, ]+ or \w+"
    r"|is not (the id|the sku|the code|a sku|a code|your password|one of)"
    r"|names? no|no such|there is no|unknown"
    r"|has an? [^(]*character|has (a blank other|half of|two blanks|no visible)|(begins|ends) with a blank"
    r"|is this location itself"
    r"|must not contain NUL|must not be zero|must be greater than 0|is not a plain decimal number"
    r"|more than \d+ decimals|has \d+ names"
    r"|must not be after `to`|must be at most \d+ here|is not a value of this filter|stands here twice"
    r"|must be another location|is this location itself, or a part of it"
    r"|must lie between 1900 and 5 minutes from now"
    r"|has a brace|must not contain|must not begin|the name of a device|makes a name of"
    r"|is for one dataset|is for the format csv|must be none( or \w+)* for"
    r"|must hold no quote|must not hold the delimiter|would be taken for a formula"
    r"|is not a time to run|is not the name of an IANA"
    r"|must not be (before the year|more than) \d+|must be before `to`"
    r"|is the name of another pack|is the item's own unit"
    r"|is missing, and the item is new|is that of|is given to another item|says which item the line is"
    r"|anybody tries|made of the e-mail"
    r"|must lie in the future, and not after|must be a network in CIDR notation|has bits beyond its prefix"
    r"|must be written as a network of IPv4"
    r"|must be https://|must begin with https|must be ASCII|must have (no fragment|the port)|must not hold a user"
    r"|has a host|is not a public address"
    r"|Expected `int( \| null)?`, got `float`"
)


REPEATED = ("examples", "coverage")
"""The phases whose requests are the same in each run. What others generate follows from earlier answers, so a rule that
is not listed above would be met in one run of many."""


@schemathesis.check
def refused_only_by_a_rule(_context: Any, response: Any, case: Any) -> None:
    if response.status_code not in (400, 422) or not case.meta.generation.mode.is_positive:
        return
    if case.meta.phase.name not in REPEATED:
        return
    problem = response.json()
    if problem["type"] != "/problems/invalid":
        return  # a problem with a slug of its own states the rule
    unexplained = [
        fault for fault in problem.get("errors", [{"detail": "nothing named"}]) if not RULES.search(fault["detail"])
    ]
    assert not unexplained, f"the document allows this, the service does not: {unexplained}"
