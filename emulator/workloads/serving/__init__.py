"""The keep-running life cycle: endpoints, their fleets of instances, and the way to them."""
