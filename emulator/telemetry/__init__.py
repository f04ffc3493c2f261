"""What runs say and what is measured of them."""
