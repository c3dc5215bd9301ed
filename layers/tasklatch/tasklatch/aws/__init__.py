"""Adapters, one to a module: they put what the domain decides into the words of an AWS service, and no rule more."""
