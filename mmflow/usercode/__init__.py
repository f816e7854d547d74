"""Code of the user: ownership of modules, import of a job's folder, pickling of functions, reachable modules."""
