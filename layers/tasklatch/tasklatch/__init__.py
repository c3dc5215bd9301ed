"""Tasklatch: a ledger of task outcomes in which a success, once recorded, is final."""
