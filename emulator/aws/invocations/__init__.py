"""The runtime of endpoints: requests go to instances, and their answers back, as they come."""
