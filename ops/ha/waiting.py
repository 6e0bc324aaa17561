"""Only the first node makes a new cluster."""

import time
from collections.abc import Callable

from patroni.dcs import AbstractDCS
from patroni.exceptions import DCSError


def until_there_is_a_cluster(dcs: AbstractDCS, say: Callable[[str], None]) -> None:
    """Returns when the first node has made, or taken over, the data that this one then copies.

    Patroni would let any node make an empty cluster: beside the data that the first is to take over."""
    say("waiting for the first node to have made the cluster")
    while True:
        try:
            if dcs.get_cluster().initialize:
                return
        except DCSError as exc:
            say(f"etcd does not answer: {exc}")
        time.sleep(1)
