"""What `lr doctor` looks at, a file for each part of the machine. Nothing here changes anything."""
