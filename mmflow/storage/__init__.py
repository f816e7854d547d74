"""Storage in general: object stores, URLs, globs, and errors of the operating system."""
