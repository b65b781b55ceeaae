# Prints which commands failed. Loaded after stats.awk.
END {
  if (failures) print "\n== left out"
  for (i = 1; i <= failures; i++) print failure[i]
}
