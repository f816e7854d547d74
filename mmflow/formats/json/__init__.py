"""JSON documents: lists of records, records one after the other, records at a path."""
