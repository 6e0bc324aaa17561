"""Who signs in."""

EMAIL, PASSWORD = "owner@example.com", "a long enough phrase for a browser"
