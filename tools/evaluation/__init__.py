"""Parts of `tools/eval`: clips with truth, the DAVIS measures, the run, the tables and the contact sheets."""
