"""Models, named by what goes in and what comes out."""
