"""Pages of remote files on the local disk."""
