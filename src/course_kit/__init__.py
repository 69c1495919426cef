"""What a maintainer of the course runs: execute and check notebooks, train the pocket model."""
