"""Private APIs of other libraries, one module for each, with the version it was seen in."""
