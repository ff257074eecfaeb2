"""What a network did with a picture, and what it looks for. Nothing here changes the network: see taps.py."""
