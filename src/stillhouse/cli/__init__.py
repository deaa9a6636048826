"""The command line: a table of commands, each in a module of its own that is imported when it is asked for."""
