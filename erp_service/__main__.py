"""`python -m erp_service` runs the `erp` command."""

from erp_service.cli import main

main()
