"""Decides. Pure: no sockets, files, processes, clocks or asyncio; data in, data out."""
