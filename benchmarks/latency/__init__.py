"""How long an answer takes: see __main__.py."""
