# Prints tables of all the samples of a setting. Variable: setting. Loaded after stats.awk.

function row(gap, command, name,    k) {
  k = key(setting, gap, command, name)
  if (!count[k]) return
  printf "  %-9s %8.2f %8.2f %8.2f", name, median(k) / 1000, percentile(k, 0) / 1000, percentile(k, 0.95) / 1000
  printf "   %-17s %-17s %-18s", ratio(k, beside(setting, gap, command, "crun")),
    ratio(k, beside(setting, gap, command, "runc")), ratio(k, least(setting, gap, command))
  printf " %7.2f %6d %5d\n", percentile(k, 0.5, "cpu") / 1000, percentile(k, 0.5, "faults"), count[k]
}

function table(gap, command,    i) {
  printf "\n%s, %s, ms\n", title(command), (gap > 0 ? gap " ms idle before each" : "back to back")
  printf "  %-9s %8s %8s %8s   %-17s %-17s %-18s %7s %6s %5s\n", "", "p50", "min", "p95", "x crun", "x runc",
    least_name(command) ? "x " least_name(command) : "", "cpu", "faults", "n"
  for (i = 1; i <= names; i++) row(gap, command, name[i])
  if (command == "run") row(gap, command, "floor")
  if (command == "state") row(gap, "nothing", "nothing")
}

function wide(word) { return "%" (length(word) > 6 ? length(word) : 6) "s" }

function costs(    i, j, n, what) {
  n = split("run|run-seccomp|create|start|delete|state|kill|exec", what, "|")
  printf "\nRSS and size in MB, lines of strace -f\n  %-9s %6s %6s %10s ", "", "RSS", "size", "+libraries"
  for (j = 1; j <= n; j++) printf " " wide(what[j]), what[j]
  print ""
  for (i = 1; i <= names; i++) {
    if (!((setting, "size", name[i]) in cost)) continue
    printf "  %-9s %6s %6s %10s ", name[i], cost[setting, "rss", name[i]], cost[setting, "size", name[i]],
      cost[setting, "libraries", name[i]]
    for (j = 1; j <= n; j++) printf " " wide(what[j]), cost[setting, "calls " what[j], name[i]]
    print ""
  }
}

END {
  for (g = 0; g <= 50; g += 50) {
    n = ordered(setting, g, list)
    for (c = 1; c <= n; c++) table(g, list[c])
  }
  names = split(runtimes " floor", name, " ")
  costs()
}
