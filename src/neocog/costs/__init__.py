"""What a network costs, before it is trained: no data, no allocation."""
