"""Fuzzer of whole readers: damaged files are read by mmflow's public API in a process that is watched."""
