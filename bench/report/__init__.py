"""What is made from the records of a run: tables and figures."""
