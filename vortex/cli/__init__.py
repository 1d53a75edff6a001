"""The command line: a file for each subject; ``main`` parses, runs, and turns errors into an exit status."""
