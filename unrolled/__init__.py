"""Recurrent networks, from the equation to the service."""
