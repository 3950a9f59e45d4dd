"""The program as data: operations, graph, simplifier, gradient, plan, printers. Imports no numerical library."""
