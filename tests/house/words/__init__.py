"""The words of the console for what the servers say was wrong."""
