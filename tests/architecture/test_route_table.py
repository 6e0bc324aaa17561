"""The README's table of endpoints says what the routes declare."""

from tests.architecture.route_table import README, endpoints, written


def test_the_table_in_the_readme_is_up_to_date() -> None:
    assert README.read_text() == written(README.read_text()), "run `make routes`"


def test_every_endpoint_is_there_once() -> None:
    every = [str(endpoint) for endpoint in endpoints()]
    assert len(every) == len(set(every)) > 80
