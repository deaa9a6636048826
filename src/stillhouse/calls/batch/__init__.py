"""Batch jobs of providers: submit, leave, come back, collect; at half the price."""
