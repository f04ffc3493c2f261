"""The endpoint: bytes -> validated request -> operation -> response."""
