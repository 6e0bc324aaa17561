"""`python -m erp_service` is the erp command."""

from erp_service.cli import main

main()
