"""Half an hour of clients, kills, reloads and changes of keys against a whole router, and what it has left behind."""
