"""What only a GPU can show. The same code runs on the CPU at tiny sizes, as a rehearsal."""
