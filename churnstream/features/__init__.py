"""What is measured about a customer: the definitions, their windows, and the slow exact answer."""
