"""Images: which one a request means, and how the project's own are built."""
