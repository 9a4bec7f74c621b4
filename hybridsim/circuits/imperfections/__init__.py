"""What a real device does otherwise than an ideal one, a file each; ``device.py``: their sizes."""
