"""What of a case leaves the program: one file per format, all read a Case."""
