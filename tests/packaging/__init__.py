"""What is built of the checkout, and installed where there is none."""
