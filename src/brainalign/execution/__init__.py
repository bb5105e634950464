"""Runs, sweeps and tables: what the commands of the program do."""
