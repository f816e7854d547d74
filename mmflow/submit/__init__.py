"""Runs elsewhere: a local process, Ray Jobs, Kubernetes."""
