"""The command line: `main` has the commands, each room's in a file; nothing heavy is imported before one runs."""
