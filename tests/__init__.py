"""The tests: each file mirrors a module of `pipe`, each docstring is the claim that is checked."""
