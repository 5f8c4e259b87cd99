"""What only a GPU can show. The same code runs on the CPU at tiny sizes, so that it is known to work when one is there."""
