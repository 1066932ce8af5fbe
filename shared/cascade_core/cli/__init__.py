"""The command line: ``cascade-routing``."""
