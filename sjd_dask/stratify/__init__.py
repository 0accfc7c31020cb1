"""Groups of samples by consensus clustering: found, defended, and none where there are none."""
