"""The version of the package: the one place that says it (semantic versioning)."""

__version__ = "0.1.0"
