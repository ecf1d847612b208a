"""What a process needs whatever it does: whole files, memory."""
