"""The demonstrations of architectures.py: one file a claim of the papers, each a generator of tables and drawings."""
