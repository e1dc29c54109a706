"""What is measured about a customer: the definitions, and the slow exact answer."""
