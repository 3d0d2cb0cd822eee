"""Image sampling with OpenCV's 1/32-pixel fixed-point coordinates (specification 02, C.3)."""
