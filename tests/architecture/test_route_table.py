"""The tables of endpoints and of events say what the code declares."""

from tests.architecture.route_table import PAGE, endpoints, page


def test_the_tables_are_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `make routes`"


def test_every_endpoint_is_there_once() -> None:
    every = [str(endpoint) for endpoint in endpoints()]
    assert len(every) == len(set(every)) > 80
