"""Kubernetes: manifests from settings (pure), what runs in the driver's pod, and runs through the API (a backend)."""
