"""The machine: files, folders, engines, processes, the Hub."""
