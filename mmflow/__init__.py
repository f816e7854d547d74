"""mmflow: columnar jobs over files too large to load."""
