"""Downloaded objects kept between workloads."""
