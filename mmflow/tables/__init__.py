"""Tables of lakehouses: folders of data files, and a log that says which of them a version holds."""
