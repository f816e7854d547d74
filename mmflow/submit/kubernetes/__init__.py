"""Kubernetes: manifests from settings (pure functions), the main program of the driver's pod, and the backend that
uses the API.
"""
