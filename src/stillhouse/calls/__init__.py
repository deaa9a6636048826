"""Asking models: requests and replies as data, the call cache, pacing, retries, budget, credentials and providers."""
