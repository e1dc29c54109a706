"""Asking models: requests and answers, customers looked up, several models at once, explanations."""
