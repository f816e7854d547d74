"""Schemas: detection, sampling, inference, Arrow types, Hive partitions."""
