"""What `scripts/write-reference` writes: docs/settings.md and docs/cli.md, from the tables that the program reads."""
