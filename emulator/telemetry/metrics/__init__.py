"""Measured values over time, as CloudWatch keeps them."""
