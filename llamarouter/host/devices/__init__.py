"""What there is to put models on, and how much of it is free: the kernel, drivers and engines are asked."""
